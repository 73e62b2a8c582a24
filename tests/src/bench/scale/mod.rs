//! A large cluster: thousands of Services and 200 nodes on a real API server.
//!
//! Three nodes run agents. The others exist only at the API server: a Node, the pod of its agent,
//! endpoints. Their agents never answer, so the three keep contacting them, as they would contact
//! nodes that are down.

mod changes;
mod objects;
mod vips;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};

use super::{Limit, Row, median, quantile, usage::Usage};
use crate::{
    agent::Node,
    kube::{Request, Site},
    lab::{Lab, Process},
    wait::wait_until,
};
use vips::Vips;

/// All nodes, and those with agents.
const NODES: usize = 200;
const AGENTS: u8 = 3;
/// The pool.
const POOL: &str = "10.32.0.0/15";
/// More than anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);
/// A change has settled when nothing has been written for this long.
const QUIET: Duration = Duration::from_secs(5);
/// The duration of the steady state: two turns of each watch.
const STEADY: Duration = Duration::from_secs(60);

/// Measures all rows.
pub(super) fn run(services: usize) -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let mut site = Site::new(&lab, AGENTS)?;
    site.apply_pool("lan", &[POOL])?;
    objects::write(&site, services)?;

    let mut rows = vec![Row::new("Services", services as f64, "Services")];
    let begun = Instant::now();
    for node in &mut site.nodes {
        node.spawn()?;
    }
    for node in &mut site.nodes {
        node.agent().wait_for_line("ready", LIMIT)?;
    }
    let started = begun.elapsed().as_secs_f64();
    rows.push(Row::new(
        "start of three agents at once, to ready",
        started,
        "s",
    ));
    let vips = site.nodes.iter().map(|node| Vips::open(&node.host));
    let vips: Vec<Vips> = vips.collect::<Result<_>>()?;

    let controller = site.controller("bench", &["--no-webhooks"])?;
    let mut controller = controller.unheard().spawn()?;
    rows.extend(allocation(&site, &vips, &controller, services)?);
    rows.extend(steady(&mut site, &controller)?);
    controller.kill()?;
    rows.extend(changes::measure(&site, &vips, services)?);
    let ended = |node: &mut Node| node.log("this node gives up its VIPs").len();
    let ended: usize = site.nodes.iter_mut().map(ended).sum();
    rows.push(Row::new("leases lost", ended as f64, "leases").within(Limit::AtMost(0.0)));
    Ok(rows)
}

/// All Services get addresses, and all addresses are answered.
fn allocation(
    site: &Site,
    vips: &[Vips],
    controller: &Process,
    services: usize,
) -> Result<Vec<Row>> {
    let (begun, wall) = (Instant::now(), SystemTime::now());
    wait_until("all VIPs to be answered", LIMIT, || {
        sleep(Duration::from_millis(200));
        let answering = vips.iter().map(Vips::answering).sum::<Result<usize>>()?;
        Ok(answering == services)
    })?;
    let answered = begun.elapsed();
    quiet(site)?;
    let requests = site.kube.requests()?;
    let of = |account: &'static str| requests.iter().filter(move |it| it.account == account);
    let gave = |it: &&Request| it.resource == "services/status" && it.code == 200;
    let given = of("speaker-controller").filter(gave).map(|it| it.at);
    let last = given.max().context("no Service was given an address")?;
    let after = |it: &&Request| it.at >= wall;
    let per_service = |count: usize| count as f64 / services as f64;
    let agents = of("speaker-agent").filter(after).count();
    let controllers = of("speaker-controller").count();
    let seconds = last.duration_since(wall)?.as_secs_f64();
    Ok(vec![
        Row::new("controller, start to the last address given", seconds, "s"),
        Row::new(
            "controller, start to the last VIP in a map",
            answered.as_secs_f64(),
            "s",
        ),
        Row::new(
            "controller, requests per Service given an address",
            per_service(controllers),
            "requests",
        ),
        Row::new(
            "controller, CPU for all",
            Usage::of(controller)?.cpu.as_secs_f64(),
            "s",
        ),
        Row::new(
            "agents, requests per Service announced",
            per_service(agents),
            "requests",
        ),
    ])
}

/// Waits until neither agents nor the controller write anything more.
fn quiet(site: &Site) -> Result<()> {
    let is_recent = |it: &Request| it.at.elapsed().is_ok_and(|ago| ago <= QUIET);
    // The Lease is renewed forever.
    let is_write =
        |it: &Request| !matches!(&*it.verb, "watch" | "list" | "get") && it.resource != "leases";
    let mut recent = BTreeMap::<String, usize>::new();
    wait_until("silence", LIMIT, || {
        sleep(Duration::from_secs(1));
        recent.clear();
        let requests = site.kube.requests()?;
        for it in requests.iter().filter(|it| is_write(it) && is_recent(it)) {
            let what = format!("{} {} {}: {}", it.account, it.verb, it.resource, it.code);
            *recent.entry(what).or_default() += 1;
        }
        Ok(recent.is_empty())
    })
    .with_context(|| format!("written in the last {QUIET:?}: {recent:#?}"))
}

/// Nothing happens.
fn steady(site: &mut Site, controller: &Process) -> Result<Vec<Row>> {
    let usage = |site: &mut Site| -> Result<Vec<Usage>> {
        let agents = site.nodes.iter_mut().map(|node| Usage::of(node.agent()));
        agents.chain([Usage::of(controller)]).collect()
    };
    let before = usage(site)?;
    let from = SystemTime::now();
    sleep(STEADY);
    let after = usage(site)?;
    let mut counts: BTreeMap<(String, IpAddr), usize> = BTreeMap::new();
    for request in site.kube.requests()? {
        if request.at >= from {
            let who = (request.account, request.from);
            *counts.entry(who).or_default() += 1;
        }
    }
    let minutes = STEADY.as_secs_f64() / 60.0;
    let rate = |account: &str| {
        let its = counts.iter().filter(|((it, _), _)| it == account);
        its.map(|(_, count)| *count as f64 / minutes)
            .fold(0.0, f64::max)
    };
    let share = |(after, before): (&Usage, &Usage)| {
        100.0 * (after.cpu - before.cpu).as_secs_f64() / STEADY.as_secs_f64()
    };
    let mut shares: Vec<f64> = after.iter().zip(&before).map(share).collect();
    let controllers = shares.pop().context("there is a controller")?;
    let (controller, agents) = after.split_last().context("there is a controller")?;
    let memory = agents.iter().map(|it| it.resident).fold(0.0, f64::max);
    Ok(vec![
        Row::new("steady: memory of an agent", memory, "MiB"),
        Row::new(
            "steady: CPU of an agent, of one core",
            median(&mut shares),
            "%",
        ),
        Row::new(
            "steady: requests of an agent",
            rate("speaker-agent"),
            "requests/min",
        ),
        Row::new(
            "steady: memory of the controller",
            controller.resident,
            "MiB",
        ),
        Row::new(
            "steady: CPU of the controller, of one core",
            controllers,
            "%",
        ),
        Row::new(
            "steady: requests of the controller",
            rate("speaker-controller"),
            "requests/min",
        ),
    ])
}

/// The rows of times in milliseconds.
fn times(case: &str, values: &mut [f64]) -> [Row; 2] {
    [("p50", 0.5), ("p99", 0.99)]
        .map(|(name, share)| Row::new(format!("{case}, {name}"), quantile(values, share), "ms"))
}
