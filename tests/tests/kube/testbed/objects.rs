//! Objects are stored as users and controllers wrote them.

use std::{fs, pin::pin};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, ResourceExt as _,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use speaker_tests::{
    kube::{Backend, Identity, Kube, objects},
    lab::{self, Host},
    wait::wait_until,
};
use tokio::time::timeout;

use super::{PORTS, slice};
use crate::SOON;

/// All of it is in one namespace.
const KUSTOMIZATION: &str = "\
namespace: shop
resources: [all.yaml]
";

/// A custom resource with a CEL rule, and an API that later versions renamed.
const MANIFESTS: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: pools.example.com }
spec:
  group: example.com
  names: { kind: Pool, plural: pools, singular: pool }
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties: { size: { type: integer } }
              x-kubernetes-validations: [{ rule: self.size > 0 }]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: web }
spec: { minAvailable: 1, selector: { matchLabels: { app: web } } }
";

const POOL: &str = "\
apiVersion: example.com/v1
kind: Pool
metadata: { name: one }
spec: { size: 5 }
";

#[test]
fn objects_are_stored_as_they_are_written() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        kube.apply(&objects::namespace("shop"))?;
        fields_of_later_versions_are_kept(&kube)?;
        unknown_fields_are_refused(&kube)?;
        directories_are_applied(&kube)?;

        let node = lab.host("node-a")?;
        kube.join(&node, &[("zone", "north")])?;
        let found = kube.get("node node-a")?;
        assert_eq!(found["metadata"]["labels"]["zone"], "north");
        assert_eq!(found["status"]["conditions"][0]["type"], "Ready");
        clients_list_and_watch(&kube, &node)?;
        webhooks_are_asked_at_their_endpoints(&kube, &node)
    });
}

fn fields_of_later_versions_are_kept(kube: &Kube) -> Result<()> {
    let mut service = objects::service("web", &PORTS);
    service["metadata"]["namespace"] = json!("shop");
    service["spec"]["loadBalancerClass"] = json!("example.com/l2");
    service["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1",
            "namespace": "shop",
            "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv6",
        "endpoints": [{
            "addresses": ["fd00::1"],
            "nodeName": "node-a",
            "conditions": { "ready": false, "serving": true, "terminating": true },
        }],
        "ports": [{ "name": "tcp-80", "protocol": "TCP", "port": 8080 }],
    });
    kube.apply(&objects::list([service, slice.clone()]))?;
    let ingress = json!([{ "ip": "10.0.0.240", "ipMode": "VIP" }]);
    let status = json!({ "loadBalancer": { "ingress": ingress } });
    kube.patch_status("service/web --namespace=shop", &status)?;

    let found = kube.get("service web --namespace=shop")?;
    let spec = &found["spec"];
    assert_eq!(spec["loadBalancerClass"], "example.com/l2");
    assert_eq!(spec["allocateLoadBalancerNodePorts"], false);
    assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(spec["clusterIPs"].as_array().map(Vec::len), Some(2));
    assert_eq!(found["status"]["loadBalancer"]["ingress"], ingress);
    let found = kube.get("endpointslices.v1.discovery.k8s.io web-1 --namespace=shop")?;
    assert_eq!(found["endpoints"], slice["endpoints"]);
    Ok(())
}

fn unknown_fields_are_refused(kube: &Kube) -> Result<()> {
    let mut service = objects::service("odd", &PORTS);
    service["spec"]["colour"] = json!("red");
    let refused = kube.apply(&service).err().context("it was taken")?;
    assert!(format!("{refused:#}").contains("colour"), "{refused:#}");
    Ok(())
}

fn directories_are_applied(kube: &Kube) -> Result<()> {
    let manifests = tempfile::tempdir()?;
    fs::write(manifests.path().join("kustomization.yaml"), KUSTOMIZATION)?;
    fs::write(manifests.path().join("all.yaml"), MANIFESTS)?;
    kube.kustomize(manifests.path())?;
    let established = "--for=condition=Established";
    kube.kubectl(["wait", established, "crd/pools.example.com"])
        .run()?;
    kube.apply(&POOL)?;
    assert_eq!(kube.get("pool one")?["spec"]["size"], 5);
    let budgets = kube.get("poddisruptionbudgets --namespace=shop")?;
    assert_eq!(budgets["items"][0]["apiVersion"], "policy/v1");
    Ok(())
}

fn clients_list_and_watch(kube: &Kube, node: &Host) -> Result<()> {
    let [first, second] = [false, true].map(|is_ipv6| slice("web", node, is_ipv6));
    kube.apply(&first)?;
    let second: EndpointSlice = serde_json::from_value(second)?;
    kube.client(Identity::Admin, async move |client| {
        let slices: Api<EndpointSlice> = Api::namespaced(client, "default");
        let watch = watcher(slices.clone(), watcher::Config::default());
        let mut names = pin!(watch.applied_objects().map_ok(|slice| slice.name_any()));
        let mut next = async || timeout(SOON, names.try_next()).await?.context("watching");
        // The API server's own comes first.
        assert_eq!(next().await?.as_deref(), Some("kubernetes"));
        assert_eq!(next().await?.as_deref(), Some("web-ipv4"));
        slices.create(&PostParams::default(), &second).await?;
        assert_eq!(next().await?.as_deref(), Some("web-ipv6"));
        Ok(())
    })
}

fn webhooks_are_asked_at_their_endpoints(kube: &Kube, node: &Host) -> Result<()> {
    let ports = [("TCP", 443, 8443)];
    kube.apply(&objects::service("hook", &ports))?;
    kube.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "hook" },
        "webhooks": [{
            "name": "hook.example.com",
            "clientConfig": { "service": { "namespace": "default", "name": "hook" } },
            "rules": [{
                "operations": ["CREATE"],
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["configmaps"],
            }],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    }))?;
    let refusal = |wanted: &str| {
        let mut said = String::new();
        let refused = wait_until(wanted, SOON, || {
            let create = kube.kubectl(["create", "configmap", "one", "--dry-run=server"]);
            said = create.unheard().output()?.stderr;
            Ok(said.contains(wanted))
        });
        refused.context(said)
    };
    refusal("endpoints \"hook\" not found")?;

    // It listens, but does not speak TLS.
    let _backend = Backend::start(node, 8443)?;
    kube.apply(&objects::endpoints(
        "hook",
        &[node.eth0.ipv4.into()],
        &ports,
    ))?;
    refusal("EOF")
}
