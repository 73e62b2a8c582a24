//! Nodes that share VIPs: what clients see while nodes, agents and links fail. Each answer on the
//! wire is counted: a duplicate fails the test that saw it.

mod agents;
mod announcements;
mod busy;
mod flood;
mod hosts;
mod names;
mod pings;
mod policies;
mod programs;
mod splits;
mod verbs;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use speaker_tests::{
    agent::Node,
    asker::{Asked, Asker},
    cluster::Cluster,
};

const VIP_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 240);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x240);
const VIP: IpAddr = IpAddr::V4(VIP_V4);
const VIPS: [IpAddr; 2] = [VIP, IpAddr::V6(VIP_V6)];

/// How often the client asks.
const EVERY: Duration = Duration::from_millis(5);

/// Far more than a fail-over takes (benchmarks measure that): the test must not fail because the
/// machine is busy.
const FAIL_OVER: Duration = Duration::from_secs(5);

/// How long an agent is away that is not missed: longer than a fail-over takes by the default times,
/// and so short that it is back within its grace of three seconds even if its start takes two.
const ABSENT: Duration = Duration::from_millis(600);

/// How long the kernel answers without an agent at least: the lease is renewed every half second.
const GRACE: Duration = Duration::from_millis(2_500);

/// A planned move takes milliseconds: one that takes as long as the shortest fail-over was not
/// planned.
const HAND_OVER: Duration = Duration::from_millis(250);

/// A LAN for nodes that are cut off from the others.
const ASIDE: u8 = 9;

/// Repeats a step until clients go unanswered for less than this: on a busy machine, one success in
/// three is enough.
fn brief<T>(limit: Duration, mut act: impl FnMut() -> Result<(Asked, T)>) -> Result<T> {
    let mut outages = Vec::new();
    for _ in 0..3 {
        let (asked, result) = act()?;
        let outage = asked.outage();
        println!("outage: {outage:?}");
        if outage < limit {
            return Ok(result);
        }
        outages.push(outage);
    }
    bail!("clients had no answer for {outages:?}, and never for less than {limit:?}")
}

/// Kills a node's agent, and starts another one a while later. Whether that took less than the grace.
fn restarted(node: &mut Node) -> Result<bool> {
    let killed = Instant::now();
    node.agent().kill()?;
    thread::sleep(ABSENT);
    node.start()?;
    Ok(killed.elapsed() < GRACE)
}

/// Repeats a step that a busy machine may be too slow for: it then has no result.
fn in_time<T>(mut act: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    for _ in 0..3 {
        if let Some(result) = act()? {
            return Ok(result);
        }
    }
    bail!("the machine is too busy: three times, an agent did not start within its grace")
}

/// Asserts that the table of `speaker status` shows this state of a VIP.
fn assert_status_says(node: &Node, vip: IpAddr, state: &str) -> Result<()> {
    let status = node.speaker("status")?.run()?;
    let mut rows = status.lines().map(|row| row.split("  ").map(str::trim));
    let mut row = rows
        .find_map(|mut row| (row.next() == Some(&*vip.to_string())).then_some(row))
        .with_context(|| status.clone())?;
    assert_eq!(row.find(|it| !it.is_empty()), Some(state), "{status}");
    Ok(())
}

/// The client asks for the VIP during a step.
fn asked<T>(
    cluster: &mut Cluster,
    vip: IpAddr,
    act: impl FnOnce(&mut Cluster) -> Result<T>,
) -> Result<(Asked, T)> {
    let asker = Asker::start(&cluster.client, vip, EVERY)?;
    thread::sleep(Duration::from_millis(200));
    let result = act(cluster)?;
    thread::sleep(Duration::from_millis(200));
    Ok((asker.stop()?, result))
}
