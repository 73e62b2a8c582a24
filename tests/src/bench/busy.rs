//! Whether an owner is declared dead while every core of its host is overloaded.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::Result;

use super::{Limit, Row};
use crate::{agent::Mode, asker::Asker, cluster::Cluster, lab::Lab, load::keep_busy};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 240));
const EVERY: Duration = Duration::from_millis(5);
/// As long as one asker can tell its requests apart.
const LASTS: Duration = Duration::from_secs(120);

/// Measures all rows.
pub(super) fn run() -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let cluster = Cluster::started(&lab, 3, Mode::Native, &[&[VIP]])?;
    let owner = cluster.owner(VIP)?;
    let epoch = || anyhow::Ok(cluster.nodes[owner].explain(VIP)?.epoch);
    let before = epoch()?;
    let asker = Asker::start(&cluster.client, VIP, EVERY)?;
    keep_busy(LASTS)?;
    let followed = epoch()? - before;
    let asked = asker.stop()?;
    let row =
        |case: &str, value, unit| Row::new(format!("{} s: {case}", LASTS.as_secs()), value, unit);
    Ok(vec![
        row("owners that followed the first", followed as f64, "owners").within(Limit::AtMost(0.0)),
        row("requests", asked.0.len() as f64, "requests"),
        row(
            "requests without an answer",
            asked.unanswered().len() as f64,
            "requests",
        ),
    ])
}
