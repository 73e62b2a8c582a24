//! What users and controllers write is there as they wrote it.

use std::fs;

use anyhow::Context as _;
use serde_json::json;
use speaker_tests::{
    kube::{Kube, objects},
    lab,
};

use super::PORTS;

/// All of it lies in one namespace.
const KUSTOMIZATION: &str = "\
namespace: shop
resources: [all.yaml]
";

/// A kind of objects with a CEL rule, and what later versions call by another name.
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

const POOL: &str =
    "{ apiVersion: example.com/v1, kind: Pool, metadata: { name: one }, spec: { size: 5 } }";

#[test]
fn objects_are_stored_as_they_are_written() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;

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
        let objects = [objects::namespace("shop"), service, slice.clone()];
        kube.apply(&objects::list(objects))?;
        let node = lab.host("node-a")?;
        kube.join(&node, &[("zone", "north")])?;

        let spec = &kube.get("service web --namespace=shop")?["spec"];
        assert_eq!(spec["loadBalancerClass"], "example.com/l2");
        assert_eq!(spec["allocateLoadBalancerNodePorts"], false);
        assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
        let cluster_ips = spec["clusterIPs"].as_array().context("clusterIPs")?;
        assert_eq!(cluster_ips.len(), 2, "{cluster_ips:?}");

        let found = kube.get("endpointslices.v1.discovery.k8s.io web-1 --namespace=shop")?;
        assert_eq!(found["endpoints"], slice["endpoints"]);

        let status =
            json!({ "loadBalancer": { "ingress": [{ "ip": "10.0.0.240", "ipMode": "VIP" }] } });
        kube.patch_status("service/web --namespace=shop", &status)?;
        let found = kube.get("service web --namespace=shop")?;
        assert_eq!(found["status"]["loadBalancer"], status["loadBalancer"]);

        let node = kube.get("node node-a")?;
        assert_eq!(node["metadata"]["labels"]["zone"], "north");
        assert_eq!(node["status"]["conditions"][0]["type"], "Ready");

        let manifests = tempfile::tempdir()?;
        fs::write(manifests.path().join("kustomization.yaml"), KUSTOMIZATION)?;
        fs::write(manifests.path().join("all.yaml"), MANIFESTS)?;
        kube.kustomize(manifests.path())?;
        kube.kubectl([
            "wait",
            "--for=condition=Established",
            "crd/pools.example.com",
        ])
        .run()?;
        kube.apply(&POOL)?;
        assert_eq!(kube.get("pool one")?["spec"]["size"], 5);
        let budgets = kube.get("poddisruptionbudgets --namespace=shop")?;
        assert_eq!(budgets["items"][0]["apiVersion"], "policy/v1");

        let unknown = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "odd" },
            "spec": { "ports": [{ "port": 80 }], "colour": "red" },
        });
        let refused = kube.apply(&unknown).err().context("it was taken")?;
        assert!(format!("{refused:#}").contains("colour"), "{refused:#}");
        Ok(())
    });
}
