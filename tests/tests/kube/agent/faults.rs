//! Nodes and API servers that are away.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    thread::sleep,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use speaker_tests::{
    asker::Asker,
    kube::{Backend, Site, Visitor, objects, site::WEB},
    lab,
    wait::wait_until,
};

use super::{V4, V6};
use crate::SOON;

/// Longer than a watch lasts, and than the API server may be silent.
const AWAY: Duration = Duration::from_secs(65);
/// Three times what is promised, on a machine that has much else to do.
const FAIL_OVER: Duration = Duration::from_millis(1500);
/// What kube-proxy and the client may add to it.
const UNREACHED: Duration = Duration::from_secs(3);

#[test]
fn nodes_die_while_the_api_server_is_away_and_clients_notice_no_more_than_a_fail_over() {
    lab::test(|lab| {
        let mut site = Site::started(lab, 3)?;
        let _proxies = site.proxies()?;
        site.serve(&objects::service("web", &WEB), &[0, 1, 2], &[V4, V6])?;
        let first = site.owner(V4)?;
        // Served where nothing happens.
        let served = others(first)[0];
        let _backend = Backend::start(&site.nodes[served].host, 8080)?;
        site.endpoints("web", &[served])?;
        let to = SocketAddr::new(V4, 80);
        site.until_reached(to, SOON)?;
        site.announced_by("web", Some(first))?;

        site.kube.kill_api()?;
        sleep(AWAY);
        let every = Duration::from_millis(20);
        let visitor = Visitor::start(&site.client, to, every, Duration::from_millis(500))?;
        let (outage, mut owner) = die(&site, first)?;
        let gap = visitor.stop().longest_gap();
        println!("clients without an answer for {gap:?}");
        assert!(gap < UNREACHED, "{gap:?}");
        let mut outages = vec![outage];
        for _ in 0..2 {
            let (outage, next) = die(&site, owner)?;
            outages.push(outage);
            owner = next;
        }
        outages.sort();
        println!("VIPs without an answer for {outages:?}");
        assert!(outages[1] < FAIL_OVER, "{outages:?}");
        let asker = Asker::start(&site.client, V4, Duration::from_millis(50))?;
        sleep(AWAY);
        asker
            .stop()?
            .assert_all_answered(500, site.nodes[owner].host.eth0.mac);

        let back = SystemTime::now();
        site.kube.start_api()?;
        site.announced_by("web", Some(owner))?;
        everything_is_listed_once_at_most(&site, back)
    });
}

/// Cuts the owner off, and brings it back when the VIPs are at another. How long nobody answered,
/// and who does.
fn die(site: &Site, owner: usize) -> Result<(Duration, usize)> {
    let mac = |number: usize| site.nodes[number].host.eth0.mac;
    let asker = Asker::start(&site.client, V4, Duration::from_millis(10))?;
    sleep(Duration::from_millis(500));
    site.nodes[owner].host.eth0.port.cut()?;
    let others = others(owner);
    let next = site.owner_among(&others, V4)?;
    assert_eq!(site.owner_among(&others, V6)?, next);
    sleep(Duration::from_secs(1));
    let asked = asker.stop()?;
    site.nodes[owner].host.eth0.port.restore()?;
    assert_eq!(site.owner(V4)?, next, "it takes nothing back");
    assert_eq!(asked.answered_by(), [mac(owner), mac(next)]);
    let answerers = asked.answerers();
    let outage = answerers[1].first.duration_since(answerers[0].last)?;
    Ok((outage, next))
}

fn others(owner: usize) -> Vec<usize> {
    (0..3).filter(|it| *it != owner).collect()
}

/// By each agent, since the API server is back.
fn everything_is_listed_once_at_most(site: &Site, back: SystemTime) -> Result<()> {
    // The longest wait before a watch is tried again.
    sleep(Duration::from_secs(30));
    let mut lists: BTreeMap<_, usize> = BTreeMap::new();
    let mut watched = BTreeSet::new();
    for request in site.kube.requests()? {
        if request.at < back {
            continue;
        }
        let what = (request.from, request.resource);
        match &*request.verb {
            "list" if request.code == 200 => *lists.entry(what).or_default() += 1,
            "watch" => drop(watched.insert(request.from)),
            _ => {}
        }
    }
    assert!(lists.values().all(|count| *count == 1), "{lists:#?}");
    assert_eq!(watched.len(), 3, "{watched:?}");
    Ok(())
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
        let said = site.nodes[owner].log("the API server has not returned all lists");
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
            // As a DaemonSet does it: for a moment, the node has no pod.
            site.nodes[number].stop()?;
            site.delete_pod(number)?;
            sleep(Duration::from_millis(500));
            site.add_pod(number)?;
            site.nodes[number].start()?;
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

/// Stops an agent and starts it again.
fn restart(site: &mut Site, number: usize) -> Result<()> {
    site.nodes[number].stop()?;
    site.nodes[number].start()
}
