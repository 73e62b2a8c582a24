//! How long a VIP is unanswered when its owner fails, on the wire, by a client's capture.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread::sleep,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use super::Row;
use crate::{
    agent::Mode,
    asker::Asker,
    cluster::Cluster,
    lab::Lab,
    message::{Mac, Message},
};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 240));
/// How often the client asks: how exactly the times are known.
const EVERY: Duration = Duration::from_millis(2);
/// After which nothing of what was announced before holds an announcement back.
const CALM: Duration = Duration::from_millis(1_200);
/// Failures of each kind.
const RUNS: usize = 50;

/// One failure of an owner.
struct Failure {
    /// From its last answer to the first of the new owner.
    answered: Duration,
    /// From its last answer to the first announcement of the new owner.
    announced: Duration,
}

/// Measures all rows.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in [3, 5] {
        let lab = Lab::new()?;
        let mut cluster = Cluster::started(&lab, size, Mode::Native, &[&[VIP]])?;
        let cut = measure(&mut cluster, |cluster, owner| {
            cluster.nodes[owner].host.eth0.port.cut()?;
            Ok(true)
        })?;
        rows.extend(summary(&format!("{size} nodes, owner cut off"), &cut));
        let drained = measure(&mut cluster, |cluster, owner| {
            cluster.nodes[owner].ask("drain")?;
            Ok(false)
        })?;
        rows.extend(summary(&format!("{size} nodes, owner drained"), &drained));
    }
    Ok(rows)
}

/// Lets the owner fail over and over. `fail` says whether the others alone can tell who is next.
fn measure(
    cluster: &mut Cluster,
    fail: impl Fn(&mut Cluster, usize) -> Result<bool>,
) -> Result<Vec<Failure>> {
    let mut failures = Vec::new();
    for _ in 0..RUNS {
        let owner = cluster.owner(VIP)?;
        sleep(CALM);
        let wire = cluster.client.capture("eth0")?;
        let asker = Asker::start(&cluster.client, VIP, EVERY)?;
        sleep(Duration::from_millis(100));
        let begun = SystemTime::now();
        let cut = fail(cluster, owner)?;
        let others = cluster.others(owner);
        let next = cluster.agreed(&others, VIP)?;
        sleep(Duration::from_millis(100));
        let answerers = asker.stop()?.answerers();
        ensure!(answerers.len() == 2, "{answerers:?}");
        let (before, after) = (answerers[0].last, answerers[1].first);
        let announces = |mac: Mac, message: Message| match message {
            Message::Arp { sender, target, .. } => {
                IpAddr::V4(sender.0) == VIP && sender.0 == target.0 && sender.1 == mac
            }
            _ => false,
        };
        let frames = wire.frames();
        let announcement = frames
            .iter()
            .filter(|frame| frame.at >= begun)
            .find(|frame| Message::of(frame).is_some_and(|it| announces(cluster.mac(next), it)))
            .context("the new owner did not announce the VIP")?;
        failures.push(Failure {
            answered: after.duration_since(before)?,
            announced: announcement.at.duration_since(before).unwrap_or_default(),
        });
        if cut {
            cluster.nodes[owner].host.eth0.port.restore()?;
        } else {
            cluster.nodes[owner].ask("undrain")?;
        }
    }
    Ok(failures)
}

fn summary(case: &str, failures: &[Failure]) -> Vec<Row> {
    type Of = fn(&Failure) -> Duration;
    let columns: [(&str, Of); 2] = [
        ("first answer", |it| it.answered),
        ("first announcement", |it| it.announced),
    ];
    let mut rows = Vec::new();
    for (what, of) in columns {
        let mut times: Vec<Duration> = failures.iter().map(of).collect();
        times.sort_unstable();
        let last = times.len() - 1;
        for (share, at) in [
            ("median", last / 2),
            ("p99", last * 99 / 100),
            ("max", last),
        ] {
            rows.push(Row::new(
                format!("{case}: last answer to {what} of the next, {share}"),
                times[at].as_secs_f64() * 1e3,
                "ms",
            ));
        }
    }
    rows
}
