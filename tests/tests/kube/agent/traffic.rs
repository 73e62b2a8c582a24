//! What clients of Services get, and what operators see.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::json;
use speaker_tests::{
    agent::Node,
    kube::{
        Backend, Site, ask, get, get_udp,
        objects::{self, Endpoint, Port},
        site::WEB,
    },
    lab,
    wait::{wait_for, wait_until},
};

use super::{V4, V6};
use crate::SOON;

/// A web server that speaks both.
const BOTH: [Port<'static>; 2] = [("TCP", 80, 8080), ("UDP", 80, 8080)];
/// Where agents serve their metrics.
const METRICS: &str = "127.0.0.1:9100";

#[test]
fn traffic_and_metrics_are_as_with_metallb() {
    lab::test(|lab| {
        let mut site = Site::new(lab, 2)?;
        for node in &mut site.nodes {
            let flags = ["--failback=immediate", "--on-stop=handover"];
            node.arguments.extend(flags.map(str::to_owned));
            node.arguments.push(format!("--http={METRICS}"));
            node.spawn()?;
        }
        let _proxies = site.proxies()?;
        let _backends = [
            Backend::start(&site.nodes[0].host, 8080)?,
            Backend::start(&site.nodes[1].host, 8080)?,
        ];
        with_policy_local_the_answering_node_serves_tcp_and_udp_itself(&site)?;
        metrics_of_a_vip_are_on_its_owner_and_end_with_the_service(&site)?;
        services_that_share_one_of_two_addresses_have_one_announcer(&site)?;
        a_removed_agent_is_succeeded_and_takes_its_vips_back_with_failback(&mut site)
    });
}

fn with_policy_local_the_answering_node_serves_tcp_and_udp_itself(site: &Site) -> Result<()> {
    let mut service = objects::service("web", &BOTH);
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    let slices = [false, true].map(|is_ipv6| {
        let endpoints = site
            .nodes
            .iter()
            .map(|node| Endpoint::on(&node.host, is_ipv6));
        objects::endpoint_slice("web", &endpoints.collect::<Vec<_>>(), &BOTH)
    });
    let [v4, v6] = slices;
    site.kube.apply(&objects::list([service, v4, v6]))?;
    site.kube.ingress("default/web", &[V4, V6])?;
    let owner = site.owner(V4)?;
    assert_eq!(site.owner(V6)?, owner);
    site.announced_by("web", Some(owner))?;
    let name = site.nodes[owner].host.name();
    let client = &site.client;
    for (vip, own) in [
        (V4, IpAddr::from(client.eth0.ipv4)),
        (V6, client.eth0.ipv6.into()),
    ] {
        let to = SocketAddr::new(vip, 80);
        wait_until("kube-proxy to know of it", SOON, || {
            let second = Duration::from_secs(1);
            let replies = [get(client, to, second), get_udp(client, to, second)];
            Ok(replies.iter().all(Result::is_ok))
        })?;
        for _ in 0..10 {
            for reply in [get(client, to, SOON)?, get_udp(client, to, SOON)?] {
                assert_eq!(reply.node, name, "an endpoint of another node");
                assert_eq!(reply.client, own, "the client is not hidden");
            }
        }
    }
    Ok(())
}

fn metrics_of_a_vip_are_on_its_owner_and_end_with_the_service(site: &Site) -> Result<()> {
    let owner = site.owner(V4)?;
    let name = site.nodes[owner].host.name();
    let announced = |ip| {
        format!(
            "metallb_speaker_announced{{service=\"default/web\",protocol=\"layer2\",\
             node=\"{name}\",ip=\"{ip}\"}}"
        )
    };
    let told = metrics(&site.nodes[owner])?;
    for vip in [V4, V6] {
        assert_eq!(value(&told, &announced(vip)), Some(1), "{told}");
        for count in ["requests_received", "responses_sent", "gratuitous_sent"] {
            let series = format!("metallb_layer2_{count}{{ip=\"{vip}\"}}");
            let count = value(&told, &series);
            assert!(count.is_some_and(|it| it > 0), "{series} in {told}");
        }
    }
    let is_told = |node: &Node| -> Result<bool> {
        let told = metrics(node)?;
        let mut lines = told.lines().filter(|line| line.starts_with("metallb_"));
        Ok(lines.any(|line| line.contains("default/web") || line.contains("ip=\"")))
    };
    assert!(!is_told(&site.nodes[1 - owner])?);
    delete_service(site, "web")?;
    wait_until("the owner's metrics to go", SOON, || {
        Ok(!is_told(&site.nodes[owner])?)
    })?;
    site.announced_by("web", None)
}

fn services_that_share_one_of_two_addresses_have_one_announcer(site: &Site) -> Result<()> {
    let ip = |text: &str| text.parse::<IpAddr>().context(text.to_owned());
    // By their hashes, the first is for node-a and the second for node-b.
    let (first, second, shared) = (ip("10.0.0.235")?, ip("10.0.0.230")?, ip("fd00::99")?);
    for (name, vips) in [("one", [first, shared]), ("other", [second, shared])] {
        site.serve(&objects::service(name, &WEB), &[0, 1], &vips)?;
    }
    let owner = wait_for("one owner of all", SOON, || {
        let owners = [site.owner(first)?, site.owner(second)?, site.owner(shared)?];
        Ok((owners == [owners[0]; 3]).then_some(owners[0]))
    })?;
    for name in ["one", "other"] {
        site.announced_by(name, Some(owner))?;
    }
    // Once they no longer share, each is where its own address puts it.
    site.kube.ingress("default/one", &[first])?;
    wait_until("each to have an owner of its own", SOON, || {
        Ok(site.owner(first)? == 0 && site.owner(second)? == 1)
    })?;
    for name in ["one", "other"] {
        delete_service(site, name)?;
        site.announced_by(name, None)?;
    }
    Ok(())
}

fn a_removed_agent_is_succeeded_and_takes_its_vips_back_with_failback(
    site: &mut Site,
) -> Result<()> {
    site.serve(&objects::service("web", &WEB), &[0, 1], &[V4])?;
    let owner = site.owner(V4)?;
    let other = 1 - owner;
    site.delete_pod(owner)?;
    site.nodes[owner].stop()?;
    assert_eq!(site.owner_among(&[other], V4)?, other);
    site.announced_by("web", Some(other))?;
    site.add_pod(owner)?;
    site.nodes[owner].start()?;
    wait_until("it to have the VIP again", SOON, || {
        Ok(site.owner(V4)? == owner)
    })?;
    site.announced_by("web", Some(owner))
}

fn delete_service(site: &Site, name: &str) -> Result<()> {
    let delete = ["delete", "service", name];
    site.kube.kubectl(delete).unheard().run().map(drop)
}

fn metrics(node: &Node) -> Result<String> {
    let to = METRICS.parse()?;
    node.host.run(|| ask(to, "/metrics", SOON))
}

/// The value of a series, by its name and labels.
fn value(metrics: &str, series: &str) -> Option<u64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}
