//! What agents and controllers report about the configuration.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use speaker_tests::{
    kube::{
        Site, ask, objects,
        site::{NAMESPACE, WEB, advertisement},
    },
    lab::{self, Host},
    wait::wait_until,
};

use crate::{
    SOON,
    controller::{addresses, controller},
    delete,
};

/// Who has read the configuration, and what they report as wrong.
type States = BTreeMap<String, (String, String)>;

const AGENT: &str = "speaker-node-a";
const CONTROLLER: &str = "controller";
/// Where the agent and the controller serve their metrics.
const METRICS: [(&str, &str); 2] = [(AGENT, "127.0.0.1:9100"), (CONTROLLER, "127.0.0.1:7472")];

#[test]
fn configuration_states_name_what_is_refused_and_other_namespaces_have_no_effect() {
    lab::test(|lab| {
        let mut site = Site::new(lab, 1)?;
        let node = &mut site.nodes[0];
        node.arguments
            .push("--http=".to_owned() + address_of(AGENT));
        node.start()?;
        let mut controller = controller(&site, "first", 7472)?;
        states_are(&site, &[])?;
        a_configuration_state_is_invalid_only_where_something_is_refused(&site)?;
        objects_of_other_namespaces_have_no_effect(&site)?;
        // The next leader reports it in the same place.
        controller.terminate(SOON)?;
        site.apply_pool("other", &["10.0.0.0/24"])?;
        let _next = crate::controller::controller(&site, "second", 7472)?;
        states_are(&site, &[(AGENT, "overlaps"), (CONTROLLER, "overlaps")])
    });
}

fn a_configuration_state_is_invalid_only_where_something_is_refused(site: &Site) -> Result<()> {
    // Agents alone read advertisements.
    let twice = json!({ "ipAddressPools": ["lan", "lan"] });
    site.kube.apply(&advertisement("more", twice))?;
    states_are(site, &[(AGENT, "\"lan\" is listed twice")])?;
    site.apply_pool("other", &["10.0.0.0/24"])?;
    let overlaps = "overlaps";
    states_are(site, &[(AGENT, overlaps), (CONTROLLER, overlaps)])?;
    let since = transition(site, CONTROLLER)?;
    site.apply_pool("other", &["10.9.0.0-10.8.0.0"])?;
    states_are(
        site,
        &[(AGENT, "after the end"), (CONTROLLER, "after the end")],
    )?;
    assert_eq!(transition(site, CONTROLLER)?, since, "it was so before");
    delete(site, "ipaddresspool other")?;
    states_are(site, &[(AGENT, "\"lan\" is listed twice")])?;
    delete(site, "l2advertisement more")?;
    states_are(site, &[])
}

/// There are no webhooks here that would refuse them.
fn objects_of_other_namespaces_have_no_effect(site: &Site) -> Result<()> {
    let foreign = |mut object: Value| {
        object["metadata"]["namespace"] = json!("elsewhere");
        object
    };
    let pool = |name: &str, addresses: &str| {
        foreign(json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": { "name": name },
            "spec": { "addresses": [addresses] },
        }))
    };
    site.kube.apply(&objects::namespace("elsewhere"))?;
    site.kube.apply(&objects::list([
        pool("of-its-own", "192.0.2.0/24"),
        pool("overlapping", "10.0.0.0/24"),
        foreign(advertisement("all", json!({}))),
    ]))?;
    let mut web = objects::service("web", &WEB);
    web["metadata"]["annotations"] = json!({ "metallb.io/loadBalancerIPs": "10.0.0.7" });
    let mut abroad = objects::service("abroad", &WEB);
    abroad["metadata"]["annotations"] = json!({ "metallb.io/loadBalancerIPs": "192.0.2.7" });
    site.kube.apply(&objects::list([web, abroad]))?;
    site.endpoints("web", &[0])?;
    site.owner("10.0.0.7".parse()?)?;
    wait_until("an event that says why", SOON, || {
        let events = site.events("abroad", "AllocationFailed")?;
        Ok(events
            .iter()
            .any(|it| it.contains("no IPAddressPool holds 192.0.2.7")))
    })?;
    assert!(addresses(site, "abroad")?.is_empty());
    // Nor does an advertisement there announce anything.
    delete(site, "l2advertisement all")?;
    wait_until("the Service not to be announced", SOON, || {
        let reason = site.nodes[0].vip("10.0.0.7".parse()?)?.reason;
        Ok(reason.is_some_and(|it| it.contains("no L2Advertisement covers")))
    })?;
    states_are(site, &[])
}

/// Waits until exactly these report that something is wrong, in their metrics too.
fn states_are(site: &Site, invalid: &[(&str, &str)]) -> Result<()> {
    let mut last = (States::new(), Vec::new());
    let so = wait_until("the states", SOON, || {
        let said = states(site)?;
        let mut is_so = said.len() == METRICS.len();
        let mut stale = Vec::new();
        for (name, _) in METRICS {
            let wrong = invalid.iter().find(|(it, _)| *it == name);
            is_so &= said.get(name).is_some_and(|(result, summary)| match wrong {
                Some((_, text)) => result == "Invalid" && summary.contains(text),
                None => result == "Valid" && summary.is_empty(),
            });
            let is_stale = is_stale(site, name)?;
            is_so &= is_stale == wrong.is_some();
            stale.push(is_stale);
        }
        last = (said, stale);
        Ok(is_so)
    });
    so.with_context(|| format!("{invalid:?} is not {last:#?}"))
}

fn states(site: &Site) -> Result<States> {
    let list = site
        .kube
        .get(&format!("configurationstates --namespace={NAMESPACE}"))?;
    let items = list["items"].as_array().context("a list")?.iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = |item: &Value| {
        let status = &item["status"];
        let said = (text(&status["result"]), text(&status["errorSummary"]));
        (text(&item["metadata"]["name"]), said)
    };
    Ok(items.map(state).collect())
}

/// When a state last changed.
fn transition(site: &Site, name: &str) -> Result<Value> {
    let state = format!("configurationstate {name} --namespace={NAMESPACE}");
    let status = site.kube.get(&state)?["status"].take();
    Ok(status["conditions"][0]["lastTransitionTime"].clone())
}

fn is_stale(site: &Site, name: &str) -> Result<bool> {
    let host: &Host = match name {
        CONTROLLER => &site.kube.host,
        _ => &site.nodes[0].host,
    };
    let to = address_of(name).parse()?;
    // A controller's write may be in flight.
    let told = host.run(|| ask(to, "/metrics", SOON)).unwrap_or_default();
    Ok(told.contains("metallb_k8s_client_config_stale_bool 1"))
}

fn address_of(name: &str) -> &'static str {
    METRICS
        .iter()
        .find(|(it, _)| *it == name)
        .expect("both tell")
        .1
}
