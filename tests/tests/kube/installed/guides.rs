//! The commands in the guides do what the guides say.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::json;
use speaker_tests::{
    kube::{Identity, Kube, PROGRAMS, objects},
    lab,
    wait::wait_until,
};
use tempfile::TempDir;

/// kubectl, in a cluster where nothing rolls out, runs pods, or empties namespaces: the existence
/// of an object has to suffice.
const KUBECTL: &str = r#"#!/bin/sh
all="$*"
case " $all " in
*" rollout status "*) set -- $(echo "$all" | sed 's/rollout status/get/') ;;
*" exec "*) set -- $(echo "${all%% -- *}" | sed 's/ exec / get /') ;;
*" logs "*) set -- $(echo "$all" | sed 's/ logs / get pods /; s/--container=[a-z]*//') ;;
*" delete "*) set -- "$@" --wait=false ;;
esac
exec KUBECTL --kubeconfig=KUBECONFIG --cache-dir=CACHE "$@"
"#;

/// The commands of a guide, by step or heading.
pub(super) struct Guide {
    commands: Vec<(String, String)>,
}

impl Guide {
    pub(super) fn read(name: &str) -> Result<Self> {
        let text = fs::read_to_string(repository().join("docs").join(name))?;
        let mut commands = Vec::new();
        let (mut section, mut block) = (String::new(), None);
        for line in text.lines() {
            let trimmed = line.trim_start();
            if let Some(language) = trimmed.strip_prefix("```") {
                block = block.is_none().then_some(language);
            } else if block == Some("") {
                commands.push((section.clone(), trimmed.to_owned()));
            } else if let Some(heading) = line.strip_prefix("## ") {
                section = heading.to_owned();
            } else if let Some((number, _)) = line.split_once(". ")
                && number.parse::<u8>().is_ok()
            {
                section = format!("step {number}");
            }
        }
        Ok(Self { commands })
    }

    /// Those of a step or heading that use kubectl.
    pub(super) fn below(&self, section: &str) -> Result<Vec<&str>> {
        let commands = self.commands.iter();
        let all: Vec<&str> = commands
            .filter(|(below, command)| below == section && command.contains("kubectl"))
            .map(|(_, command)| command.as_str())
            .collect();
        (!all.is_empty())
            .then_some(all)
            .with_context(|| format!("no command is below {section:?}"))
    }
}

/// A shell in the repository, as for a user who follows a guide.
pub(super) struct Shell<'a> {
    kube: &'a Kube,
    directory: TempDir,
}

impl<'a> Shell<'a> {
    pub(super) fn open(kube: &'a Kube) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        symlink(
            fs::canonicalize(repository().join("deploy"))?,
            path.join("deploy"),
        )?;
        let programs = PathBuf::from(std::env::var_os(PROGRAMS).context(PROGRAMS)?);
        let kubeconfig = kube.kubeconfig(Identity::Admin)?;
        let script = KUBECTL
            .replace(
                " KUBECTL ",
                &format!(" {} ", programs.join("kubectl").display()),
            )
            .replace("KUBECONFIG", &kubeconfig.display().to_string())
            .replace("CACHE", &path.join("cache").display().to_string());
        let bin = path.join("bin");
        fs::create_dir(&bin)?;
        fs::write(bin.join("kubectl"), script)?;
        fs::set_permissions(bin.join("kubectl"), fs::Permissions::from_mode(0o755))?;
        Ok(Self { kube, directory })
    }

    pub(super) fn run(&self, command: &str) -> Result<String> {
        let path = self.directory.path().display();
        let script = format!("cd {path} && PATH={path}/bin:$PATH && {command}");
        let shell = self.kube.host.command("sh").args(["-c", &script]);
        shell.limit(crate::SOON).run().context(command.to_owned())
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A MetalLB as its manifests install it, with a pool.
fn metallb(kube: &Kube) -> Result<()> {
    let labels = |component: &str| json!({ "app": "metallb", "component": component });
    let meta = |name: &str, component: &str| json!({ "name": name, "namespace": "metallb-system", "labels": labels(component) });
    let workload = |kind: &str, name: &str| {
        json!({
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": meta(name, name),
            "spec": {
                "selector": { "matchLabels": labels(name) },
                "template": {
                    "metadata": { "labels": labels(name) },
                    "spec": { "containers": [{ "name": name, "image": "metallb" }] },
                },
            },
        })
    };
    kube.apply(&objects::namespace("metallb-system"))?;
    kube.kustomize(&repository().join("deploy/crds"))?;
    kube.apply(&objects::list([
        workload("Deployment", "controller"),
        workload("DaemonSet", "speaker"),
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta("speaker-x7k2p", "speaker"),
            "spec": { "containers": [{ "name": "speaker", "image": "metallb" }] },
        }),
        json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "ServiceL2Status",
            "metadata": meta("l2-x7k2p", "speaker"),
            "spec": {},
        }),
        json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": { "name": "lan", "namespace": "metallb-system" },
            "spec": { "addresses": ["10.0.0.0/24"] },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": "metallb-webhook-configuration" },
            "webhooks": [{
                "name": "ipaddresspoolvalidationwebhook.metallb.io",
                "clientConfig": { "service": { "name": "webhook-service", "namespace": "metallb-system" } },
                "rules": [],
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }],
        }),
    ]))
}

/// Whether an object exists, and is not being deleted.
fn is_there(kube: &Kube, words: &str) -> bool {
    kube.get(words)
        .is_ok_and(|it| it["metadata"].get("deletionTimestamp").is_none())
}

#[test]
fn the_migration_guide_leads_there_and_back() {
    const POOL: &str = "ipaddresspool/lan --namespace=metallb-system";
    const THEIRS: &str = "deployment/controller --namespace=metallb-system";
    const OURS: &str = "deployment/speaker-controller --namespace=metallb-system";
    const THEIR_WEBHOOK: &str = "validatingwebhookconfiguration/metallb-webhook-configuration";
    const OUR_WEBHOOK: &str = "validatingwebhookconfiguration/speaker-webhook-configuration";

    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        metallb(&kube)?;
        let guide = Guide::read("migrate-from-metallb.md")?;
        let shell = Shell::open(&kube)?;
        let follow = |section: &str| -> Result<()> {
            for command in guide.below(section)? {
                shell.run(command)?;
                let theirs = kube.get(THEIRS).is_ok_and(|it| it["spec"]["replicas"] != 0);
                let ours = is_there(&kube, OURS) || is_there(&kube, OUR_WEBHOOK);
                assert!(!(theirs && ours), "{command}: two assign addresses");
            }
            Ok(())
        };
        let ours = "serviceaccounts,roles,rolebindings,services,daemonsets,deployments,leases,\
                    poddisruptionbudgets,networkpolicies,clusterroles,clusterrolebindings,\
                    validatingwebhookconfigurations";
        let left = || {
            let get = kube.kubectl(["get", ours, "--all-namespaces", "--output=name"]);
            get.arg("--selector=app.kubernetes.io/name=speaker").run()
        };

        for _ in 0..2 {
            for step in ["step 1", "step 3", "step 4", "step 5"] {
                follow(step)?;
            }
            assert!(is_there(&kube, OURS) && is_there(&kube, OUR_WEBHOOK));
            assert!(!is_there(&kube, THEIR_WEBHOOK));
            follow("To go back")?;
            assert_eq!(left()?, "");
            assert_eq!(kube.get(THEIRS)?["spec"]["replicas"], 1);
            for theirs in [THEIRS, THEIR_WEBHOOK, POOL] {
                assert!(is_there(&kube, theirs), "{theirs}");
            }
        }

        for step in ["step 1", "step 3", "step 4", "step 5"] {
            follow(step)?;
        }
        kube.apply(&json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "ServiceL2Status",
            "metadata": { "name": "l2-4cd4af21ba", "namespace": "metallb-system" },
            "spec": {},
        }))?;
        follow("step 6")?;
        let gone = [
            THEIRS,
            "daemonset/speaker --namespace=metallb-system",
            "pod/speaker-x7k2p --namespace=metallb-system",
            "servicel2status/l2-x7k2p --namespace=metallb-system",
        ];
        for gone in gone {
            assert!(!is_there(&kube, gone), "{gone}");
        }
        for kept in [
            OURS,
            POOL,
            "servicel2status/l2-4cd4af21ba --namespace=metallb-system",
        ] {
            assert!(is_there(&kube, kept), "{kept}");
        }
        Ok(())
    });
}

/// Helm removes what it has created, but not what the programs have.
#[test]
fn after_helm_uninstall_the_guide_leaves_nothing_in_the_namespace() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        kube.kustomize(&repository().join("deploy/crds"))?;
        kube.apply(&objects::namespace("speaker-system"))?;
        let object = |group: &str, kind: &str, name: &str| {
            json!({
                "apiVersion": group,
                "kind": kind,
                "metadata": { "name": name, "namespace": "speaker-system" },
                "spec": {},
            })
        };
        let mut key = object("v1", "Secret", "speaker-memberlist");
        key["spec"].take();
        kube.apply(&objects::list([
            object("metallb.io/v1beta1", "ServiceL2Status", "l2-4cd4af21ba"),
            object("metallb.io/v1beta1", "ConfigurationState", "controller"),
            object("coordination.k8s.io/v1", "Lease", "speaker-controller"),
            key,
        ]))?;
        let shell = Shell::open(&kube)?;
        let guide = Guide::read("uninstall.md")?;
        let commands = guide.below("With Helm")?;
        let (definitions, own) = commands.split_last().context("no commands")?;
        let left = |kinds: &str| {
            let get = kube.kubectl(["get", kinds, "--namespace=speaker-system", "--output=name"]);
            get.run()
        };
        let kinds = "servicel2statuses,configurationstates,secrets,leases";
        assert_eq!(left(kinds)?.lines().count(), 4);
        for command in own {
            shell.run(command)?;
        }
        assert_eq!(left(kinds)?, "");
        shell.run(definitions)?;
        wait_until("the definitions to go", crate::SOON, || {
            Ok(!left("crds")?.contains("metallb"))
        })
    });
}

#[test]
fn the_commands_of_the_install_guide_work() {
    lab::test(|lab| {
        let kube = Kube::start(lab)?;
        let guide = Guide::read("install.md")?;
        let shell = Shell::open(&kube)?;
        for section in ["With kubectl", "Check that it works"] {
            for command in guide.below(section)? {
                shell.run(command)?;
            }
        }
        Ok(())
    });
}
