//! The manifests are consistent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::objects::{by_name, chart, kustomize, repository, test};

fn strings(list: &Value) -> BTreeSet<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn of_kind<'a>(objects: &'a BTreeMap<String, Value>, kind: &str) -> Vec<&'a Value> {
    objects.values().filter(|it| it["kind"] == kind).collect()
}

/// The `app.kubernetes.io/…` labels that select pods.
fn component(labels: &Value) -> (&str, &str) {
    let label = |name: &str| {
        labels[format!("app.kubernetes.io/{name}")]
            .as_str()
            .unwrap_or_default()
    };
    (label("name"), label("component"))
}

/// Every reference names an existing object, in either namespace.
#[test]
fn every_reference_between_the_manifests_resolves() {
    test(|| {
        for (directory, namespace) in [
            ("deploy", "speaker-system"),
            ("deploy/overlays/metallb-system", "metallb-system"),
        ] {
            let objects = by_name(kustomize(directory)?);
            let has = |kind: &str, namespace: &str, name: &str| {
                let name = format!("{kind} {namespace} {name}");
                assert!(objects.contains_key(&name), "{directory}: {name}");
            };
            has("Namespace", "", namespace);
            for object in objects.values() {
                let own = text(object, "/metadata/namespace");
                assert!(own.is_empty() || own == namespace, "{object}");
            }
            for workload in [
                of_kind(&objects, "DaemonSet"),
                of_kind(&objects, "Deployment"),
            ]
            .concat()
            {
                let account = text(workload, "/spec/template/spec/serviceAccountName");
                has("ServiceAccount", namespace, account);
                let labels = &workload["spec"]["template"]["metadata"]["labels"];
                let selector = &workload["spec"]["selector"]["matchLabels"];
                assert_eq!(component(labels), component(selector));
            }
            for (binding, place) in [("ClusterRoleBinding", ""), ("RoleBinding", namespace)] {
                for binding in of_kind(&objects, binding) {
                    has(
                        text(binding, "/roleRef/kind"),
                        place,
                        text(binding, "/roleRef/name"),
                    );
                    let subject = &binding["subjects"][0];
                    has(
                        "ServiceAccount",
                        text(subject, "/namespace"),
                        text(subject, "/name"),
                    );
                }
            }
            let webhooks = &objects["ValidatingWebhookConfiguration  speaker-webhook-configuration"]
                ["webhooks"];
            let webhooks = webhooks.as_array().context("no webhooks")?;
            assert_eq!(webhooks.len(), 2);
            for webhook in webhooks {
                let service = &webhook["clientConfig"]["service"];
                has(
                    "Service",
                    text(service, "/namespace"),
                    text(service, "/name"),
                );
            }
            let service = &objects[&format!("Service {namespace} speaker-webhook")];
            let controller = &objects[&format!("Deployment {namespace} speaker-controller")];
            let pod = &controller["spec"]["template"];
            assert_eq!(
                component(&service["spec"]["selector"]),
                component(&pod["metadata"]["labels"])
            );
            let ports = pod["spec"]["containers"][0]["ports"]
                .as_array()
                .context("no ports")?;
            assert!(ports.contains(
                &json!({"name": service["spec"]["ports"][0]["targetPort"], "containerPort": 9443})
            ));
        }
        Ok(())
    });
}

/// The file that docs/install.md asks users to write next to a checkout.
#[test]
fn the_guides_kustomization_changes_what_it_says() {
    test(|| {
        let guide = fs::read_to_string(repository().join("docs/install.md"))?;
        let (_, rest) = guide.split_once("```yaml\n").context("no YAML")?;
        let (kustomization, _) = rest.split_once("```").context("no end")?;
        let beside = tempfile::tempdir()?;
        symlink(
            fs::canonicalize(repository())?,
            beside.path().join("speaker"),
        )?;
        let own = beside.path().join("own");
        fs::create_dir(&own)?;
        fs::write(own.join("kustomization.yaml"), kustomization)?;

        let objects = by_name(kustomize(&own)?);
        let agent = &objects["DaemonSet speaker-system speaker-agent"]["spec"]["template"]["spec"];
        let container = &agent["containers"][0];
        assert_eq!(container["image"], "registry.example/speaker:0.1.0");
        let capabilities = strings(&container["securityContext"]["capabilities"]["add"]);
        assert!(capabilities.contains("SYS_RESOURCE") && capabilities.len() == 5);
        assert!(strings(&container["args"]).contains("--failback=immediate"));
        let profile = &agent["securityContext"]["seccompProfile"];
        assert_eq!(profile["type"], "Unconfined");
        Ok(())
    });
}

/// A kubelet leaves a reference to a variable as it is unless it is defined further up, and kustomize
/// moves what it patches to the front.
#[test]
fn variables_are_defined_before_they_are_referred_to() {
    test(|| {
        let mut objects = kustomize("deploy")?;
        objects.extend(kustomize("deploy/overlays/metallb-system")?);
        objects.extend(chart(&json!({}))?);
        let containers = objects
            .iter()
            .filter_map(|it| it.pointer("/spec/template/spec/containers/0"));
        let mut references = 0;
        for container in containers {
            let mut defined = BTreeSet::new();
            let env = container["env"].as_array().context("no environment")?;
            for variable in env {
                let value = text(variable, "/value");
                for reference in value.split("$(").skip(1) {
                    let (name, _) = reference.split_once(')').context("no end")?;
                    assert!(defined.contains(name), "{value} in {env:?}");
                    references += 1;
                }
                defined.insert(text(variable, "/name"));
            }
        }
        assert_eq!(references, 6);
        Ok(())
    });
}

/// MetalLB's speakers hold their ports while both run.
#[test]
fn the_metallb_overlay_uses_none_of_metallbs_ports() {
    test(|| {
        let ports = |directory: &str, name: &str| -> Result<BTreeSet<u64>> {
            let objects = by_name(kustomize(directory)?);
            let container = &objects[name]["spec"]["template"]["spec"]["containers"][0];
            let ports = container["ports"].as_array().context("no ports")?;
            Ok(ports
                .iter()
                .filter_map(|it| it["containerPort"].as_u64())
                .collect())
        };
        let alone = ports("deploy", "DaemonSet speaker-system speaker-agent")?;
        let beside = ports(
            "deploy/overlays/metallb-system",
            "DaemonSet metallb-system speaker-agent",
        )?;
        assert_eq!(alone, BTreeSet::from([7472, 7946, 7947]));
        assert_eq!(beside, BTreeSet::from([7474, 7948, 7949]));
        let objects = by_name(kustomize("deploy/overlays/metallb-system")?);
        let agent = &objects["DaemonSet metallb-system speaker-agent"];
        let env = agent["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
        assert!(
            env.contains("[$(HOST_IP)]:7948") && env.contains("[$(HOST_IP)]:7474"),
            "{env}"
        );
        Ok(())
    });
}

/// Permissions are limited to what the programs need.
#[test]
fn roles_grant_only_what_is_listed_here() {
    test(|| {
        let objects = by_name(kustomize("deploy")?);
        let roles = [of_kind(&objects, "ClusterRole"), of_kind(&objects, "Role")].concat();
        for role in roles {
            let is_cluster = role["kind"] == "ClusterRole";
            let rules = role["rules"].as_array().context("no rules")?;
            // The kinds that may be changed by name only.
            let named: BTreeMap<_, _> = rules
                .iter()
                .filter(|it| strings(&it["verbs"]).contains("patch"))
                .filter_map(|it| Some((it["resources"][0].as_str()?, it.get("resourceNames")?)))
                .collect();
            for rule in rules {
                let (resources, verbs) = (strings(&rule["resources"]), strings(&rule["verbs"]));
                for of in resources.iter().filter_map(|it| it.strip_suffix("/status")) {
                    let names = named.get(of).copied();
                    assert!(
                        names.is_none_or(|it| *it == rule["resourceNames"]),
                        "{rule}"
                    );
                }
                let everything = [&resources, &verbs, &strings(&rule["apiGroups"])];
                assert!(everything.iter().all(|it| !it.contains("*")), "{rule}");
                assert!(!verbs.contains("deletecollection"), "{rule}");
                if resources.contains("secrets") {
                    assert!(!is_cluster, "{rule}");
                    let named = rule.get("resourceNames").is_some();
                    assert!(named || verbs == BTreeSet::from(["create"]), "{rule}");
                }
                if is_cluster && !verbs.is_subset(&BTreeSet::from(["get", "list", "watch"])) {
                    let may = [
                        "services/status",
                        "events",
                        "validatingwebhookconfigurations",
                    ];
                    assert!(resources.iter().all(|it| may.contains(it)), "{rule}");
                }
            }
        }
        Ok(())
    });
}

/// As the Pod Security policy `restricted` requires, for the program that can meet it.
#[test]
fn the_controller_is_confined() {
    test(|| {
        let objects = by_name(kustomize("deploy")?);
        let pod =
            &objects["Deployment speaker-system speaker-controller"]["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        for unwanted in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
            assert_eq!(pod.get(unwanted), None);
        }
        let container = &pod["containers"][0]["securityContext"];
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(*container, expected);
        Ok(())
    });
}

/// What API servers from 1.20 on require of the definitions: a structural schema without later
/// rules.
#[test]
fn crds_are_structural_and_use_no_later_features() {
    fn check(path: &str, schema: &Value) {
        let known = [
            "type",
            "properties",
            "items",
            "required",
            "description",
            "default",
            "enum",
            "format",
            "maximum",
            "minimum",
            "minLength",
            "nullable",
            "title",
            "additionalProperties",
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
        ];
        for name in schema.as_object().into_iter().flat_map(|it| it.keys()) {
            assert!(known.contains(&name.as_str()), "{path}: {name}");
        }
        assert!(schema["type"].is_string(), "{path} has no type");
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            check(&format!("{path}.{name}"), field);
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(inner) {
                check(&format!("{path}[]"), inner);
            }
        }
    }
    test(|| {
        let objects = by_name(kustomize("deploy/crds")?);
        assert_eq!(objects.len(), 4);
        for definition in objects.values() {
            let versions = definition["spec"]["versions"]
                .as_array()
                .context("no versions")?;
            assert_eq!(versions.len(), 1);
            check(
                text(definition, "/metadata/name"),
                &versions[0]["schema"]["openAPIV3Schema"],
            );
        }
        Ok(())
    });
}
