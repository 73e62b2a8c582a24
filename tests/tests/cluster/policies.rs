//! The operator's policies: when a VIP moves back, and which side of a split keeps answering.

use std::{
    net::IpAddr,
    thread::sleep,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use speaker_tests::{
    agent::Mode,
    asker::Asker,
    cluster::Cluster,
    lab::{self, Lab},
    message::Message,
    wait::wait_until,
};

use crate::{ASIDE, EVERY, FAIL_OVER, HAND_OVER, VIP, VIPS, asked, assert_status_says, brief};

/// Three nodes, all with these arguments.
fn told(lab: &Lab, argument: &str) -> Result<Cluster> {
    let mut cluster = Cluster::new(lab, 3, Mode::Generic, &[&VIPS])?;
    for node in &mut cluster.nodes {
        node.arguments.push(argument.to_owned());
        node.spawn()?;
    }
    cluster.agree(VIPS.to_vec())?;
    Ok(cluster)
}

#[test]
fn failback_immediate_returns_a_vip_to_its_best_candidate_without_a_gap() {
    lab::test(|lab| {
        let mut cluster = told(lab, "--failback=immediate")?;
        let first = cluster.owner(VIP)?;
        let others = cluster.others(first);
        brief(HAND_OVER, || {
            cluster.nodes[first].agent().kill()?;
            let second = cluster.agreed(&others, VIP)?;
            let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
                cluster.nodes[first].spawn()?;
                wait_until("the VIP to return", Duration::from_secs(30), || {
                    Ok(cluster.owner(VIP)? == first)
                })
            })?;
            assert_eq!(
                asked.answered_by(),
                [cluster.mac(second), cluster.mac(first)]
            );
            Ok((asked, ()))
        })
    });
}

#[test]
fn failback_after_returns_a_vip_once_its_best_candidate_has_been_back_that_long() {
    lab::test(|lab| {
        const WHILE: Duration = Duration::from_secs(2);
        let mut cluster = told(lab, "--failback=after=2s")?;
        let first = cluster.owner(VIP)?;
        let others = cluster.others(first);
        cluster.nodes[first].agent().kill()?;
        let second = cluster.agreed(&others, VIP)?;
        let (asked, back) = asked(&mut cluster, VIP, |cluster| {
            let back = SystemTime::now();
            cluster.nodes[first].spawn()?;
            wait_until("the VIP to return", Duration::from_secs(30), || {
                Ok(cluster.owner(VIP)? == first)
            })?;
            Ok(back)
        })?;
        assert_eq!(
            asked.answered_by(),
            [cluster.mac(second), cluster.mac(first)]
        );
        let returned = asked.answerers()[1].first.duration_since(back)?;
        assert!(returned > WHILE, "{returned:?}");
        Ok(())
    });
}

#[test]
fn on_stop_handover_hands_vips_over_before_the_agent_stops() {
    lab::test(|lab| {
        let mut cluster = told(lab, "--on-stop=handover")?;
        brief(HAND_OVER, || {
            let owner = cluster.owner(VIP)?;
            let others = cluster.others(owner);
            let (asked, next) = asked(&mut cluster, VIP, |cluster| {
                cluster.nodes[owner].stop()?;
                cluster.agreed(&others, VIP)
            })?;
            assert_eq!(asked.answered_by(), [cluster.mac(owner), cluster.mac(next)]);
            let explained = cluster.nodes[next].explain(VIP)?;
            let cause = explained.cause.unwrap_or_default();
            assert!(cause.contains("handed it over"), "{cause}");
            cluster.nodes[owner].start()?;
            Ok((asked, ()))
        })
    });
}

/// Of three nodes, `node-c` is the best candidate and keeps answering when it is cut off; the
/// others do not.
#[test]
fn nodes_with_different_policies_agree_and_each_follows_its_own_when_cut_off() {
    lab::test(|lab| {
        const AVAILABLE: usize = 2;
        let mut cluster = Cluster::new(lab, 3, Mode::Generic, &[&VIPS])?;
        for node in &mut cluster.nodes[..AVAILABLE] {
            node.arguments.push("--partition=majority".to_owned());
        }
        for node in &mut cluster.nodes {
            node.spawn()?;
        }
        cluster.agree(VIPS.to_vec())?;
        assert_eq!(cluster.owner(VIP)?, AVAILABLE);
        let (asked, next) = asked(&mut cluster, VIP, |cluster| {
            cluster.nodes[AVAILABLE].host.eth0.port.cut()?;
            cluster.agreed(&[0, 1], VIP)
        })?;
        assert_eq!(
            asked.answered_by(),
            [cluster.mac(AVAILABLE), cluster.mac(next)]
        );
        assert_eq!(cluster.agreed(&[AVAILABLE], VIP)?, AVAILABLE);
        cluster.nodes[AVAILABLE].host.eth0.port.restore()?;
        assert_eq!(cluster.owner(VIP)?, next, "the larger side keeps it");

        cluster.nodes[next].host.eth0.port.cut()?;
        cluster.agreed(&cluster.others(next), VIP)?;
        wait_until("the one cut off to fall silent", FAIL_OVER, || {
            let explained = cluster.nodes[next].explain(VIP)?;
            Ok(explained.state.starts_with("silent"))
        })
    });
}

/// A host that is paused as a whole hears and does nothing, and may resume in the middle of
/// anything.
#[test]
fn a_paused_host_answers_nothing_when_it_resumes() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let others = cluster.others(owner);
        let (asked, next) = asked(&mut cluster, VIP, |cluster| {
            cluster.nodes[owner].host.eth0.port.cut()?;
            cluster.nodes[owner].agent().freeze()?;
            let next = cluster.agreed(&others, VIP)?;
            sleep(Duration::from_secs(5));
            cluster.nodes[owner].host.eth0.port.restore()?;
            // Its kernel hears requests before its agent runs.
            sleep(Duration::from_millis(500));
            cluster.nodes[owner].agent().thaw()?;
            assert_eq!(cluster.owner(VIP)?, next, "it takes nothing back");
            Ok(next)
        })?;
        assert_eq!(asked.answered_by(), [cluster.mac(owner), cluster.mac(next)]);
        Ok(())
    });
}

#[test]
fn partition_majority_silences_the_smaller_side() {
    lab::test(|lab| {
        let mut cluster = told(lab, "--partition=majority")?;
        let owner = cluster.owner(VIP)?;
        let others = cluster.others(owner);
        // A client on the side of the one that is cut off.
        let far = lab.host("far")?;
        let here = Asker::start(&cluster.client, VIP, EVERY)?;
        let there = Asker::start(&far, VIP, EVERY)?;
        far.eth0.port.move_to(ASIDE)?;
        cluster.nodes[owner].host.eth0.port.move_to(ASIDE)?;
        let next = cluster.agreed(&others, VIP)?;
        sleep(Duration::from_millis(500));
        let (here, there) = (here.stop()?, there.stop()?);
        assert_eq!(here.answered_by(), [cluster.mac(owner), cluster.mac(next)]);
        assert_eq!(there.answered_by(), [cluster.mac(owner)]);
        let (last, first) = (there.answerers()[0].last, here.answerers()[1].first);
        let early = first.duration_since(last);
        let early = early.context("it was succeeded while it went on answering")?;
        println!("silent {early:?} before it was succeeded");
        let state = "silent: this node does not reach more than half of the nodes";
        assert_status_says(&cluster.nodes[owner], VIP, state)?;
        // Two of three are left; when one more goes, the last is not a majority.
        let last = others.iter().copied().find(|it| *it != next);
        let last = last.expect("there are three");
        cluster.nodes[next].host.eth0.port.cut()?;
        let cable = cluster.nodes[last].host.eth0.port.capture()?;
        let (asked, ()) = asked(&mut cluster, VIP, |_| {
            sleep(Duration::from_secs(2));
            Ok(())
        })?;
        asked.assert_none_answered(100);
        let says = |message: Message| message.says(VIP, cluster.mac(last));
        let answers = cable.frames().iter().filter_map(Message::of).any(says);
        assert!(!answers, "one of three is no majority");
        cluster.nodes[next].host.eth0.port.restore()?;
        cluster.agreed(&[next, last], VIP)?;
        Ok(())
    });
}

/// A single wrong line would cut a node off: the owner would answer for its address, and its own
/// kernel would not.
#[test]
fn a_service_with_the_address_of_a_node_changes_nothing_and_is_told() {
    lab::test(|lab| {
        let cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let addresses = cluster.nodes.iter().map(|it| it.host.eth0.ipv4.into());
        let addresses: Vec<IpAddr> = addresses.collect();
        for node in &cluster.nodes {
            node.serve("mistake", &addresses)?;
        }
        for (number, address) in addresses.iter().enumerate() {
            let name = cluster.nodes[number].host.name();
            let told = format!("{address} is the address of {name} itself");
            for node in &cluster.nodes {
                wait_until(&told, Duration::from_secs(30), || {
                    let explained = node.explain(*address);
                    Ok(explained.is_ok_and(|it| {
                        it.candidates.is_empty()
                            && it.excluded.len() == 3
                            && it.excluded.values().all(|why| why.starts_with(&told))
                    }))
                })?;
            }
        }
        cluster.client.ip("neighbor flush dev eth0")?;
        for address in addresses {
            cluster.client.ping(address, Duration::from_secs(5))?;
        }
        let status = cluster.nodes[0].speaker("status")?.run()?;
        let told = "not announced: other nodes reach this node itself at this address";
        assert!(status.contains(told), "{status}");
        Ok(())
    });
}
