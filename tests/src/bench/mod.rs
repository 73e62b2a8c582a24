//! Benchmarks: what is measured, against what, and the table and JSON that come of it.
//!
//! A group is a function that returns [`Row`]s; [`GROUPS`] names them all.

mod busy;
mod failover;
mod frame;
mod report;
mod stand;
mod wire;

pub use report::{Limit, Report, Row, Section};

use anyhow::Result;

/// A kind of benchmark.
pub struct Group {
    /// What `--group` calls it.
    pub name: &'static str,
    /// What its rows are about.
    pub title: &'static str,
    /// Measures all its rows.
    pub run: fn() -> Result<Vec<Row>>,
}

/// All groups, in the order in which they are run.
pub const GROUPS: &[Group] = &[
    Group {
        name: "frame",
        title: "nanoseconds per frame, in a test run of the loaded program",
        run: frame::run,
    },
    Group {
        name: "wire",
        title: "answers over a virtual cable, from one client",
        run: wire::run,
    },
    Group {
        name: "failover",
        title: "milliseconds without an answer when the owner of a VIP fails, in a lab of namespaces",
        run: failover::run,
    },
    Group {
        name: "busy",
        title: "three nodes on one machine, with twice as many busy threads as cores",
        run: busy::run,
    },
];

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
