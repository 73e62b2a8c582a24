//! What a host outside the cluster can do to the nodes.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use speaker_tests::{
    agent::{HTTP, Mode, Node},
    cluster::Cluster,
    lab,
};

use crate::{VIP, VIPS, asked};

/// A VIP that is configured during the flood.
const NEW: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 241));

/// Floods the message port with what no key opens.
fn blast(to: &[IpAddr], done: &AtomicBool) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("any port will do");
    while !done.load(Ordering::Relaxed) {
        for ip in to {
            // What does not fit the queue is lost, as usual.
            let _ = socket.send_to(b"garbage", SocketAddr::new(*ip, 7946));
        }
    }
}

/// How many messages a node could not decrypt.
fn unreadable(node: &Node) -> Result<u64> {
    const COUNT: &str = "speaker_unreadable_messages_total ";
    let metrics = node.get("/metrics")?;
    let count = metrics.lines().find_map(|line| line.strip_prefix(COUNT));
    Ok(count.with_context(|| metrics.clone())?.parse()?)
}

#[test]
fn garbage_does_not_keep_an_agent_from_its_lease_and_configuration() {
    lab::test(|lab| {
        let mut cluster = Cluster::new(lab, 2, Mode::Native, &[&VIPS])?;
        for node in &mut cluster.nodes {
            node.arguments.extend(HTTP.map(str::to_owned));
            node.arguments.push("--probe-interval=10ms".to_owned());
            node.spawn()?;
        }
        let owner = cluster.owner(VIP)?;
        let epoch = cluster.nodes[owner].explain(VIP)?.epoch;
        let foe = lab.host("foe")?;
        let nodes = cluster.nodes.iter();
        let nodes: Vec<IpAddr> = nodes.map(|node| node.host.eth0.ipv4.into()).collect();
        let done = AtomicBool::new(false);
        let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
            thread::scope(|scope| {
                scope.spawn(|| foe.run(|| blast(&nodes, &done)));
                sleep(Duration::from_secs(1));
                let configure = || -> Result<()> {
                    for node in &cluster.nodes {
                        node.serve("new", &[NEW])?;
                    }
                    cluster.owner(NEW)?;
                    sleep(Duration::from_secs(3));
                    cluster.nodes.iter().try_for_each(|node| {
                        let unreadable = unreadable(node)?;
                        ensure!(unreadable > 10_000, "no flood: {unreadable}");
                        Ok(())
                    })
                };
                let configured = configure();
                done.store(true, Ordering::Relaxed);
                configured
            })
        })?;
        asked.assert_all_answered(500, cluster.mac(owner));
        for node in &cluster.nodes {
            let explained = node.explain(VIP)?;
            assert_eq!(explained.epoch, epoch, "{explained:?}");
        }
        Ok(())
    });
}
