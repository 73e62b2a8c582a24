//! Benchmarks: what is measured, against what, and the resulting table and JSON.
//!
//! A group is a function that returns [`Row`]s; [`GROUPS`] names them all.

mod busy;
mod failover;
mod frame;
mod mass;
mod report;
mod scale;
mod soak;
mod stand;
mod usage;
mod wire;

pub use report::{Limit, Report, Row, Section};

use std::time::Duration;

use anyhow::Result;

/// A kind of benchmark.
pub struct Group {
    /// Its name in `--group`.
    pub name: &'static str,
    /// What its rows measure.
    pub title: &'static str,
    /// Whether it is skipped if no group is named: it takes long, or needs more.
    pub on_request: bool,
    /// Measures all its rows.
    pub run: fn(&Settings) -> Result<Vec<Row>>,
}

/// The user's options.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long the group `busy` runs.
    pub busy: Duration,
    /// How long the group `soak` runs.
    pub soak: Duration,
    /// How many Services the group `scale` has.
    pub services: usize,
}

/// All groups, in the order in which they are run.
pub const GROUPS: &[Group] = &[
    Group {
        name: "frame",
        title: "nanoseconds per frame, in a test run of the loaded program",
        on_request: false,
        run: |_| frame::run(),
    },
    Group {
        name: "wire",
        title: "answers over a virtual cable, from one client",
        on_request: false,
        run: |_| wire::run(),
    },
    Group {
        name: "failover",
        title: "milliseconds without an answer when the owner of a VIP fails, in a lab of namespaces",
        on_request: false,
        run: |_| failover::run(),
    },
    Group {
        name: "busy",
        title: "three nodes on one machine, with twice as many busy threads as cores",
        on_request: false,
        run: |settings| busy::run(settings.busy),
    },
    Group {
        name: "mass",
        title: "10,000 VIPs of one of three nodes that is cut off, in a lab of namespaces",
        on_request: false,
        run: |_| mass::run(),
    },
    Group {
        name: "scale",
        title: "Services on a real API server with 200 nodes, three of them with agents",
        on_request: true,
        run: |settings| scale::run(settings.services),
    },
    Group {
        name: "soak",
        title: "four nodes under load, while agents, links and VIPs come and go",
        on_request: true,
        run: |settings| soak::run(settings.soak),
    },
];

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The quantile: the value that this share does not exceed.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}
