//! Networks that split, or carry frames one way only.

use std::{
    thread::sleep,
    time::{Duration, SystemTime},
};

use speaker_tests::{
    agent::Mode,
    asker::Asker,
    cluster::Cluster,
    lab::{self, Direction},
};

use crate::{ASIDE, EVERY, FAIL_OVER, VIP, VIPS, asked};

/// How long both sides of a split may answer after it has ended, even on a busy machine.
const SETTLED: Duration = Duration::from_secs(5);

/// The owner is on the smaller side, with its own client.
#[test]
fn in_a_split_each_side_answers_its_clients_and_one_node_after_it_heals() {
    lab::test(|lab| {
        let cluster = Cluster::started(lab, 5, Mode::Generic, &[&VIPS])?;
        let far = lab.host("far")?;
        let owner = cluster.owner(VIP)?;
        let others = cluster.others(owner);
        let (with_owner, rest) = others.split_at(1);
        let aside = [owner, with_owner[0]];

        let here = Asker::start(&cluster.client, VIP, EVERY)?;
        let there = Asker::start(&far, VIP, EVERY)?;
        sleep(Duration::from_millis(200));
        far.eth0.port.move_to(ASIDE)?;
        for node in aside {
            cluster.nodes[node].host.eth0.port.move_to(ASIDE)?;
        }
        let next = cluster.agreed(rest, VIP)?;
        sleep(Duration::from_secs(1));
        assert_eq!(cluster.agreed(&aside, VIP)?, owner);
        // Within a side, no request was answered twice.
        let (here, there) = (here.stop()?, there.stop()?);
        assert_eq!(here.answered_by(), [cluster.mac(owner), cluster.mac(next)]);
        assert_eq!(there.answered_by(), [cluster.mac(owner)]);
        for side in [here, there] {
            let outage = side.outage();
            assert!(outage < FAIL_OVER, "{outage:?}");
            println!("outage: {outage:?}");
        }

        let asker = Asker::start(&cluster.client, VIP, EVERY)?;
        let healed = SystemTime::now();
        for node in aside {
            cluster.nodes[node].host.eth0.port.restore()?;
        }
        assert_eq!(cluster.owner(VIP)?, next, "the larger side keeps it");
        sleep(Duration::from_millis(500));
        let (asked, seconds) = asker.stop_and_count()?;
        let overlap = seconds.iter().map(|(at, _)| *at).max();
        let overlap = overlap.map_or(Duration::ZERO, |last| {
            last.duration_since(healed).unwrap_or_default()
        });
        assert!(overlap < SETTLED, "{overlap:?}");
        println!("overlap: {overlap:?}, outage: {:?}", asked.outage());
        Ok(())
    });
}

/// It hears nothing, and so believes itself alone after a while; all hear its announcements.
#[test]
fn a_deaf_nodes_vips_are_taken_over_and_it_takes_no_clients() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Generic, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let others = cluster.others(owner);
        let (asked, next) = asked(&mut cluster, VIP, |cluster| {
            let port = &cluster.nodes[owner].host.eth0.port;
            port.lose(1.0, Direction::ToHost)?;
            let next = cluster.agreed(&others, VIP)?;
            // Its next life waits for others for three seconds, and then announces what it owns.
            sleep(Duration::from_secs(6));
            Ok(next)
        })?;
        assert_eq!(asked.answered_by(), [cluster.mac(owner), cluster.mac(next)]);
        let outage = asked.outage();
        assert!(outage < FAIL_OVER, "{outage:?}");
        println!("outage: {outage:?}");
        Ok(())
    });
}
