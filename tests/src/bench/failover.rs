//! How long a VIP is unanswered when its owner fails, measured on the wire by a client's capture.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread::sleep,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use super::{Limit, Row};
use crate::{
    agent::{Mode, Node},
    asker::Asker,
    cluster::Cluster,
    lab::{Direction, Lab},
    message::{Mac, Message},
};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 240));
/// The interval between the client's requests, and so the resolution of the times.
const EVERY: Duration = Duration::from_millis(2);
/// After this time, earlier announcements no longer delay the next.
const CALM: Duration = Duration::from_millis(1_200);
/// What is promised at the 99th percentile. The default times guarantee it on any machine:
/// `speaker_core::cluster::Timing::fail_over`.
const PROMISE: Duration = Duration::from_millis(500);
/// How often each fault is measured.
const RUNS: usize = 50;
/// How long an agent is frozen so that it is missed.
const FROZEN_FOR: Duration = Duration::from_secs(5);

/// A way in which an owner fails, and comes back.
struct Fault {
    name: &'static str,
    /// The cluster sizes.
    sizes: &'static [u8],
    /// Whether the promise applies. An owner whose agent is missed answers until its kernel stops:
    /// the time counts from there.
    is_held: bool,
    begin: fn(&mut Node) -> Result<()>,
    end: fn(&mut Node) -> Result<()>,
}

const FAULTS: [Fault; 6] = [
    Fault {
        name: "cut off",
        sizes: &[3, 5],
        is_held: true,
        begin: |owner| owner.host.eth0.port.cut(),
        end: |owner| owner.host.eth0.port.restore(),
    },
    Fault {
        name: "frozen as a whole",
        sizes: &[3, 5],
        is_held: true,
        begin: |owner| {
            owner.host.eth0.port.cut()?;
            owner.agent().freeze()
        },
        end: |owner| {
            owner.host.eth0.port.restore()?;
            owner.agent().thaw()
        },
    },
    Fault {
        name: "not heard by anybody",
        sizes: &[3, 5],
        is_held: true,
        begin: |owner| owner.host.eth0.port.lose(1.0, Direction::FromHost),
        end: |owner| owner.host.eth0.port.restore(),
    },
    Fault {
        name: "without agent (kill -9)",
        sizes: &[3],
        is_held: true,
        begin: |owner| owner.agent().kill(),
        end: Node::start,
    },
    Fault {
        name: "with an agent that stands still for 5 s",
        sizes: &[3],
        is_held: true,
        begin: |owner| {
            owner.agent().freeze()?;
            sleep(FROZEN_FOR);
            owner.agent().thaw()
        },
        end: |_| Ok(()),
    },
    Fault {
        name: "drained",
        sizes: &[3, 5],
        is_held: false,
        begin: |owner| owner.ask("drain").map(drop),
        end: |owner| owner.ask("undrain").map(drop),
    },
];

/// One failure of an owner.
struct Failure {
    /// From its last answer to the new owner's first.
    answered: Duration,
    /// From its last answer to the new owner's first announcement.
    announced: Duration,
}

/// Measures all rows.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in [3, 5] {
        let lab = Lab::new()?;
        let mut cluster = Cluster::started(&lab, size, Mode::Native, &[&[VIP]])?;
        for fault in FAULTS.iter().filter(|fault| fault.sizes.contains(&size)) {
            let failures = measure(&mut cluster, fault)?;
            let case = format!("{size} nodes, owner {}", fault.name);
            rows.extend(summary(&case, fault.is_held, &failures));
        }
    }
    Ok(rows)
}

/// Makes the owner fail repeatedly.
fn measure(cluster: &mut Cluster, fault: &Fault) -> Result<Vec<Failure>> {
    let mut failures = Vec::new();
    for _ in 0..RUNS {
        let owner = cluster.owner(VIP)?;
        sleep(CALM);
        let wire = cluster.client.capture("eth0")?;
        let asker = Asker::start(&cluster.client, VIP, EVERY)?;
        sleep(Duration::from_millis(100));
        let begun = SystemTime::now();
        (fault.begin)(&mut cluster.nodes[owner])?;
        let next = cluster.agreed(&cluster.others(owner), VIP)?;
        sleep(Duration::from_millis(100));
        let answerers = asker.stop()?.answerers();
        ensure!(answerers.len() == 2, "{}: {answerers:?}", fault.name);
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
        (fault.end)(&mut cluster.nodes[owner])?;
    }
    Ok(failures)
}

fn summary(case: &str, is_held: bool, failures: &[Failure]) -> Vec<Row> {
    type Of = fn(&Failure) -> Duration;
    let columns: [(&str, Of); 2] = [
        ("first answer", |it| it.answered),
        ("first announcement", |it| it.announced),
    ];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let held = |row: Row| match is_held {
        true => row.within(Limit::AtMost(ms(PROMISE))),
        false => row,
    };
    let mut rows = Vec::new();
    for (what, of) in columns {
        let mut times: Vec<Duration> = failures.iter().map(of).collect();
        times.sort_unstable();
        let last = times.len() - 1;
        let row = |share, at: usize| {
            let case = format!("{case}: last answer to {what} of the next, {share}");
            Row::new(case, ms(times[at]), "ms")
        };
        rows.push(row("median", last / 2));
        // By nearest rank: with fewer than a hundred values, that is the longest.
        rows.push(held(row("p99", (99 * times.len()).div_ceil(100) - 1)));
        rows.push(row("max", last));
    }
    rows
}
