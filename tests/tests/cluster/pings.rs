//! A client that only ever pings the VIP: its kernel resolves it, believes announcements, and sends
//! to the MAC it knows.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::Result;
use speaker_tests::{agent::Mode, cluster::Cluster, lab};

use crate::{VIP, VIPS};

/// A client that ignored announcements would resolve again only after many seconds.
const OUTAGE: Duration = Duration::from_secs(2);

/// Pings the VIP until it is done; when each ping was answered.
fn pinged(cluster: &Cluster, done: &AtomicBool) -> Vec<Instant> {
    let mut answered = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let pinged = cluster.client.ping(VIP, Duration::from_millis(50));
        if pinged.is_ok() {
            answered.push(Instant::now());
        }
        sleep(Duration::from_millis(10));
    }
    answered
}

#[test]
fn a_pinging_client_follows_a_vip_after_fail_over_and_move() {
    lab::test(|lab| {
        let cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        // As a load balancer does in each node's kernel.
        for node in &cluster.nodes {
            node.host.ip(&format!("address add {VIP}/32 dev lo"))?;
        }
        let owner = cluster.owner(VIP)?;
        let others = cluster.others(owner);
        let die_and_move = || -> Result<()> {
            sleep(Duration::from_millis(300));
            cluster.nodes[owner].host.eth0.port.cut()?;
            let next = cluster.agreed(&others, VIP)?;
            sleep(Duration::from_secs(1));
            let last = others.iter().find(|it| **it != next);
            let last = last.expect("there are three");
            let name = cluster.nodes[*last].host.name();
            cluster.nodes[next].ask(&format!("move {VIP} {name}"))?;
            sleep(Duration::from_secs(1));
            Ok(())
        };
        let done = AtomicBool::new(false);
        let answered = thread::scope(|scope| -> Result<Vec<Instant>> {
            let pings = scope.spawn(|| pinged(&cluster, &done));
            let moved = die_and_move();
            done.store(true, Ordering::Relaxed);
            moved?;
            Ok(pings.join().expect("it does not panic"))
        })?;
        assert!(answered.len() > 100, "{} answers", answered.len());
        let gaps = answered.windows(2).map(|pair| pair[1] - pair[0]);
        let outage = gaps.max().unwrap_or_default();
        println!("outage: {outage:?}, {} answers", answered.len());
        assert!(outage < OUTAGE, "{outage:?}");
        Ok(())
    });
}
