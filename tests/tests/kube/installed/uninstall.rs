//! What docs/uninstall.md removes.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use speaker_tests::{kube::Installation, lab::Host, wait::wait_until};

use super::guides::{Guide, Shell};
use crate::SOON;

/// Follows the guide in MetalLB's namespace: the nodes and the cluster are as they were before.
pub(super) fn leaves_nothing(mut site: Installation) -> Result<()> {
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
            shell.run(&command)?;
            if command.contains("delete daemonset") {
                for mut agent in site.agents.drain(..) {
                    let process = agent.process.as_mut().context("it runs")?;
                    ensure!(process.terminate(SOON)?.success());
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
