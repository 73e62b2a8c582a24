//! Which nodes may announce: their labels and conditions, and where endpoints are.

use anyhow::{Context as _, Result};
use serde_json::json;
use speaker_tests::{
    kube::{
        Site, objects,
        site::{NAMESPACE, WEB, advertisement},
    },
    lab,
    wait::wait_until,
};

use super::V4;
use crate::SOON;

const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

fn moved_to(site: &Site, node: usize) -> Result<()> {
    let moved = wait_until(&format!("the VIP on node {node}"), SOON, || {
        Ok(site.owner(V4)? == node)
    });
    moved.with_context(|| {
        let views = site.nodes.iter().map(|node| node.explain(V4));
        format!("{:#?}", views.collect::<Vec<_>>())
    })
}

#[test]
fn the_exclude_label_and_network_unavailable_move_a_vip_away_and_failback_returns_it() {
    lab::test(|lab| {
        let mut site = Site::new(lab, 3)?;
        for node in &mut site.nodes {
            node.arguments.push("--failback=immediate".to_owned());
            node.spawn()?;
        }
        site.serve(&objects::service("web", &WEB), &[0, 1, 2], &[V4])?;
        let first = site.owner(V4)?;
        let node = format!("node {}", site.nodes[first].host.name());
        let name = site.nodes[first].host.name().to_owned();

        site.label(&node, &[&format!("{EXCLUDE}=")])?;
        wait_until("the excluded node to give it up", SOON, || {
            Ok(site.owner(V4)? != first)
        })?;
        let second = site.owner(V4)?;
        site.announced_by("web", Some(second))?;
        site.label(&node, &[&format!("{EXCLUDE}-")])?;
        moved_to(&site, first)?;

        let down = json!({ "conditions": [{ "type": "NetworkUnavailable", "status": "True" }] });
        site.kube.patch_status(&format!("node/{name}"), &down)?;
        moved_to(&site, second)?;
        let up = json!({ "conditions": [{ "type": "NetworkUnavailable", "status": "False" }] });
        site.kube.patch_status(&format!("node/{name}"), &up)?;
        moved_to(&site, first)?;

        // A preference decides before the hash does; weights add up over advertisements.
        let prefer = |weight: u32, rack: &str| {
            let rack = json!({ "matchLabels": { "rack": rack } });
            json!({ "preferredNodeSelectors": [{ "weight": weight, "preference": rack }] })
        };
        for (number, node) in site.nodes.iter().enumerate() {
            let node = format!("node {}", node.host.name());
            site.label(&node, &[&format!("rack={}", u8::from(number == second))])?;
        }
        site.kube.apply(&advertisement("some", prefer(60, "0")))?;
        site.kube.apply(&advertisement("more", prefer(50, "1")))?;
        site.kube.apply(&advertisement("most", prefer(60, "1")))?;
        moved_to(&site, second)?;
        for name in ["more", "most"] {
            let delete = format!("delete l2advertisement {name} --namespace=speaker-system");
            site.kube.kubectl(delete.split(' ')).unheard().run()?;
        }
        moved_to(&site, first)?;
        Ok(())
    });
}

#[test]
fn with_policy_local_the_vip_follows_the_endpoints() {
    lab::test(|lab| {
        let site = Site::started(lab, 3)?;
        let mut service = objects::service("web", &WEB);
        service["spec"]["externalTrafficPolicy"] = json!("Local");
        site.serve(&service, &[1], &[V4])?;
        for node in [1, 2, 0] {
            site.endpoints("web", &[node])?;
            moved_to(&site, node)?;
            site.announced_by("web", Some(node))?;
        }
        // Endpoint and advertisement on different nodes: no announcer.
        let elsewhere = json!({
            "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "node-c" } }],
        });
        site.kube.apply(&advertisement("all", elsewhere))?;
        site.unanswered(V4)?;
        site.announced_by("web", None)?;
        wait_until("an event that says why", SOON, || {
            let events = site.events("web", "announceFailed")?;
            Ok(events.iter().any(|event| event.contains("selects nodes")))
        })?;
        service["spec"]["externalTrafficPolicy"] = json!("Cluster");
        site.kube.apply(&service)?;
        moved_to(&site, 2)?;
        Ok(())
    });
}

#[test]
fn a_node_whose_name_is_too_long_for_a_label_is_reported() {
    lab::test(|lab| {
        let mut site = Site::new(lab, 0)?;
        let name = format!("{}.example", "n".repeat(56));
        assert_eq!(name.len(), 64);
        let node = site.add_node(lab, &name)?;
        site.nodes[node].start()?;
        site.serve(&objects::service("web", &WEB), &[node], &[V4])?;
        site.announced_by("web", Some(node))?;
        let state = format!("configurationstate speaker-{name} --namespace={NAMESPACE}");
        wait_until("its verdict", SOON, || {
            let state = site.kube.get(&state);
            Ok(state.is_ok_and(|it| it["status"]["result"] == "Valid"))
        })
    });
}
