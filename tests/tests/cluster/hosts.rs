//! Nodes that die, are cut off, or lose a link.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use speaker_tests::{
    agent::Mode,
    asker::Asker,
    cluster::Cluster,
    lab::{self, Host},
    manifest,
    wait::wait_until,
};

use crate::{EVERY, FAIL_OVER, VIP, VIPS, asked, brief};

/// Keeps a host from sending to these UDP ports.
pub(crate) fn mute(host: &Host, ports: &str) -> Result<()> {
    let rules = format!(
        "table inet mute {{ chain output {{ type filter hook output priority 0; \
         udp dport {{ {ports} }} counter drop; }}; }}"
    );
    host.command("nft").arg(rules).run()?;
    Ok(())
}

/// Ends it, and fails if nothing was blocked: that would prove nothing.
fn unmute(host: &Host) -> Result<()> {
    let rules = host.command("nft").arg("list table inet mute").run()?;
    let mut words = rules.split_whitespace().skip_while(|it| *it != "packets");
    let dropped: u64 = words.nth(1).with_context(|| rules.clone())?.parse()?;
    ensure!(dropped > 10, "only {dropped} packets were dropped");
    host.command("nft").arg("delete table inet mute").run()?;
    Ok(())
}

#[test]
fn a_cut_off_nodes_vips_are_taken_over_and_stay() {
    lab::test(|lab| {
        /// What is promised for three to five nodes with the default settings.
        const FAILED_OVER: Duration = Duration::from_millis(500);
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let next = brief(FAILED_OVER, || {
            let owner = cluster.owner(VIP)?;
            let others = cluster.others(owner);
            let (asked, next) = asked(&mut cluster, VIP, |cluster| {
                cluster.nodes[owner].host.eth0.port.cut()?;
                let next = cluster.agreed(&others, VIP)?;
                sleep(Duration::from_secs(1));
                Ok(next)
            })?;
            assert_eq!(asked.answered_by(), [cluster.mac(owner), cluster.mac(next)]);
            cluster.nodes[owner].host.eth0.port.restore()?;
            assert_eq!(cluster.owner(VIP)?, next, "it takes nothing back");
            Ok((asked, next))
        })?;
        let (healed, ()) = asked(&mut cluster, VIP, |_| Ok(()))?;
        healed.assert_all_answered(20, cluster.mac(next));
        Ok(())
    });
}

/// It receives everything, but nobody hears it: its answers are captured on its cable.
#[test]
fn an_unheard_node_stops_before_its_vips_are_taken_over() {
    use speaker_tests::{lab::Direction, message::Message};
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let others = cluster.others(owner);
        let cable = cluster.nodes[owner].host.eth0.port.capture()?;
        let (asked, next) = asked(&mut cluster, VIP, |cluster| {
            let port = &cluster.nodes[owner].host.eth0.port;
            port.lose(1.0, Direction::FromHost)?;
            cluster.agreed(&others, VIP)
        })?;
        let answerers = asked.answerers();
        let first = answerers.iter().find(|it| it.mac == cluster.mac(next));
        let first = first.expect("it answers").first;
        let mine = |frame: &&speaker_tests::lab::Frame| {
            let message = Message::of(frame);
            !frame.sent && message.is_some_and(|it| it.says(VIP, cluster.mac(owner)))
        };
        let frames = cable.frames();
        let last = frames.iter().filter(mine).max_by_key(|frame| frame.at);
        let last = last.expect("it answered before");
        let late = last.at.duration_since(first);
        assert!(late.is_err(), "{late:?} later: {:?}", Message::of(last));
        Ok(())
    });
}

/// While the others claim them, they exchange a great many messages, and must still renew each
/// other's lease.
#[test]
fn thousands_of_vips_are_taken_over_without_a_lapse() {
    lab::test(|lab| {
        let vip = |number: u32| Ipv4Addr::from_bits(0x0a01_0000 + number);
        let services = manifest::services((0..4_000).map(|number| vec![vip(number)]));
        let mut cluster = Cluster::new(lab, 3, Mode::Native, &[])?;
        for node in &mut cluster.nodes {
            node.manifests.write("many.json", &services)?;
            node.start()?;
        }
        let some: Vec<IpAddr> = (0..4_000).step_by(500).map(|it| vip(it).into()).collect();
        for vip in &some {
            cluster.owner(*vip)?;
        }
        cluster.nodes[0].host.eth0.port.cut()?;
        for vip in &some {
            cluster.agreed(&[1, 2], *vip)?;
        }
        sleep(Duration::from_secs(2));
        for node in &mut cluster.nodes[1..] {
            let lapses = node.log("gives up its VIPs");
            assert!(lapses.is_empty(), "{lapses:?}");
        }
        Ok(())
    });
}

#[test]
fn a_link_without_carrier_gets_no_vips() {
    lab::test(|lab| {
        let cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        cluster.nodes[owner].host.eth0.port.unplug()?;
        let others = cluster.others(owner);
        let next = cluster.agreed(&others, VIP)?;
        assert_ne!(next, owner);
        cluster.nodes[owner].host.eth0.port.plug()?;
        assert_eq!(cluster.owner(VIP)?, next);
        Ok(())
    });
}

#[test]
fn a_vip_goes_where_its_subnet_is() {
    lab::test(|lab| {
        let vip = "10.0.9.5".parse()?;
        let mut cluster = Cluster::new(lab, 3, Mode::Generic, &[&[vip]])?;
        cluster.nodes[1]
            .host
            .ip("address add 10.0.9.1/24 dev eth0")?;
        for node in &mut cluster.nodes {
            node.spawn()?;
        }
        assert_eq!(cluster.owner(vip)?, 1);
        let excluded = cluster.nodes[0].explain(vip)?.excluded;
        let names: Vec<&String> = excluded.keys().collect();
        assert_eq!(names, ["node-a", "node-c"]);
        let mut reasons = excluded.values();
        assert!(
            reasons.all(|it| it.contains("in the subnet of 10.0.9.5")),
            "{excluded:?}"
        );
        cluster.nodes[2]
            .host
            .ip("address add 10.0.9.2/24 dev eth0")?;
        cluster.nodes[1]
            .host
            .ip("address del 10.0.9.1/24 dev eth0")?;
        wait_until("the VIP is where its subnet is", FAIL_OVER, || {
            Ok(cluster.owner(vip)? == 2)
        })
    });
}

/// One of them has yet to hear of a Service that shares an address, so that more VIPs belong
/// together, on another node.
#[test]
fn nodes_with_different_services_leave_one_answer() {
    lab::test(|lab| {
        let [shown, shared, new]: [IpAddr; 3] = [
            "10.0.0.235".parse()?,
            "fd00::99".parse()?,
            "10.0.0.230".parse()?,
        ];
        let mut cluster = Cluster::started(lab, 2, Mode::Generic, &[&[shown, shared]])?;
        let owner = cluster.owner(shown)?;
        let other = 1 - owner;
        let (asked, ()) = asked(&mut cluster, shared, |cluster| {
            cluster.nodes[other].serve("web-1", &[new, shared])?;
            wait_until("the new VIP", FAIL_OVER, || {
                let explained = cluster.nodes[other].explain(new);
                Ok(explained.is_ok_and(|it| it.state == "answering"))
            })?;
            sleep(Duration::from_secs(2));
            Ok(())
        })?;
        asked.assert_all_answered(200, cluster.mac(owner));
        // Once it has heard of it, all are on one node.
        cluster.nodes[owner].serve("web-1", &[new, shared])?;
        wait_until("all at one node", FAIL_OVER, || {
            let owners = [shown, shared, new].map(|vip| cluster.owner(vip));
            let [first, second, third] = owners;
            let (first, second, third) = (first?, second?, third?);
            Ok(first == second && second == third)
        })
    });
}

#[test]
fn a_node_that_joins_takes_nothing() {
    lab::test(|lab| {
        let mut cluster = Cluster::new(lab, 3, Mode::Generic, &[&VIPS])?;
        for node in &mut cluster.nodes[..2] {
            node.spawn()?;
        }
        let owner = cluster.agreed(&[0, 1], VIP)?;
        let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
            cluster.nodes[2].start()?;
            assert_eq!(cluster.owner(VIP)?, owner);
            sleep(Duration::from_secs(2));
            Ok(())
        })?;
        asked.assert_all_answered(200, cluster.mac(owner));
        Ok(())
    });
}

/// Each believes itself alone, and takes the VIP: they see each other only on the wire.
#[test]
fn nodes_that_see_only_each_others_announcements_leave_one_answer() {
    lab::test(|lab| {
        const SETTLED: Duration = Duration::from_secs(1);
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let mut overlaps = Vec::new();
        // On a busy machine, one success in three is enough.
        while overlaps.len() < 3 && overlaps.last().is_none_or(|it| *it >= SETTLED) {
            let asker = Asker::start(&cluster.client, VIP, EVERY)?;
            for node in &cluster.nodes {
                mute(&node.host, "7946, 7947")?;
            }
            sleep(Duration::from_secs(3));
            let (during, seconds) = asker.stop_and_count()?;
            // The owner's answer may always be the first.
            let others_answered = during.answerers().len() > 1 || !seconds.is_empty();
            ensure!(others_answered, "no other node took it");
            overlaps.push(match (seconds.first(), seconds.last()) {
                (Some((first, _)), Some((last, _))) => last.duration_since(*first)?,
                _ => Duration::ZERO,
            });
            for vip in VIPS {
                let (asked, ()) = asked(&mut cluster, vip, |_| {
                    sleep(Duration::from_secs(1));
                    Ok(())
                })?;
                let answerers = asked.answerers();
                assert_eq!(answerers.len(), 1, "{answerers:?}");
                asked.assert_all_answered(100, answerers[0].mac);
            }
            for node in &cluster.nodes {
                unmute(&node.host)?;
            }
            let owner = cluster.owner(VIP)?;
            let (asked, ()) = asked(&mut cluster, VIP, |_| Ok(()))?;
            asked.assert_all_answered(20, cluster.mac(owner));
        }
        println!("overlaps: {overlaps:?}");
        let last = overlaps.last().expect("there is one");
        assert!(*last < SETTLED, "{overlaps:?}");
        Ok(())
    });
}

/// A firewall that blocks probes: the agents probe by message, and no node is declared dead.
#[test]
fn nodes_with_blocked_probes_probe_by_message() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
            for node in &cluster.nodes {
                mute(&node.host, "7947")?;
            }
            sleep(Duration::from_secs(3));
            Ok(())
        })?;
        for node in &cluster.nodes {
            unmute(&node.host)?;
        }
        assert_eq!(asked.answered_by(), [cluster.mac(owner)]);
        let outage = asked.outage();
        println!("outage: {outage:?}");
        assert!(outage < Duration::from_secs(1), "{outage:?}");
        Ok(())
    });
}

/// What its agent sends is lost; its kernel still replies to probes.
#[test]
fn a_node_that_gets_no_replies_but_is_heard_takes_nothing() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let unheard = cluster.others(owner)[0];
        let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
            mute(&cluster.nodes[unheard].host, "7946, 7947")?;
            sleep(Duration::from_secs(2));
            unmute(&cluster.nodes[unheard].host)?;
            sleep(Duration::from_secs(1));
            Ok(())
        })?;
        asked.assert_all_answered(300, cluster.mac(owner));
        assert_eq!(cluster.owner(VIP)?, owner);
        Ok(())
    });
}

#[test]
fn two_of_five_nodes_may_die_one_after_the_other() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 5, Mode::Generic, &[&VIPS])?;
        let mut alive: Vec<usize> = (0..5).collect();
        let (asked, macs) = asked(&mut cluster, VIP, |cluster| {
            let mut owner = cluster.agreed(&alive, VIP)?;
            let mut macs = vec![cluster.mac(owner)];
            for _ in 0..2 {
                cluster.nodes[owner].host.eth0.port.cut()?;
                alive.retain(|number| *number != owner);
                owner = cluster.agreed(&alive, VIP)?;
                macs.push(cluster.mac(owner));
                sleep(Duration::from_millis(500));
            }
            Ok(macs)
        })?;
        assert_eq!(asked.answered_by(), macs);
        Ok(())
    });
}
