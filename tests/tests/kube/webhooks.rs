//! The API server asks the controllers whether pools and advertisements are valid.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use kube::{
    Api,
    api::PostParams,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use speaker_tests::{
    kube::{
        Identity, Site, ask,
        site::{NAMESPACE, advertisement},
    },
    lab::{self, Process},
    wait::{wait_for, wait_until},
};

use crate::{SOON, controller::controller_with};

/// Some requests, and the time for the API server to learn of other endpoints.
const A_WHILE: Duration = Duration::from_secs(1);
const CONFIGURATION: &str = "validatingwebhookconfiguration speaker-webhook-configuration";

#[test]
fn webhooks_refuse_invalid_objects_and_outlive_their_certificates() {
    lab::test(|lab| {
        let site = Site::new(lab, 0)?;
        // From a time without webhooks.
        site.apply_pool("overlapping", &["10.0.0.0/24"])?;
        site.webhooks()?;
        site.webhooks_at(&[9441])?;
        let mut first = serve(&site, 1)?;
        wait_until("the webhooks", SOON, || {
            Ok(try_out(&site, &pool("good", "192.0.2.0/24"))?.is_none())
        })?;
        invalid_objects_are_refused_with_the_reason(&site)?;
        an_overlapping_pool_can_be_corrected_and_deleted(&site)?;
        a_certificate_is_renewed_without_a_failed_request(&site, &mut first)?;
        a_restarted_controller_serves_the_webhooks_again(&site)
    });
}

fn invalid_objects_are_refused_with_the_reason(site: &Site) -> Result<()> {
    let elsewhere = |mut object: Value| {
        object["metadata"]["namespace"] = json!("default");
        object
    };
    let twice = json!({ "ipAddressPools": ["lan", "lan"] });
    for (object, reason) in [
        (
            pool("other", "10.1.0.0/24"),
            "IPAddressPool speaker-system/other: 10.1.0.0/24 overlaps 10.0.0.0/8 of IPAddressPool \
             speaker-system/lan: give each address to one pool only",
        ),
        (
            pool("other", "192.0.2.9-192.0.2.1"),
            "IPAddressPool speaker-system/other: spec.addresses[0]: ",
        ),
        (
            elsewhere(pool("other", "192.0.2.0/24")),
            "outside of the system's namespace, where it has no effect: create it in \
             speaker-system",
        ),
        (
            elsewhere(advertisement("other", json!({}))),
            "outside of the system's namespace, where it has no effect: create it in \
             speaker-system",
        ),
        (
            advertisement("other", twice),
            "L2Advertisement speaker-system/other: spec.ipAddressPools[1]: \"lan\" is listed twice",
        ),
    ] {
        let refused = try_out(site, &object)?.context("it was taken")?;
        assert!(
            refused.contains(reason) && refused.contains("denied the request"),
            "{refused}"
        );
    }
    assert_eq!(try_out(site, &advertisement("other", json!({})))?, None);
    Ok(())
}

/// `overlapping` is invalid but exists.
fn an_overlapping_pool_can_be_corrected_and_deleted(site: &Site) -> Result<()> {
    let worse = try_out(site, &pool("overlapping", "10.0.0.0/25"))?;
    assert!(worse.is_some_and(|it| it.contains("overlaps")));
    assert_eq!(try_out(site, &pool("overlapping", "192.0.2.0/24"))?, None);
    let delete = format!(
        "delete ipaddresspool overlapping --namespace={NAMESPACE} --cascade=foreground --wait=false"
    );
    site.kube.kubectl(delete.split(' ')).unheard().run()?;
    // As the garbage collector does, which does not run here.
    let overlapping = format!("ipaddresspool overlapping --namespace={NAMESPACE}");
    let finish = format!("patch {overlapping} --type=merge --patch");
    let patch = json!({ "metadata": { "finalizers": null } }).to_string();
    let finish = site.kube.kubectl(finish.split(' ')).arg(patch);
    finish.unheard().run()?;
    assert!(site.kube.get(&overlapping).is_err(), "it is deleted");
    Ok(())
}

/// One controller creates the new certificate while another still uses the old one for a while.
fn a_certificate_is_renewed_without_a_failed_request(
    site: &Site,
    first: &mut Process,
) -> Result<()> {
    let before = trusted(site)?;
    let over = json!({ "stringData": {
        "ca.renew-at": "1970-01-01T00:00:00Z",
        "tls.renew-at": "1970-01-01T00:00:00Z",
    }});
    let secret = format!("patch secret speaker-webhook-cert --namespace={NAMESPACE} --patch");
    let patch = site.kube.kubectl(secret.split(' ')).arg(over.to_string());
    patch.unheard().run()?;

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let asking = scope.spawn(|| ask_until(site, &is_over));
        let renewed = (|| {
            // As with a Deployment: the next one gets requests when it is ready.
            let second = serve(site, 2)?;
            let now = wait_for("the API server to trust another authority", SOON, || {
                let now = trusted(site)?;
                Ok((now != before).then_some(now))
            })?;
            // A panic would wait for the other thread, which goes on until this one is done.
            let authorities = now.matches("BEGIN CERTIFICATE").count();
            ensure!(
                authorities == 2,
                "{authorities}, not the old one too: {now}"
            );
            site.webhooks_at(&[9441, 9442])?;
            thread::sleep(A_WHILE);
            site.webhooks_at(&[9442])?;
            // The API server hears of it in a moment.
            thread::sleep(A_WHILE);
            first.terminate(SOON)?;
            thread::sleep(A_WHILE);
            Ok::<_, anyhow::Error>(second)
        })();
        is_over.store(true, Ordering::Relaxed);
        let asked = asking.join().expect("it does not panic")?;
        assert!(asked > 20, "{asked}");
        renewed.map(drop)
    })
}

fn a_restarted_controller_serves_the_webhooks_again(site: &Site) -> Result<()> {
    let refused = try_out(site, &pool("good", "192.0.2.0/24"))?;
    let refused = refused.context("nobody was there to ask")?;
    assert!(refused.contains("failed calling webhook"), "{refused}");
    let before = trusted(site)?;
    let _third = serve(site, 2)?;
    let taken = try_out(site, &pool("good", "192.0.2.0/24"))?;
    assert_eq!(taken, None);
    assert_eq!(trusted(site)?, before, "the certificates outlive it");
    Ok(())
}

/// Dry-runs a pool repeatedly, which must be accepted each time. Returns how often.
fn ask_until(site: &Site, is_over: &AtomicBool) -> Result<usize> {
    let good: DynamicObject = serde_json::from_value(pool("good", "192.0.2.0/24"))?;
    let kind = GroupVersionKind::gvk("metallb.io", "v1beta1", "IPAddressPool");
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    site.kube.client(Identity::Admin, async |client| {
        let resource = ApiResource::from_gvk(&kind);
        let pools = Api::<DynamicObject>::namespaced_with(client, NAMESPACE, &resource);
        let mut asked = 0;
        while !is_over.load(Ordering::Relaxed) {
            let created = pools.create(&dry_run, &good).await;
            created.with_context(|| format!("after {asked} that were taken"))?;
            asked += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(asked)
    })
}

/// The controller of this number, when it is ready.
fn serve(site: &Site, number: u16) -> Result<Process> {
    let bind = format!("--webhook-bind=[::]:{}", 9440 + number);
    let port = 7470 + number;
    let controller = controller_with(site, &format!("number-{number}"), port, &[&bind])?;
    wait_until("the controller", SOON, || {
        let to = ([127, 0, 0, 1], port).into();
        Ok(site.kube.host.run(|| ask(to, "/readyz", SOON)).is_ok())
    })?;
    Ok(controller)
}

fn pool(name: &str, addresses: &str) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "addresses": [addresses] },
    })
}

/// Dry-runs an object, and returns why it is refused.
fn try_out(site: &Site, object: &Value) -> Result<Option<String>> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, object.to_string())?;
    let apply = ["apply", "--dry-run=server", "--filename"];
    let tried = site.kube.kubectl(apply).arg(file.path()).unheard();
    let tried = tried.output()?;
    Ok((!tried.status.success()).then_some(tried.stderr))
}

/// The authorities that the API server trusts, as PEM.
fn trusted(site: &Site) -> Result<String> {
    let template = "go-template={{(index .webhooks 0).clientConfig.caBundle | base64decode}}";
    let get = site.kube.kubectl(["get", "--output", template]);
    get.args(CONFIGURATION.split(' ')).unheard().run()
}
