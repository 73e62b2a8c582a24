//! What nodes announce.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread::sleep,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};
use speaker_tests::{
    agent::{Mode, Node},
    cluster::Cluster,
    lab::{self, Direction, Frame},
    manifest,
    message::Message,
};

/// When the peers' side of a node's lease ended, or will.
fn renewed_until(node: &Node) -> Result<SystemTime> {
    let peers = node.map("peers")?;
    let deadline = peers[0]["value"]["deadline_ns"].as_u64();
    let deadline = deadline.with_context(|| format!("{peers:?}"))?;
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    let ago = now.saturating_sub(Duration::from_nanos(deadline));
    Ok(SystemTime::now() - ago)
}

/// Nobody hears it, so nobody renews its lease. It notices only a moment later, and has something to
/// announce all the time: its announcements are captured on its cable.
#[test]
fn a_node_whose_lease_has_lapsed_announces_nothing() {
    lab::test(|lab| {
        /// Each is announced twice in five seconds.
        const MANY: u32 = 1_500;
        /// From the look at the lease until the frames have been sent.
        const SENDING: Duration = Duration::from_millis(50);
        let vip = |number: u32| Ipv4Addr::from_bits(0x0a01_0000 + number);
        let services = manifest::services((0..MANY).map(|number| vec![vip(number)]));
        let mut cluster = Cluster::new(lab, 3, Mode::Generic, &[])?;
        for node in &mut cluster.nodes {
            node.manifests.write("many.json", &services)?;
            node.arguments.push("--refresh=5s".to_owned());
            node.start()?;
        }
        let some = (0..MANY).step_by(250).map(|it| IpAddr::V4(vip(it)));
        cluster.agree(some.collect())?;
        // The last announcement after the take-over was after 7.2 s, the first refreshes are 5 s
        // later, and more follow all the time.
        sleep(Duration::from_secs(13));

        let node = &cluster.nodes[0];
        let cable = node.host.eth0.port.capture()?;
        sleep(Duration::from_millis(500));
        node.host.eth0.port.lose(1.0, Direction::FromHost)?;
        sleep(Duration::from_secs(2));
        let end = renewed_until(node)?;
        let is_announcement = |frame: &Frame| match Message::of(frame) {
            Some(Message::Arp { sender, target, .. }) => {
                frame.source() == node.host.eth0.mac && sender.0 == target.0
            }
            _ => false,
        };
        let frames = cable.frames().into_iter();
        let times = frames.filter(is_announcement).map(|frame| frame.at);
        let (late, before): (Vec<_>, Vec<_>) = times.partition(|at| *at > end + SENDING);
        assert!(before.len() > 50, "{} announcements", before.len());
        let late: Vec<_> = late.iter().map(|at| at.duration_since(end)).collect();
        assert!(late.is_empty(), "{} after the end: {late:?}", late.len());
        Ok(())
    });
}
