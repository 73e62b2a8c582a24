//! Operators' commands, and their output.

use std::{fs, net::IpAddr, thread::sleep, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use speaker_tests::{
    agent::{HTTP, LeaseState, Mode, Node},
    cluster::Cluster,
    lab,
    wait::wait_until,
};

use crate::{HAND_OVER, VIP, VIPS, asked, assert_status_says, brief};

#[test]
fn a_drained_node_hands_over_without_a_gap_and_stays_drained() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let (owner, next) = brief(HAND_OVER, || {
            for node in &cluster.nodes {
                node.ask("undrain")?;
            }
            let owner = cluster.owner(VIP)?;
            let (asked, next) = asked(&mut cluster, VIP, |cluster| {
                cluster.nodes[owner].ask("drain")?;
                cluster.owner(VIP)
            })?;
            assert_ne!(next, owner);
            assert_eq!(asked.answered_by(), [cluster.mac(owner), cluster.mac(next)]);
            Ok((asked, (owner, next)))
        })?;

        cluster.nodes[owner].agent().kill()?;
        cluster.nodes[owner].start()?;
        sleep(Duration::from_secs(1));
        let explanation = cluster.nodes[next].explain(VIP)?;
        let drained = cluster.nodes[owner].host.name();
        let standing = |it: &&speaker_tests::cluster::Candidate| it.node == drained;
        let candidate = explanation.candidates.iter().find(standing);
        assert_eq!(candidate.map(|it| it.standing.as_str()), Some("draining"));
        cluster.nodes[owner].ask("undrain")?;
        assert_eq!(cluster.owner(VIP)?, next, "it takes nothing back");
        Ok(())
    });
}

#[test]
fn a_vip_can_be_moved_and_the_reason_is_shown() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        for node in &cluster.nodes {
            assert_tells_both_sides_of_the_lease(node)?;
        }
        let to = brief(HAND_OVER, || {
            let owner = cluster.owner(VIP)?;
            // Any node accepts the command, and tells the owner.
            let (to, at) = (cluster.others(owner)[0], cluster.others(owner)[1]);
            let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
                let name = cluster.nodes[to].host.name();
                let said = cluster.nodes[at].ask(&format!("move {VIP} {name}"))?;
                assert_eq!(said, format!("{name} owns {VIP}\n"));
                assert_eq!(cluster.owner(VIP)?, to);
                Ok(())
            })?;
            assert_eq!(asked.answered_by(), [cluster.mac(owner), cluster.mac(to)]);
            Ok((asked, to))
        })?;
        let cause = cluster.nodes[to].explain(VIP)?.cause.unwrap_or_default();
        assert!(cause.contains("an operator asked for the move"), "{cause}");
        let refused = cluster.nodes[to].ask(&format!("move {VIP} node-x"));
        let refused = refused.expect_err("there is no such node").to_string();
        let known = "unknown node node-x; known nodes: node-a, node-b, node-c";
        assert!(refused.contains(known), "{refused}");
        Ok(())
    });
}

/// It lasts much longer without an agent than without other nodes.
fn assert_tells_both_sides_of_the_lease(node: &Node) -> Result<()> {
    let lease = node.status()?.lease;
    assert_eq!(lease.state, LeaseState::Valid, "{lease:?}");
    assert!(lease.agent_left_ms > Some(1_000), "{lease:?}");
    let peers = lease.peers_left_ms;
    assert!(
        peers.is_some_and(|ms| (1..=1_000).contains(&ms)),
        "{lease:?}"
    );
    let status = node.speaker("status")?.run()?;
    let told = status.lines().find(|line| line.starts_with("lease: "));
    let told = told.with_context(|| status.clone())?;
    assert!(told.contains("s without an agent, and for "), "{told}");
    assert!(told.ends_with("ms without probes by other nodes"), "{told}");
    Ok(())
}

#[test]
fn rebalance_spreads_vips_evenly() {
    lab::test(|lab| {
        let vips: Vec<[IpAddr; 1]> = (0..9)
            .map(|n| [IpAddr::from([10, 0, 0, 200 + n])])
            .collect();
        let services: Vec<&[IpAddr]> = vips.iter().map(|vip| &vip[..]).collect();
        let mut cluster = Cluster::new(lab, 3, Mode::Generic, &services)?;
        cluster.nodes[0].spawn()?;
        for vip in &vips {
            assert_eq!(cluster.agreed(&[0], vip[0])?, 0);
        }
        // VIPs are spread over nodes that have joined.
        cluster.nodes[1].start()?;
        cluster.nodes[2].start()?;
        cluster.agree(vips.concat())?;
        cluster.nodes[1].ask("rebalance")?;
        wait_until("an even spread", Duration::from_secs(20), || {
            let mut owned = [0; 3];
            for vip in &vips {
                owned[cluster.owner(vip[0])?] += 1;
            }
            Ok(owned == [3, 3, 3])
        })
    });
}

#[test]
fn a_node_with_another_key_is_reported_on_both_sides_and_excluded() {
    lab::test(|lab| {
        let mut cluster = Cluster::new(lab, 3, Mode::Generic, &[&VIPS])?;
        let wrong = tempfile::NamedTempFile::new()?;
        fs::write(&wrong, "another secret of other nodes\n")?;
        let path = wrong.path().display().to_string();
        cluster.nodes[2].arguments = cluster.arguments(2, &path);
        for node in &mut cluster.nodes {
            node.spawn_with(HTTP)?;
        }
        let owner = cluster.agreed(&[0, 1], VIP)?;
        let (stranger, own) = (
            cluster.nodes[2].host.eth0.ipv4,
            cluster.nodes[owner].host.eth0.ipv4,
        );
        for (number, from) in [(owner, stranger), (2, own)] {
            let text =
                format!("a message from {from}:7946 cannot be decrypted with this node's keys");
            cluster.nodes[number]
                .agent()
                .wait_for_line(&text, Duration::from_secs(20))?;
            let metrics = cluster.nodes[number].get("/metrics")?;
            let count = metrics.lines().find_map(|line| {
                let count = line.strip_prefix("speaker_unreadable_messages_total ")?;
                count.parse::<u64>().ok()
            });
            assert!(count > Some(0), "{metrics}");
        }
        // The right key makes it a member, without a restart.
        fs::write(&wrong, "the secret of the nodes in the lab\n")?;
        assert_eq!(cluster.owner(VIP)?, owner);
        Ok(())
    });
}

/// In the three steps of the README, each applied node by node.
#[test]
fn the_cluster_key_is_changed_while_clients_ask() {
    const OLD: &str = "the secret of the nodes in the lab\n";
    const NEW: &str = "the next secret of these nodes\n";
    lab::test(|lab| {
        let mut cluster = Cluster::new(lab, 3, Mode::Generic, &[&VIPS])?;
        let keys: Vec<_> = (0..3)
            .map(|_| tempfile::NamedTempFile::new())
            .collect::<Result<_, _>>()?;
        for (number, key) in keys.iter().enumerate() {
            fs::write(key, OLD)?;
            cluster.nodes[number].arguments =
                cluster.arguments(number, &key.path().display().to_string());
            cluster.nodes[number].spawn()?;
        }
        let owner = cluster.owner(VIP)?;
        let probes = |node: &Node| -> Result<Value> { Ok(node.map("probes")?[0]["value"].clone()) };
        let former = probes(&cluster.nodes[0])?;
        let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
            let steps = [[OLD, NEW].concat(), [NEW, OLD].concat(), NEW.to_owned()];
            for (step, text) in steps.iter().enumerate() {
                for (number, key) in keys.iter().enumerate() {
                    fs::write(key, text)?;
                    sleep(Duration::from_millis(100 * number as u64));
                }
                for node in &mut cluster.nodes {
                    wait_until("the keys to change", Duration::from_secs(20), || {
                        Ok(node.log("the cluster keys have changed").len() > step)
                    })?;
                }
            }
            fs::remove_file(keys[0].path())?;
            // Keys are read again every two seconds.
            sleep(Duration::from_secs(5));
            let kept = cluster.nodes[0].log("the previous keys stay in use");
            assert_eq!(kept.len(), 1, "{kept:?}");
            Ok(())
        })?;
        asked.assert_all_answered(500, cluster.mac(owner));
        assert_eq!(cluster.owner(VIP)?, owner);
        for node in &mut cluster.nodes {
            let unreadable = node.log("cannot be decrypted");
            assert!(unreadable.is_empty(), "{unreadable:?}");
            // The former key opens no probe any more.
            let probes = probes(node)?;
            assert_eq!(probes["count"], 1, "{probes}");
            assert_ne!(probes["keys"][0], former["keys"][0]);
        }
        Ok(())
    });
}

#[test]
fn a_vip_used_by_another_host_is_left_alone_until_it_is_free() {
    lab::test(|lab| {
        let mut cluster = Cluster::new(lab, 1, Mode::Generic, &[&VIPS])?;
        for vip in VIPS {
            cluster.client.ip(&format!("address add {vip} dev eth0"))?;
        }
        cluster.nodes[0]
            .arguments
            .push("--probe-before-claim".into());
        cluster.nodes[0].spawn()?;
        let state = "silent: another host on the network answers for it";
        for vip in VIPS {
            wait_until(state, Duration::from_secs(10), || {
                let said = cluster.nodes[0].explain(vip);
                Ok(said.is_ok_and(|it| it.state == state))
            })?;
            assert_status_says(&cluster.nodes[0], vip, state)?;
        }
        // It checks again every ten seconds.
        for vip in VIPS {
            cluster.client.ip(&format!("address del {vip} dev eth0"))?;
            assert_eq!(cluster.agreed(&[0], vip)?, 0);
        }
        Ok(())
    });
}
