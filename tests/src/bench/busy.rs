//! Whether an owner is taken for dead while every core of its host has more to do than it can.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;

use super::{Limit, Row};
use crate::{agent::Mode, asker::Asker, cluster::Cluster, lab::Lab};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 240));
const EVERY: Duration = Duration::from_millis(5);
/// As long as one asker can tell its requests apart.
const LASTS: Duration = Duration::from_secs(120);
/// Busy threads for each core.
const THREADS: usize = 2;

/// Measures all rows.
pub(super) fn run() -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let cluster = Cluster::started(&lab, 3, Mode::Native, &[&[VIP]])?;
    let owner = cluster.owner(VIP)?;
    let asker = Asker::start(&cluster.client, VIP, EVERY)?;
    let done = AtomicBool::new(false);
    let cores = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        for _ in 0..THREADS * cores {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        thread::sleep(LASTS);
        done.store(true, Ordering::Relaxed);
    });
    let epoch = cluster.nodes[owner].explain(VIP)?.epoch;
    let asked = asker.stop()?;
    let row =
        |case: &str, value, unit| Row::new(format!("{} s: {case}", LASTS.as_secs()), value, unit);
    Ok(vec![
        row(
            "owners that followed the first",
            (epoch - 1) as f64,
            "owners",
        )
        .within(Limit::AtMost(0.0)),
        row("requests", asked.0.len() as f64, "requests"),
        row(
            "requests without an answer",
            asked.unanswered().len() as f64,
            "requests",
        ),
    ])
}
