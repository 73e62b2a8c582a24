//! Clients send requests while agents, links and VIPs come and go, for an hour or for `--soak`:
//! which requests stay unanswered or are answered twice, and which resources leak.

mod client;
mod trouble;

use std::{
    net::{IpAddr, Ipv4Addr},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{Limit, Row, usage::Usage};
use crate::{agent::Mode, cluster::Cluster, lab::Lab};
use client::{Anomaly, Client};
use trouble::{Trouble, Verdict};

/// The nodes; the first two keep one agent from beginning to end.
const NODES: u8 = 4;
const LASTING_AGENTS: usize = 2;
/// VIPs that stay, and VIPs that come and go.
const LASTING: u8 = 16;
const PASSING: u8 = 8;
/// The warm-up, in time and memory.
const WARM: Duration = Duration::from_secs(15);
/// The last trouble is over by then.
const CALM: Duration = Duration::from_secs(10);

/// Measures all rows.
pub(super) fn run(span: Duration) -> Result<Vec<Row>> {
    ensure!(
        span >= Duration::from_secs(60),
        "a soak takes a minute at least: say --soak 1m, or more"
    );
    let begun = Instant::now();
    let lab = Lab::new()?;
    let lasting: Vec<[IpAddr; 1]> = (0..LASTING).map(|n| [vip(n).into()]).collect();
    let services: Vec<&[IpAddr]> = lasting.iter().map(|it| &it[..]).collect();
    let mut cluster = Cluster::started(&lab, NODES, Mode::Native, &services)?;
    let mut trouble = Trouble::new((LASTING..LASTING + PASSING).map(vip).collect());
    trouble.bring_all(&cluster)?;
    sleep(WARM);
    let before = usage(&mut cluster)?;

    let vips = (0..LASTING + PASSING).map(vip).collect();
    let client = Client::start(&cluster.client, vips)?;
    while begun.elapsed() + CALM < span {
        trouble.make(&mut cluster)?;
    }
    trouble.bring_all(&cluster)?;
    sleep(CALM);
    let seen = client.stop()?;
    let after = usage(&mut cluster)?;
    let warnings = trouble.warnings(&mut cluster);

    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let mut rows = vec![
        Row::new("lasted", minutes, "min"),
        Row::new("requests", seen.requests as f64, "requests"),
    ];
    rows.extend(trouble.counts());
    let count = |wanted: Verdict| {
        let judged = seen
            .anomalies
            .iter()
            .filter(|anomaly| trouble.judge(anomaly) == wanted);
        judged.inspect(|anomaly| tell(anomaly, wanted)).count() as f64
    };
    let none = Limit::AtMost(0.0);
    let row = |case, verdict| Row::new(case, count(verdict), "requests");
    rows.extend([
        row("unanswered within 500 ms of a cut", Verdict::FailOver),
        row("unanswered otherwise", Verdict::Unanswered).within(none.clone()),
        row(
            "answered twice within 1 s of a link's return",
            Verdict::Return,
        ),
        row("answered twice otherwise", Verdict::Doubled).within(none),
    ]);
    for (number, (after, before)) in after.iter().zip(&before).enumerate() {
        let name = cluster.nodes[number].host.name();
        let lasted = if number < LASTING_AGENTS {
            ""
        } else {
            ", restarted"
        };
        let row = |what, of: fn(&Usage) -> f64, unit| {
            let case = format!("{what} of the agent of {name}{lasted} (baseline: before)");
            Row::new(case, of(after), unit).against(of(before))
        };
        rows.push(row("memory", |it| it.resident, "MiB"));
        rows.push(row("open files", |it| it.descriptors as f64, "files"));
        rows.push(row("threads", |it| it.threads as f64, "threads"));
        if number < LASTING_AGENTS {
            let cpu = (after.cpu - before.cpu).as_secs_f64() / (60.0 * minutes);
            let case = format!("CPU of the agent of {name}, of one core");
            rows.push(Row::new(case, 100.0 * cpu, "%"));
        }
    }
    rows.push(Row::new(
        "warnings in the logs",
        warnings.len() as f64,
        "lines",
    ));
    for line in warnings {
        eprintln!("{line}");
    }
    Ok(rows)
}

/// An unexpected request is more useful with its time.
fn tell(anomaly: &Anomaly, verdict: Verdict) {
    if matches!(verdict, Verdict::Unanswered | Verdict::Doubled) {
        eprintln!("{verdict:?}: {anomaly:?}");
    }
}

fn usage(cluster: &mut Cluster) -> Result<Vec<Usage>> {
    let nodes = cluster.nodes.iter_mut();
    nodes.map(|node| Usage::of(node.agent())).collect()
}

const fn vip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 220 + number)
}
