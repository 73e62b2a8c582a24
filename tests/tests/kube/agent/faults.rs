//! Nodes and API servers that are away.

use std::{net::SocketAddr, thread::sleep, time::Duration};

use anyhow::Result;
use speaker_tests::{
    asker::Asker,
    kube::{Backend, Site, Visitor, objects, site::WEB},
    lab,
    wait::wait_until,
};

use super::{V4, V6};
use crate::SOON;

/// More than any fail-over, on a machine that has much else to do; less than what kube-proxy and
/// the client add to it.
const FAIL_OVER: Duration = Duration::from_secs(3);

#[test]
fn a_node_dies_while_the_api_server_is_away_and_clients_notice_no_more_than_a_fail_over() {
    lab::test(|lab| {
        let mut site = Site::started(lab, 3)?;
        let _proxies = site.proxies()?;
        site.serve(&objects::service("web", &WEB), &[0, 1, 2], &[V4, V6])?;
        let owner = site.owner(V4)?;
        let others: Vec<usize> = (0..3).filter(|it| *it != owner).collect();
        // Served where nothing happens.
        let _backend = Backend::start(&site.nodes[others[0]].host, 8080)?;
        site.endpoints("web", &others[..1])?;
        let to = SocketAddr::new(V4, 80);
        site.until_reached(to, SOON)?;
        site.announced_by("web", Some(owner))?;

        site.kube.kill_api()?;
        let every = Duration::from_millis(20);
        let visitor = Visitor::start(&site.client, to, every, Duration::from_millis(500))?;
        sleep(Duration::from_millis(500));
        site.nodes[owner].host.eth0.port.cut()?;
        let next = site.owner_among(&others, V4)?;
        assert_eq!(site.owner_among(&others, V6)?, next);
        sleep(Duration::from_secs(1));
        let visits = visitor.stop();
        let gap = visits.longest_gap();
        assert!(gap < FAIL_OVER, "{gap:?}");
        println!("without an answer for {gap:?}");

        site.kube.start_api()?;
        site.announced_by("web", Some(next))?;
        Ok(())
    });
}

#[test]
fn an_agent_that_starts_while_the_api_server_is_away_goes_by_what_was_known_last() {
    lab::test(|lab| {
        let mut site = Site::started(lab, 2)?;
        site.serve(&objects::service("web", &WEB), &[0, 1], &[V4])?;
        let owner = site.owner(V4)?;
        // What is known is written down every few seconds.
        sleep(Duration::from_secs(6));
        site.kube.kill_api()?;
        let asker = Asker::start(&site.client, V4, Duration::from_millis(10))?;
        restart(&mut site, owner)?;
        assert_eq!(site.owner(V4)?, owner);
        asker
            .stop()?
            .assert_all_answered(100, site.nodes[owner].host.eth0.mac);
        let said = site.nodes[owner].log("the API server has not told all");
        assert!(
            said[0].contains("until it has, the configuration of"),
            "{said:?}"
        );
        let away = "the API server has not answered for";
        let status = site.nodes[owner].ask("status")?;
        assert!(status.contains(away), "{status}");

        // And what has changed in between is heard of when it is back.
        site.kube.start_api()?;
        let delete = ["delete", "service", "web"];
        site.kube.kubectl(delete).unheard().run()?;
        site.announced_by("web", None)?;
        let status = site.nodes[owner].ask("status")?;
        assert!(!status.contains(away), "{status}");
        Ok(())
    });
}

#[test]
fn agents_that_are_replaced_one_after_the_other_move_nothing_and_say_nothing_new() {
    lab::test(|lab| {
        let mut site = Site::started(lab, 3)?;
        let _proxies = site.proxies()?;
        let _backend = Backend::start(&site.nodes[0].host, 8080)?;
        site.serve(&objects::service("web", &WEB), &[0], &[V4])?;
        let owner = site.owner(V4)?;
        let to = SocketAddr::new(V4, 80);
        site.until_reached(to, SOON)?;
        wait_until("an event", SOON, || {
            Ok(!site.events("web", "nodeAssigned")?.is_empty())
        })?;

        let visitor = Visitor::start(&site.client, to, Duration::from_millis(50), SOON)?;
        let asker = Asker::start(&site.client, V4, Duration::from_millis(10))?;
        for number in 0..3 {
            restart(&mut site, number)?;
        }
        let asked = asker.stop()?;
        asked.assert_all_answered(50, site.nodes[owner].host.eth0.mac);
        let visits = visitor.stop();
        let failed = visits.failed();
        assert!(failed.is_empty(), "{failed:?}");
        site.announced_by("web", Some(owner))?;
        let events = site.events("web", "nodeAssigned")?;
        assert_eq!(events.len(), 1, "who announces is not news: {events:?}");
        Ok(())
    });
}

#[test]
fn a_watch_that_is_cut_silently_is_noticed_and_goes_on() {
    lab::test(|lab| {
        let site = Site::started(lab, 2)?;
        site.serve(&objects::service("web", &WEB), &[0, 1], &[V4])?;
        let owner = site.owner(V4)?;
        for node in &site.nodes {
            site.kube.cut(&node.host)?;
        }
        site.kube.ingress("default/web", &[V6])?;
        sleep(Duration::from_secs(2));
        assert_eq!(site.owner(V4)?, owner, "nobody has heard of it");
        for node in &site.nodes {
            site.kube.restore(&node.host)?;
        }
        let noticed = Duration::from_secs(60);
        wait_until("the nodes to hear of it", noticed, || {
            Ok(site.nodes.iter().all(|node| node.explain(V6).is_ok()))
        })?;
        site.owner(V6)?;
        Ok(())
    });
}

/// Stops an agent and starts it anew.
fn restart(site: &mut Site, number: usize) -> Result<()> {
    site.nodes[number].stop()?;
    site.nodes[number].start()
}
