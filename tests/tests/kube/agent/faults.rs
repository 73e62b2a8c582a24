//! Absent nodes and API servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use speaker_tests::{
    agent::HTTP,
    asker::Asker,
    kube::{
        Backend, Site, Visitor,
        objects::{self, Endpoint},
        site::WEB,
    },
    lab,
    wait::wait_until,
};

use super::{V4, V6};
use crate::SOON;

/// Longer than a watch lasts, and than the API server may be silent.
const AWAY: Duration = Duration::from_secs(65);
/// Three times what is promised, for a busy machine.
const FAIL_OVER: Duration = Duration::from_millis(1500);
/// What kube-proxy and the client may add.
const UNREACHED: Duration = Duration::from_secs(3);
/// More than it takes to notice that a connection is dead: the longest silence, and a new attempt.
const NOTICED: Duration = Duration::from_secs(90);
/// What the status says of an API server that is away.
const UNANSWERED: &str = "the API server has not answered for";

#[test]
fn fail_over_works_without_the_api_server() {
    lab::test(|lab| {
        let mut site = Site::new(lab, 3)?;
        for node in &mut site.nodes {
            node.arguments.extend(HTTP.map(str::to_owned));
            node.spawn()?;
        }
        let _proxies = site.proxies()?;
        site.serve(&objects::service("web", &WEB), &[], &[V4, V6])?;
        // On a host that survives, whichever nodes die.
        let _backend = Backend::start(&site.kube.host, 8080)?;
        let endpoint = Endpoint::on(&site.kube.host, false);
        let slice = objects::endpoint_slice("web", &[endpoint], &WEB);
        site.kube.apply(&slice)?;
        let first = site.owner(V4)?;
        let to = SocketAddr::new(V4, 80);
        site.until_reached(to, SOON)?;
        site.announced_by("web", Some(first))?;
        api_server_is_away(&site, false)?;

        let every = Duration::from_millis(50);
        let visitor = Visitor::start(&site.client, to, every, Duration::from_millis(500))?;
        site.kube.kill_api()?;
        let killed = Instant::now();
        let (mut owner, mut outages) = (first, Vec::new());
        // Before all watches have noticed its absence, and after the last one could have.
        for after in [Duration::ZERO, AWAY / 2, AWAY] {
            answers_until(&site, owner, killed + after)?;
            let (outage, next) = die(&site, owner)?;
            outages.push(outage);
            owner = next;
        }
        api_server_is_away(&site, true)?;
        let gap = visitor.stop().longest_gap();
        outages.sort();
        println!("VIPs without an answer for {outages:?}, clients for up to {gap:?}");
        assert!(outages[1] < FAIL_OVER, "{outages:?}");
        assert!(gap < UNREACHED, "{gap:?}");

        let back = SystemTime::now();
        site.kube.start_api()?;
        site.announced_by("web", Some(owner))?;
        api_server_is_away(&site, false)?;
        everything_is_listed_at_most_once(&site, back)
    });
}

/// Waits until then, while the owner answers everything.
fn answers_until(site: &Site, owner: usize, then: Instant) -> Result<()> {
    let asker = Asker::start(&site.client, V4, Duration::from_millis(50))?;
    sleep(then.saturating_duration_since(Instant::now()));
    let mac = site.nodes[owner].host.eth0.mac;
    asker.stop()?.assert_all_answered(1, mac);
    Ok(())
}

/// Cuts the owner off, and restores it when the VIPs are on another node. Returns how long nobody
/// answered, and who does now.
fn die(site: &Site, owner: usize) -> Result<(Duration, usize)> {
    let mac = |number: usize| site.nodes[number].host.eth0.mac;
    let asker = Asker::start(&site.client, V4, Duration::from_millis(10))?;
    sleep(Duration::from_millis(500));
    site.nodes[owner].host.eth0.port.cut()?;
    let others: Vec<usize> = (0..3).filter(|it| *it != owner).collect();
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

/// Waits until every agent's metrics and status report this reachability.
fn api_server_is_away(site: &Site, is_away: bool) -> Result<()> {
    let series = format!("speaker_api_server_reachable {}\n", u8::from(!is_away));
    for node in &site.nodes {
        wait_until(&format!("{series:?} of {}", node.host.name()), SOON, || {
            let status = node.ask("status")?;
            Ok(node.get("/metrics")?.contains(&series) && status.contains(UNANSWERED) == is_away)
        })?;
    }
    Ok(())
}

/// By each agent, since the API server is back.
fn everything_is_listed_at_most_once(site: &Site, back: SystemTime) -> Result<()> {
    // The longest wait before a watch is retried.
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
fn an_agent_that_starts_without_the_api_server_uses_the_last_known_configuration() {
    lab::test(|lab| {
        let mut site = Site::started(lab, 2)?;
        site.serve(&objects::service("web", &WEB), &[0, 1], &[V4])?;
        let owner = site.owner(V4)?;
        for number in 0..2 {
            site.remembers(number, V4)?;
        }
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
        let status = site.nodes[owner].ask("status")?;
        assert!(status.contains(UNANSWERED), "{status}");

        // And changes in the meantime take effect when it is back.
        site.kube.start_api()?;
        let delete = ["delete", "service", "web"];
        site.kube.kubectl(delete).unheard().run()?;
        site.announced_by("web", None)?;
        let status = site.nodes[owner].ask("status")?;
        assert!(!status.contains(UNANSWERED), "{status}");
        Ok(())
    });
}

#[test]
fn a_rolling_update_of_agents_moves_no_vip_and_writes_no_event() {
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
            // As a DaemonSet does: for a moment, the node has no pod.
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
fn a_silently_cut_watch_is_noticed_and_resumed() {
    lab::test(|lab| {
        let site = Site::started(lab, 2)?;
        site.serve(&objects::service("web", &WEB), &[0, 1], &[V4])?;
        let owner = site.owner(V4)?;
        for node in &site.nodes {
            site.kube.sever(&node.host)?;
        }
        site.kube.ingress("default/web", &[V6])?;
        let severed = Instant::now();
        let heard = || site.nodes.iter().filter(|node| node.explain(V6).is_ok());
        sleep(Duration::from_secs(5));
        assert_eq!(heard().count(), 0, "the watches still work");
        assert_eq!(site.owner(V4)?, owner);
        wait_until("the nodes to hear of it", NOTICED, || {
            Ok(heard().count() == site.nodes.len())
        })?;
        println!("noticed after {:?}", severed.elapsed());
        site.owner(V6)?;
        Ok(())
    });
}

/// Stops an agent and starts it again.
fn restart(site: &mut Site, number: usize) -> Result<()> {
    site.nodes[number].stop()?;
    site.nodes[number].start()
}
