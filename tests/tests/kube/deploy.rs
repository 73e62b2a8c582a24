//! A real API server accepts what users install, repeatedly, and it can be removed completely.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use speaker_tests::{
    kube::{Kube, objects},
    lab::{self, Output},
};

/// Objects as MetalLB's users have them, with every possible field.
const METALLB: &str = "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: { name: lan, namespace: metallb-system, labels: { zone: a } }
spec:
  addresses: [192.168.1.240-192.168.1.250, ' fd00:1::/112 ', 10.0.0.0/24]
  autoAssign: false
  avoidBuggyIPs: true
  serviceAllocation:
    priority: 50
    namespaces: [shop]
    namespaceSelectors: [{ matchLabels: { team: a } }]
    serviceSelectors: [{ matchExpressions: [{ key: app, operator: In, values: [web, api] }] }]
status: {}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: { name: everything, namespace: metallb-system }
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: { name: some, namespace: metallb-system }
spec:
  ipAddressPools: [lan]
  ipAddressPoolSelectors: [{ matchLabels: { zone: a } }]
  nodeSelectors: [{ matchExpressions: [{ key: edge, operator: Exists }] }]
  interfaces: [eth0]
  serviceSelectors: [{ matchLabels: { app: web } }]
  preferredNodeSelectors: [{ weight: 60, preference: { matchLabels: { disk: ssd } } }]
---
apiVersion: metallb.io/v1beta1
kind: ServiceL2Status
metadata: { name: l2-x7k2p, namespace: metallb-system, labels: { metallb.io/node: node-a } }
spec: {}
";

fn path(of: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.join("..").join(of)
}

fn apply(kube: &Kube, directory: &Path) -> Result<Vec<String>> {
    let apply = kube.kubectl(["apply", "--kustomize"]).arg(directory);
    let said = apply.unheard().run()?;
    Ok(said.lines().map(str::to_owned).collect())
}

#[test]
fn the_manifests_can_be_applied_twice_and_deleted() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        let deploy = path("deploy");
        let first = apply(&kube, &deploy)?;
        assert!(
            first.iter().all(|it| it.ends_with(" created")),
            "{first:#?}"
        );
        // What the controller writes into the webhooks stays.
        let configuration = "validatingwebhookconfiguration/speaker-webhook-configuration";
        let authority = json!([
            { "op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "Cg==" }
        ]);
        let patch = kube.kubectl(["patch", configuration, "--type=json", "--patch"]);
        patch.arg(authority.to_string()).unheard().run()?;
        let again = apply(&kube, &deploy)?;
        let webhook = kube.get(configuration)?["webhooks"][0].clone();
        assert_eq!(webhook["clientConfig"]["caBundle"], "Cg==");
        assert_eq!(again.len(), first.len());
        assert!(
            again.iter().all(|it| it.ends_with(" unchanged")),
            "{again:#?}"
        );

        // Nor does it matter who merges: kubectl, as until now, or the API server.
        for _ in 0..2 {
            let apply = kube.kubectl(["apply", "--server-side", "--kustomize"]);
            let merged = apply.arg(&deploy).unheard().run()?;
            assert_eq!(merged.lines().count(), first.len());
            assert!(
                merged.lines().all(|it| it.ends_with(" serverside-applied")),
                "{merged}"
            );
        }
        let webhook = kube.get(configuration)?["webhooks"][0].clone();
        assert_eq!(webhook["clientConfig"]["caBundle"], "Cg==");
        let pods = "daemonsets,deployments --namespace=speaker-system";
        for of in kube.get(pods)?["items"].as_array().context("a list")? {
            assert_eq!(of["metadata"]["generation"], 1, "its pods stay: {of:#}");
        }

        // Without a controller, nobody can say whether a pool is valid.
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(&file, METALLB.replace("metallb-system", "speaker-system"))?;
        let create = || {
            kube.kubectl(["create", "--filename"])
                .arg(file.path())
                .output()
        };
        let Output {
            stderr: refused, ..
        } = create()?;
        for webhook in ["ipaddresspools", "l2advertisements"] {
            let reason = format!("failed calling webhook \"{webhook}.speaker.metallb.io\"");
            assert!(refused.contains(&reason), "{reason:?} is not in {refused}");
        }

        // Nothing empties a namespace here.
        let delete = kube
            .kubectl(["delete", "--wait=false", "--kustomize"])
            .arg(&deploy);
        delete.unheard().run()?;
        let cluster = "crd,clusterroles,clusterrolebindings,validatingwebhookconfigurations";
        let left = kube
            .kubectl(["get", cluster, "--output=name"])
            .unheard()
            .run()?;
        let left: Vec<_> = left
            .lines()
            .filter(|it| it.contains("speaker") || it.contains("metallb"))
            .collect();
        assert!(left.is_empty(), "{left:#?}");
        Ok(())
    });
}

#[test]
fn metallb_manifests_are_accepted_unchanged() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        apply(&kube, &path("deploy/crds"))?;
        kube.apply(&objects::namespace("metallb-system"))?;
        // Unknown fields are refused.
        kube.apply(&METALLB)?;

        let pool = kube.get("ipaddresspool lan --namespace=metallb-system")?;
        let spec = &pool["spec"];
        assert_eq!(spec["addresses"][1], " fd00:1::/112 ");
        assert_eq!(spec["autoAssign"], false);
        assert_eq!(
            spec["serviceAllocation"]["serviceSelectors"][0]["matchExpressions"][0]["values"][1],
            "api"
        );
        let status = json!({ "assignedIPv4": 3, "availableIPv4": 250 });
        kube.patch_status("ipaddresspool/lan --namespace=metallb-system", &status)?;

        let columns = |kind: &str| -> Result<String> {
            let get = kube.kubectl(["get", kind, "--namespace=metallb-system", "--output=wide"]);
            let table = get.unheard().run()?;
            let header = table.lines().next().context("no header")?;
            let columns = header
                .split("  ")
                .map(str::trim)
                .filter(|it| !it.is_empty());
            Ok(columns.collect::<Vec<_>>().join(", "))
        };
        assert_eq!(
            columns("ipaddresspools")?,
            "NAME, AUTO ASSIGN, AVOID BUGGY IPS, ADDRESSES"
        );
        assert_eq!(
            columns("l2advertisements")?,
            "NAME, IPADDRESSPOOLS, IPADDRESSPOOL SELECTORS, INTERFACES, NODE SELECTORS"
        );
        assert_eq!(
            columns("servicel2statuses")?,
            "NAME, ALLOCATED NODE, SERVICE NAME, SERVICE NAMESPACE"
        );

        // And then the rest, in MetalLB's namespace.
        let overlay = apply(&kube, &path("deploy/overlays/metallb-system"))?;
        let kept = overlay
            .iter()
            .filter(|it| it.starts_with("customresourcedefinition"));
        assert!(
            kept.clone().all(|it| it.ends_with(" unchanged")),
            "{overlay:#?}"
        );
        assert_eq!(kept.count(), 4);
        let pool = kube.get("ipaddresspool lan --namespace=metallb-system")?;
        assert_eq!(pool["status"]["assignedIPv4"], 3);
        Ok(())
    });
}

/// In addition to the tests with the programs, which show that the permissions suffice.
#[test]
fn accounts_have_only_the_rights_that_they_use() {
    const DENIED: [(&str, &str); 20] = [
        ("speaker-agent", "get services --namespace=default"),
        (
            "speaker-agent",
            "patch events.events.k8s.io --namespace=default",
        ),
        ("speaker-agent", "get secrets --namespace=speaker-system"),
        ("speaker-agent", "list secrets --namespace=speaker-system"),
        ("speaker-agent", "patch services/status --namespace=default"),
        (
            "speaker-agent",
            "patch ipaddresspools.metallb.io --namespace=speaker-system",
        ),
        ("speaker-agent", "patch nodes"),
        ("speaker-agent", "list pods --namespace=default"),
        (
            "speaker-agent",
            "delete servicel2statuses.metallb.io --namespace=default",
        ),
        ("speaker-agent", "create leases --namespace=speaker-system"),
        (
            "speaker-controller",
            "list secrets --namespace=speaker-system",
        ),
        (
            "speaker-controller",
            "get secrets/other --namespace=speaker-system",
        ),
        (
            "speaker-controller",
            "get secrets/speaker-memberlist --namespace=default",
        ),
        (
            "speaker-controller",
            "update secrets/speaker-memberlist --namespace=speaker-system",
        ),
        ("speaker-controller", "patch services --namespace=default"),
        ("speaker-controller", "delete services --namespace=default"),
        (
            "speaker-controller",
            "patch validatingwebhookconfigurations/other",
        ),
        (
            "speaker-controller",
            "watch pods --namespace=speaker-system",
        ),
        (
            "speaker-controller",
            "delete configurationstates.metallb.io --namespace=speaker-system",
        ),
        (
            "speaker-controller",
            "patch configurationstates.metallb.io/other --subresource=status \
             --namespace=speaker-system",
        ),
    ];
    const ALLOWED: [(&str, &str); 7] = [
        ("speaker-agent", "watch services --namespace=default"),
        (
            "speaker-agent",
            "create events.events.k8s.io --namespace=default",
        ),
        (
            "speaker-agent",
            "patch servicel2statuses.metallb.io --subresource=status --namespace=speaker-system",
        ),
        (
            "speaker-controller",
            "patch services --subresource=status --namespace=default",
        ),
        (
            "speaker-controller",
            "patch configurationstates.metallb.io/controller --subresource=status \
             --namespace=speaker-system",
        ),
        (
            "speaker-controller",
            "patch leases/speaker-controller --namespace=speaker-system",
        ),
        (
            "speaker-controller",
            "patch validatingwebhookconfigurations/speaker-webhook-configuration",
        ),
    ];
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        apply(&kube, &path("deploy"))?;
        let may = |account: &str, what: &str| -> Result<bool> {
            let who = format!("--as=system:serviceaccount:speaker-system:{account}");
            let ask = kube
                .kubectl(["auth", "can-i"])
                .args(what.split_whitespace())
                .arg(who);
            let said = ask.unheard().output()?;
            Ok(said.stdout.trim() == "yes")
        };
        for (account, what) in ALLOWED {
            assert!(may(account, what)?, "{account} may not {what}");
        }
        for (account, what) in DENIED {
            assert!(!may(account, what)?, "{account} may {what}");
        }
        Ok(())
    });
}
