//! The death of an agent is a non-event for the others too.

use std::{thread::sleep, time::Duration};

use speaker_tests::{agent::Mode, cluster::Cluster, lab};

use crate::{VIP, VIPS, asked, in_time, restarted};

#[test]
fn one_of_three_answers_and_all_know_the_order() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        for vip in VIPS {
            let (asked, ()) = asked(&mut cluster, vip, |_| {
                sleep(Duration::from_secs(1));
                Ok(())
            })?;
            asked.assert_all_answered(100, cluster.mac(owner));
        }
        for node in &cluster.nodes {
            let explanation = node.explain(VIP)?;
            let candidates = explanation.candidates.iter();
            let names: Vec<&str> = candidates.clone().map(|it| it.node.as_str()).collect();
            // `node-x#10.0.0.240`, by SHA-256.
            assert_eq!(names, ["node-c", "node-a", "node-b"]);
            for (number, candidate) in [2, 0, 1].into_iter().zip(&explanation.candidates) {
                let standing = if number == owner { "owner" } else { "ready" };
                assert_eq!(candidate.standing, standing, "{explanation:?}");
            }
        }
        Ok(())
    });
}

/// Again and again, as when it crashes shortly after each start.
#[test]
fn a_killed_and_restarted_agent_moves_nothing() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Native, &[&VIPS])?;
        let (asked, owner, epoch) = in_time(|| {
            let owner = cluster.owner(VIP)?;
            let epoch = cluster.nodes[owner].explain(VIP)?.epoch;
            let (asked, in_time) = asked(&mut cluster, VIP, |cluster| {
                let mut in_time = true;
                for _ in 0..3 {
                    in_time &= restarted(&mut cluster.nodes[owner])?;
                }
                sleep(Duration::from_millis(1_500));
                Ok(in_time)
            })?;
            Ok(in_time.then_some((asked, owner, epoch)))
        })?;
        asked.assert_all_answered(300, cluster.mac(owner));
        assert_eq!(cluster.owner(VIP)?, owner);
        assert_eq!(cluster.nodes[owner].explain(VIP)?.epoch, epoch);
        Ok(())
    });
}

#[test]
fn an_absent_agents_vips_are_taken_over_once_its_kernel_has_stopped() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let others = cluster.others(owner);
        let (asked, next) = asked(&mut cluster, VIP, |cluster| {
            cluster.nodes[owner].agent().kill()?;
            sleep(Duration::from_millis(2_000));
            cluster.agreed(&others, VIP)
        })?;
        assert_eq!(asked.answered_by(), [cluster.mac(owner), cluster.mac(next)]);
        let status = cluster.nodes[owner].speaker("status")?.run()?;
        let said = " ago: nothing is answered until an agent runs again";
        assert!(status.contains(said), "{status}");
        Ok(())
    });
}

#[test]
fn a_rolling_agent_upgrade_moves_nothing() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
            for node in &mut cluster.nodes {
                node.stop()?;
                sleep(Duration::from_secs(1));
                node.start()?;
                sleep(Duration::from_millis(500));
            }
            Ok(())
        })?;
        asked.assert_all_answered(500, cluster.mac(owner));
        assert_eq!(cluster.owner(VIP)?, owner);
        Ok(())
    });
}

#[test]
fn an_agent_frozen_for_a_second_is_not_missed() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let (asked, ()) = asked(&mut cluster, VIP, |cluster| {
            cluster.nodes[owner].agent().freeze()?;
            sleep(Duration::from_secs(1));
            cluster.nodes[owner].agent().thaw()?;
            sleep(Duration::from_millis(500));
            Ok(())
        })?;
        asked.assert_all_answered(200, cluster.mac(owner));
        Ok(())
    });
}

/// While its agent is frozen for longer than its grace, the kernel stops, and then another node
/// takes over.
fn stands_still_for(span: Duration) {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let others = cluster.others(owner);
        let (asked, next) = asked(&mut cluster, VIP, |cluster| {
            cluster.nodes[owner].agent().freeze()?;
            sleep(span);
            let next = cluster.agreed(&others, VIP)?;
            cluster.nodes[owner].agent().thaw()?;
            assert_eq!(cluster.owner(VIP)?, next, "it takes nothing back");
            Ok(next)
        })?;
        assert_eq!(asked.answered_by(), [cluster.mac(owner), cluster.mac(next)]);
        Ok(())
    });
}

#[test]
fn agent_frozen_for_5_s_takes_nothing_back() {
    stands_still_for(Duration::from_secs(5));
}

#[test]
fn agent_frozen_for_30_s_takes_nothing_back() {
    stands_still_for(Duration::from_secs(30));
}
