//! What docs/uninstall.md removes.

use std::{fs, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use speaker_tests::{kube::Installation, lab::Host, wait::wait_until};

use super::guides::{Guide, Shell};
use crate::SOON;

/// Follows the guide in MetalLB's namespace: the nodes and the cluster are as they were before.
pub(super) fn leaves_nothing(mut site: Installation, vip: IpAddr) -> Result<()> {
    let guide = Guide::read("uninstall.md")?;
    let shell = Shell::open(&site.kube)?;
    for node in &site.nodes {
        wait_until("an agent to keep what it knows", SOON, || {
            let kept = kept(node)?;
            let mut expected = ["speaker", "agent.sock", "last-known-objects.json"].into_iter();
            Ok(expected.all(|it| kept.iter().any(|kept| kept == it)))
        })?;
    }
    for step in ["step 1", "step 2", "step 3"] {
        for command in guide.below(step)? {
            // As the guide says for this installation.
            let command = command
                .replace("-n speaker-system", "-n metallb-system")
                .replace("-k deploy", "-k deploy/overlays/metallb-system");
            if command.contains("delete -k deploy/overlays/metallb-system ") {
                // It would see the pools go, and take every address away.
                assert!(site.controllers.is_empty(), "a controller still runs");
            }
            shell.run(&command)?;
            for (workload, pods) in [
                ("daemonset", &mut site.agents),
                ("deployment", &mut site.controllers),
            ] {
                if command.contains(&format!("delete {workload}")) {
                    for mut pod in pods.drain(..) {
                        let process = pod.process.as_mut().context("it runs")?;
                        ensure!(process.terminate(SOON)?.success());
                    }
                }
            }
            if command.contains("apply") {
                for node in &site.nodes {
                    let said = site.run("daemonset/speaker-detach", node)?.said;
                    assert!(said[0].contains("detached from eth0"), "{said:?}");
                }
            }
        }
    }
    for node in &site.nodes {
        let kept = kept(node)?;
        assert!(kept.is_empty(), "{}: {kept:?}", node.name());
    }
    let cluster = "crds,clusterroles,clusterrolebindings,validatingwebhookconfigurations";
    let left = site.kube.kubectl(["get", cluster, "--output=name"]).run()?;
    let ours = |line: &&str| line.contains("speaker") || line.contains("metallb");
    assert_eq!(left.lines().find(ours), None);
    let service = site.kube.get("service/web --namespace=default")?;
    let ingress = &service["status"]["loadBalancer"]["ingress"][0];
    assert_eq!(ingress["ip"], json!(vip), "what Services have stays");
    Ok(())
}

/// The names of what agents have left on a node.
fn kept(node: &Host) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for directory in ["/sys/fs/bpf", "/run/node/var/lib/speaker"] {
        for entry in node.run(|| fs::read_dir(directory))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    // The kernel's own, of any bpffs.
    names.retain(|name| !["maps.debug", "progs.debug"].contains(&name.as_str()));
    Ok(names)
}
