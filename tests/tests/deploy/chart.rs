//! The chart installs what the manifests do.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::objects::{by_name, chart, kustomize, test};

/// The chart's objects, without Helm's additions.
fn without_helms(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut named = by_name(objects);
    for object in named.values_mut() {
        for marks in ["/metadata/labels", "/metadata/annotations"] {
            let Some(marks) = object.pointer_mut(marks).and_then(Value::as_object_mut) else {
                continue;
            };
            marks.remove("app.kubernetes.io/managed-by");
            marks.retain(|mark, _| !mark.starts_with("helm.sh/"));
        }
        let metadata = object["metadata"].as_object_mut();
        if let Some(metadata) = metadata {
            metadata.retain(|_, marks| *marks != json!({}));
        }
    }
    named
}

fn rendered(values: &Value) -> Result<BTreeMap<String, Value>> {
    Ok(by_name(chart(values)?))
}

fn agent(values: &Value) -> Result<Value> {
    let rendered = rendered(values)?;
    let agent = rendered.get("DaemonSet speaker-system speaker-agent");
    Ok(agent.context("no agent")?["spec"]["template"]["spec"].clone())
}

fn controller(values: &Value) -> Result<Value> {
    let rendered = rendered(values)?;
    let controller = rendered.get("Deployment speaker-system speaker-controller");
    Ok(controller.context("no controller")?["spec"]["template"]["spec"].clone())
}

#[test]
fn the_chart_makes_the_same_objects_as_the_manifests() {
    test(|| {
        let mut expected = by_name(kustomize("deploy")?);
        // Helm makes it, with --create-namespace.
        expected
            .remove("Namespace  speaker-system")
            .context("no namespace")?;
        let rendered = without_helms(chart(&json!({}))?);
        let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&rendered), names(&expected));
        for (name, object) in expected {
            assert_eq!(rendered[&name], object, "{name}");
        }
        Ok(())
    });
}

#[test]
fn crds_survive_helm_uninstall() {
    test(|| {
        let rendered = rendered(&json!({}))?;
        let definitions: Vec<_> = rendered
            .values()
            .filter(|it| it["kind"] == "CustomResourceDefinition")
            .collect();
        assert_eq!(definitions.len(), 4);
        for definition in definitions {
            let policy = &definition["metadata"]["annotations"]["helm.sh/resource-policy"];
            assert_eq!(policy, "keep");
        }
        Ok(())
    });
}

#[test]
fn each_part_of_the_chart_can_be_left_out() {
    test(|| {
        let count = |values: Value, kind: &str| -> Result<usize> {
            let rendered = rendered(&values)?;
            Ok(rendered.values().filter(|it| it["kind"] == kind).count())
        };
        let parts = [
            (
                json!({"crds": {"enabled": false}}),
                "CustomResourceDefinition",
                4,
            ),
            (json!({"rbac": {"create": false}}), "ClusterRoleBinding", 2),
            (json!({"rbac": {"create": false}}), "Role", 2),
            (json!({"speaker": {"enabled": false}}), "DaemonSet", 1),
            (
                json!({"speaker": {"serviceAccount": {"create": false}}}),
                "ServiceAccount",
                1,
            ),
            (json!({"controller": {"enabled": false}}), "Deployment", 1),
            (
                json!({"controller": {"enabled": false}}),
                "ValidatingWebhookConfiguration",
                1,
            ),
            (
                json!({"controller": {"webhookMode": "disabled"}}),
                "Service",
                1,
            ),
            (
                json!({"networkpolicies": {"enabled": false}}),
                "NetworkPolicy",
                1,
            ),
        ];
        for (values, kind, gone) in parts {
            let all = count(json!({}), kind)?;
            assert_eq!(count(values.clone(), kind)?, all - gone, "{values} {kind}");
        }
        Ok(())
    });
}

#[test]
fn values_reach_both_programs() {
    test(|| {
        let values = json!({
            "loadBalancerClass": "example.com/vip",
            "controller": {"logLevel": "debug", "webhookMode": "disabled", "image": {"tag": "9"}},
            "speaker": {"ignoreExcludeLB": true, "failback": "immediate", "seccompProfile": {"type": "Unconfined"}},
        });
        let profile = &agent(&values)?["securityContext"]["seccompProfile"];
        assert_eq!(profile["type"], "Unconfined");
        let arguments = json!([
            "agent",
            "--log-level=info",
            "--failback=immediate",
            "--lb-class=example.com/vip",
            "--ignore-exclude-lb",
        ]);
        assert_eq!(agent(&values)?["containers"][0]["args"], arguments);
        let arguments = json!([
            "controller",
            "--log-level=debug",
            "--http=[::]:7472",
            "--lb-class=example.com/vip",
            "--no-webhooks",
        ]);
        let controller = controller(&values)?;
        assert_eq!(controller["containers"][0]["args"], arguments);
        assert_eq!(controller["containers"][0]["image"], "localhost/speaker:9");
        Ok(())
    });
}

/// A values file for MetalLB with its chart's default values.
#[test]
fn values_absent_from_metallbs_file_have_a_default() {
    test(|| {
        let account = json!({"create": true, "name": "", "annotations": {}});
        let values = json!({
            "controller": {"logLevel": "all", "serviceAccount": account, "affinity": {}},
            "speaker": {"logLevel": "none", "serviceAccount": account, "affinity": {}},
        });
        let rendered = rendered(&values)?;
        for name in ["speaker-agent", "speaker-controller"] {
            assert!(rendered.contains_key(&format!("ServiceAccount speaker-system {name}")));
            let binding = &rendered[&format!("RoleBinding speaker-system {name}")];
            assert_eq!(binding["subjects"][0]["name"], name);
        }
        let (agent, controller) = (agent(&values)?, controller(&values)?);
        assert_eq!(agent["serviceAccountName"], "speaker-agent");
        assert_eq!(controller["serviceAccountName"], "speaker-controller");
        assert_eq!(agent["containers"][0]["args"][1], "--log-level=error");
        assert_eq!(controller["containers"][0]["args"][1], "--log-level=trace");
        Ok(())
    });
}

/// MetalLB's chart lets users name the Secret of the key.
#[test]
fn agents_mount_the_secret_that_the_controller_makes() {
    test(|| {
        let values = json!({"speaker": {"secretName": "metallb-memberlist"}});
        let volumes = agent(&values)?["volumes"].clone();
        let mut volumes = volumes.as_array().context("no volumes")?.iter();
        let mounted = volumes.find_map(|it| it.pointer("/secret/secretName"));
        let rendered = rendered(&values)?;
        let role = rendered.get("Role speaker-system speaker-controller");
        let rules = role.context("no role")?["rules"].clone();
        let watched = json!(["list", "watch"]);
        let mut rules = rules.as_array().context("no rules")?.iter();
        let rule = rules.find(|it| it["resources"] == json!(["secrets"]) && it["verbs"] == watched);
        assert_eq!(
            mounted,
            rule.context("no rule")?.pointer("/resourceNames/0")
        );
        Ok(())
    });
}

#[test]
fn changed_ports_reach_every_object_that_names_them() {
    test(|| {
        let values = json!({
            "prometheus": {"metricsPort": 8472},
            "speaker": {"memberlist": {"mlBindPort": 8946}},
        });
        let container = agent(&values)?["containers"][0].clone();
        let env = container["env"].as_array().context("no environment")?;
        let told = |name: &str| {
            env.iter()
                .find(|it| it["name"] == name)
                .map(|it| &it["value"])
        };
        assert_eq!(told("SPEAKER_HTTP"), Some(&json!("[$(HOST_IP)]:8472")));
        assert_eq!(
            told("SPEAKER_GOSSIP_BIND"),
            Some(&json!("[$(HOST_IP)]:8946"))
        );
        let ports = container["ports"].as_array().context("no ports")?;
        let ports: Vec<_> = ports.iter().map(|it| &it["containerPort"]).collect();
        assert_eq!(ports, [8472, 8946, 8947]);

        let rendered = rendered(&values)?;
        let policy = &rendered["NetworkPolicy speaker-system speaker-controller"];
        assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], 8472);
        let container = controller(&values)?["containers"][0].clone();
        assert_eq!(container["args"][2], "--http=[::]:8472");
        assert_eq!(container["ports"][0]["containerPort"], 8472);
        Ok(())
    });
}

#[test]
fn values_place_and_label_the_pods() {
    test(|| {
        let more = json!({
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "edge", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}, "podAntiAffinity": {}},
            "priorityClassName": "",
            "extraEnv": [{"name": "SPEAKER_XDP_MODE", "value": "generic"}],
        });
        let mut speaker = more.clone();
        speaker["tolerateMaster"] = json!(false);
        let values = json!({
            "speaker": speaker,
            "controller": more,
            "imagePullSecrets": [{"name": "registry"}],
        });
        for pod in [agent(&values)?, controller(&values)?] {
            assert_eq!(pod["nodeSelector"]["disk"], "ssd");
            assert_eq!(pod["nodeSelector"]["kubernetes.io/os"], "linux");
            assert_eq!(pod["tolerations"], more["tolerations"]);
            assert_eq!(pod["affinity"]["nodeAffinity"], json!({}));
            assert_eq!(pod.get("priorityClassName"), None);
            assert_eq!(pod["imagePullSecrets"], values["imagePullSecrets"]);
            let env = pod["containers"][0]["env"]
                .as_array()
                .context("no environment")?;
            assert_eq!(env.last(), Some(&more["extraEnv"][0]));
        }
        let marks = json!({"labels": {"team": "net"}, "podAnnotations": {"note": "one"}});
        let values = json!({
            "speaker": marks,
            "controller": marks,
            "prometheus": {"scrapeAnnotations": true},
        });
        let rendered = rendered(&values)?;
        for name in [
            "DaemonSet speaker-system speaker-agent",
            "Deployment speaker-system speaker-controller",
        ] {
            let metadata = &rendered[name]["spec"]["template"]["metadata"];
            assert_eq!(metadata["labels"]["team"], "net");
            let annotations = json!({"note": "one", "prometheus.io/scrape": "true", "prometheus.io/port": "7472"});
            assert_eq!(metadata["annotations"], annotations);
        }
        Ok(())
    });
}

#[test]
fn the_pod_monitor_of_the_chart_is_that_of_the_manifests() {
    test(|| {
        let values = json!({"prometheus": {"podMonitor": {"enabled": true}}});
        let name = "PodMonitor speaker-system speaker";
        let expected = by_name(kustomize("deploy/monitoring")?);
        assert_eq!(rendered(&values)?[name], expected[name]);
        Ok(())
    });
}
