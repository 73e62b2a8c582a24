//! Next to MetalLB, whose speakers write objects of the same kinds.

use std::{
    iter,
    net::IpAddr,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use speaker_tests::{
    kube::{
        Site, objects,
        site::{NAMESPACE, WEB},
    },
    lab,
    wait::wait_until,
};

use crate::SOON;

/// The node of the MetalLB speaker that announces everything.
const NODE: &str = "node-a";
/// A writer whose changes are undone would write several times within this time, even if less and
/// less often.
const WATCHED: Duration = Duration::from_secs(12);

#[test]
fn metallbs_statuses_are_left_alone_until_metallb_is_gone() {
    lab::test(|lab| {
        let site = Site::started(lab, 2)?;
        // By their hashes, the first is for node-a and the second for node-b.
        let vips: [IpAddr; 2] = ["10.0.0.235".parse()?, "10.0.0.230".parse()?];
        let services = ["near", "far"];
        for (service, vip) in services.into_iter().zip(vips) {
            site.serve(&objects::service(service, &WEB), &[0, 1], &[vip])?;
        }
        for (owner, service) in services.into_iter().enumerate() {
            site.announced_by(service, Some(owner))?;
        }
        metallbs_statuses_are_not_overwritten(&site, services)?;

        // As when its pods are gone, with everything they own.
        let all = ["servicel2statuses", "--all", &in_namespace()].map(str::to_owned);
        site.kube.kubectl(["delete"]).args(all).unheard().run()?;
        for (owner, service) in services.into_iter().enumerate() {
            site.announced_by(service, Some(owner))?;
            wait_until("the interfaces", SOON, || {
                Ok(site.announcers(service)?[0].1 == ["eth0"])
            })?;
            let events = site.events(service, "nodeAssigned")?;
            assert_eq!(events.len(), 1, "who announces is not news: {events:?}");
        }
        metallbs_configuration_state_is_left_alone_until_metallb_is_gone(&site)
    });
}

fn metallbs_statuses_are_not_overwritten(site: &Site, services: [&str; 2]) -> Result<()> {
    let (begin, from) = (Instant::now(), SystemTime::now());
    let mut theirs = Vec::new();
    while begin.elapsed() < WATCHED {
        for service in services {
            let writes = metallb_reconciles(site, service)?;
            theirs.extend(iter::repeat_n((service, begin.elapsed()), writes));
        }
        sleep(Duration::from_millis(200));
    }
    // It adopts a status of its own node. It deletes the other one, perhaps once more before it has
    // created its own, which takes two steps.
    assert!(theirs.len() <= 5, "MetalLB's: {theirs:?}");
    // Each time it deletes one, its agent may write it again, in two requests, before it sees
    // MetalLB's.
    let ours = written_since(site, from)?;
    assert!(ours.len() <= 4, "ours: {ours:?}");
    for service in services {
        let said = site.announcers(service)?;
        assert_eq!(said, [(NODE.to_owned(), Vec::new())], "{service}");
    }
    Ok(())
}

/// Even after somebody else has deleted it. It is removed with its node.
fn metallbs_configuration_state_is_left_alone_until_metallb_is_gone(site: &Site) -> Result<()> {
    let state = format!("configurationstate speaker-{NODE} {}", in_namespace());
    let node = site.kube.get(&format!("node {NODE}"))?;
    let owner = json!([{
        "apiVersion": "v1",
        "kind": "Node",
        "name": NODE,
        "uid": node["metadata"]["uid"],
    }]);
    let is_written = || -> Result<()> {
        wait_until("the state", SOON, || {
            let state = site.kube.get(&state).unwrap_or_default();
            Ok(state["status"]["result"] == "Valid"
                && state["metadata"]["ownerReferences"] == owner)
        })
    };
    let delete = || {
        let delete = site.kube.kubectl(["delete"]);
        delete.args(state.split(' ')).unheard().run().map(drop)
    };
    is_written()?;
    delete()?;
    is_written()?;

    patch(site, &state, "--subresource=", &owned())?;
    let from = SystemTime::now();
    sleep(Duration::from_secs(3));
    assert_eq!(written_since(site, from)?, [""; 0]);
    delete()?;
    is_written()
}

/// What the reconciler of MetalLB's speaker on [`NODE`] does for a Service that this announces on
/// all interfaces: of several statuses it keeps one of its own node, and creates one without a
/// status, which it writes when it sees it next. Returns how often it writes.
fn metallb_reconciles(site: &Site, service: &str) -> Result<usize> {
    let label = format!("--selector=metallb.io/service-name={service}");
    let list = format!("servicel2statuses {} {label}", in_namespace());
    let list = site.kube.get(&list)?;
    let items = list["items"].as_array().context("a list")?;
    let is_own = |item: &&Value| item["metadata"]["labels"]["metallb.io/node"] == NODE;
    let kept = items.iter().find(is_own);
    let mut writes = 0;
    for item in items.iter().filter(|item| Some(*item) != kept) {
        let delete = site.kube.kubectl(["delete"]).args(words(item)?);
        // Its agent may have been faster.
        delete.unheard().output()?;
        writes += 1;
    }
    let status = json!({ "node": NODE, "serviceName": service, "serviceNamespace": "default" });
    match kept {
        None => {
            let file = tempfile::NamedTempFile::new()?;
            std::fs::write(&file, metallbs(service).to_string())?;
            let create = site.kube.kubectl(["create", "--filename"]);
            create.arg(file.path()).unheard().run()?;
        }
        Some(kept) if kept["status"] == status => return Ok(writes),
        Some(kept) => {
            let object = words(kept)?.join(" ");
            patch(site, &object, "--subresource=", &owned())?;
            let mut status = json!({ "status": status });
            status["status"]["interfaces"] = Value::Null;
            patch(site, &object, "--subresource=status", &status)?;
        }
    }
    Ok(writes + 1)
}

/// An object of the installation, as named by kubectl.
fn words(object: &Value) -> Result<[String; 3]> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    let (kind, name) = (text(&object["kind"])?, text(&object["metadata"]["name"])?);
    Ok([kind, name, in_namespace()])
}

fn patch(site: &Site, object: &str, subresource: &str, change: &Value) -> Result<()> {
    let patch = ["patch", "--type=merge", subresource, "--patch"];
    let patch = site.kube.kubectl(patch).arg(change.to_string());
    patch.args(object.split(' ')).unheard().run().map(drop)
}

/// A status as MetalLB creates it.
fn metallbs(service: &str) -> Value {
    let mut status = owned();
    status["apiVersion"] = json!("metallb.io/v1beta1");
    status["kind"] = json!("ServiceL2Status");
    status["metadata"]["generateName"] = json!("l2-");
    status["metadata"]["namespace"] = json!(NAMESPACE);
    status["metadata"]["labels"] = json!({
        "metallb.io/node": NODE,
        "metallb.io/service-name": service,
        "metallb.io/service-namespace": "default",
    });
    status["spec"] = json!({});
    status
}

/// Marks an object as owned by MetalLB's pod.
fn owned() -> Value {
    let uid = "5f0c44e2-8a0f-4a2e-9a86-4f6f0f1d2b3c";
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "name": "speaker-x7k2p", "uid": uid });
    json!({ "metadata": { "ownerReferences": [pod] } })
}

/// What the agents have written since then.
fn written_since(site: &Site, from: SystemTime) -> Result<Vec<String>> {
    let requests = site.kube.requests()?.into_iter();
    let reads = ["get", "list", "watch"];
    let writes = requests.filter(|it| it.at >= from && !reads.contains(&&*it.verb));
    Ok(writes
        .map(|it| format!("{} {}", it.verb, it.resource))
        .collect())
}

fn in_namespace() -> String {
    format!("--namespace={NAMESPACE}")
}
