//! Whether an owner is declared dead while every core of its host is overloaded.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::Result;

use super::{Limit, Row};
use crate::{
    agent::{Mode, Node},
    asker::Asker,
    cluster::Cluster,
    lab::Lab,
    load::keep_busy,
};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 240));
const EVERY: Duration = Duration::from_millis(5);
/// As long as one asker can tell its requests apart.
const ROUND: Duration = Duration::from_secs(120);

/// Measures all rows.
pub(super) fn run(span: Duration) -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let mut cluster = Cluster::started(&lab, 3, Mode::Native, &[&[VIP]])?;
    let owner = cluster.owner(VIP)?;
    let epoch = || anyhow::Ok(cluster.nodes[owner].explain(VIP)?.epoch);
    let before = epoch()?;
    let (mut requests, mut unanswered, mut doubled) = (0, 0, 0);
    let mut left = span;
    while !left.is_zero() {
        let round = left.min(ROUND);
        let asker = Asker::start(&cluster.client, VIP, EVERY)?;
        keep_busy(round)?;
        let (asked, seconds) = asker.stop_and_count()?;
        requests += asked.0.len();
        unanswered += asked.unanswered().len();
        doubled += seconds.len();
        left -= round;
    }
    let followed = epoch()? - before;
    // Why an owner was followed.
    for line in cluster.nodes.iter_mut().flat_map(Node::warnings) {
        eprintln!("{line}");
    }
    let row =
        |case: &str, value, unit| Row::new(format!("{} s: {case}", span.as_secs()), value, unit);
    let none = Limit::AtMost(0.0);
    Ok(vec![
        row("owners that followed the first", followed as f64, "owners").within(none.clone()),
        row("requests", requests as f64, "requests"),
        row("requests without an answer", unanswered as f64, "requests"),
        row("requests answered twice", doubled as f64, "requests").within(none),
    ])
}
