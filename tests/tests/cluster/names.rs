//! Peers given by host name.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use speaker_tests::{agent::Mode, cluster::Cluster, lab};

use crate::{FAIL_OVER, VIP, VIPS, asked};

/// The first node knows only the name of the other, and the other knows nobody.
#[test]
fn a_peer_is_found_by_name_even_at_a_new_address() {
    lab::test(|lab| {
        let mut cluster = Cluster::new(lab, 2, Mode::Generic, &[&VIPS])?;
        let key = cluster.nodes[0].arguments[1].clone();
        let own = cluster.nodes[1].host.eth0.ipv4;
        cluster.nodes[0].arguments = vec![key.clone(), "--peer=b.lan".into()];
        let named = |address: &str| format!("{address} b.lan b\n");
        cluster.nodes[0].host.name_hosts(&named(&own.to_string()))?;
        cluster.nodes[1].arguments = vec![
            key.clone(),
            format!("--gossip-bind={own}"),
            "--on-stop=handover".into(),
        ];
        cluster.nodes[1].start()?;
        assert_eq!(cluster.agreed(&[1], VIP)?, 1);
        let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
            cluster.nodes[0].start()?;
            assert_eq!(cluster.owner(VIP)?, 1);
            Ok(())
        })?;
        asked.assert_all_answered(50, cluster.mac(1));

        cluster.nodes[1].stop()?;
        assert_eq!(cluster.agreed(&[0], VIP)?, 0);
        // It does not remember the first node, which has to find it.
        let other = &mut cluster.nodes[1];
        other
            .host
            .run(|| fs::remove_file("/run/lab/state/members"))?;
        other.host.ip("address add 10.0.0.77/24 dev eth0")?;
        other.arguments[1] = "--gossip-bind=10.0.0.77".into();
        other.spawn()?;
        cluster.nodes[0].host.name_hosts(&named("10.0.0.77"))?;
        cluster.owner(VIP)?;
        let told = cluster.nodes[0].log("b.lan (--peer) resolves to 10.0.0.77");
        assert_eq!(told.len(), 1, "{told:?}");
        Ok(())
    });
}

#[test]
fn an_unresolved_name_is_reported_once_and_blocks_no_vip() {
    lab::test(|lab| {
        let mut cluster = Cluster::new(lab, 2, Mode::Generic, &[&VIPS])?;
        // The other node is up, and meets it all the same.
        for node in &mut cluster.nodes {
            node.arguments.push("--peer=nowhere.invalid".into());
        }
        let begun = Instant::now();
        for node in &mut cluster.nodes {
            node.spawn()?;
        }
        cluster.owner(VIP)?;
        println!("owned after {:?}", begun.elapsed());
        sleep(Duration::from_millis(2_500));
        let node = &mut cluster.nodes[0];
        let told = node.log("cannot resolve nowhere.invalid (--peer): ");
        assert_eq!(told.len(), 1, "{told:?}");

        // Without any address, it cannot know which of its own addresses the others use.
        node.agent().kill()?;
        let key = node.arguments[1].clone();
        node.host
            .run(|| fs::remove_file("/run/lab/state/members"))?;
        node.arguments = vec![key, "--peer=nowhere.invalid".into()];
        node.spawn()?;
        let status = node.agent().wait(FAIL_OVER)?;
        assert!(!status.success());
        let told = node.log("set --gossip-bind to the address at which other nodes reach it");
        assert_eq!(told.len(), 1, "{told:?}");
        Ok(())
    });
}
