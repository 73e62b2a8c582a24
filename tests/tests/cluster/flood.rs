//! What a host that is no node can do to the nodes.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use speaker_tests::{agent::Mode, cluster::Cluster, lab};

use crate::{VIP, VIPS, asked};

/// Sends what no key opens to the port of messages, as fast as it can.
fn blast(to: &[IpAddr], span: Duration) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("any port will do");
    let end = Instant::now() + span;
    while Instant::now() < end {
        for ip in to {
            // What does not fit the queue is lost, as anywhere.
            let _ = socket.send_to(b"garbage", SocketAddr::new(*ip, 7946));
        }
    }
}

#[test]
fn garbage_keeps_no_agent_from_renewing_its_lease() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 2, Mode::Native, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let epoch = cluster.nodes[owner].explain(VIP)?.epoch;
        let foe = lab.host("foe")?;
        let nodes = cluster.nodes.iter();
        let nodes: Vec<IpAddr> = nodes.map(|node| node.host.eth0.ipv4.into()).collect();
        let (asked, ()) = asked(&mut cluster, VIP, |_| {
            thread::scope(|scope| {
                scope.spawn(|| foe.run(|| blast(&nodes, Duration::from_secs(5))));
            });
            Ok(())
        })?;
        asked.assert_all_answered(500, cluster.mac(owner));
        for node in &cluster.nodes {
            let explained = node.explain(VIP)?;
            assert_eq!(explained.epoch, epoch, "{explained:?}");
        }
        Ok(())
    });
}
