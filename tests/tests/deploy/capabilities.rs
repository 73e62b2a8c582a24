//! The capabilities that the manifests grant the agent: all are needed, and no others.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use speaker_tests::{
    agent::{Mode, Node},
    asker::Asker,
    lab::{self, Command, Lab, Process},
};

use crate::objects;

const VIPS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 9, 9)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 9, 9)),
];
const EVERY: Duration = Duration::from_millis(5);
const SOON: Duration = Duration::from_secs(20);

/// What `deploy/base/agent.yaml` adds, by the kernel's names: `bpf`.
fn granted() -> Result<Vec<String>> {
    added("deploy/base/agent.yaml", "containers")
}

fn added(file: &str, containers: &str) -> Result<Vec<String>> {
    let object = &objects::read(file)?[0];
    let container = &object["spec"]["template"]["spec"][containers][0];
    let capabilities = &container["securityContext"]["capabilities"];
    assert_eq!(capabilities["drop"], serde_json::json!(["ALL"]));
    let added = capabilities["add"].as_array().context("none is added")?;
    Ok(added
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_lowercase)
        .collect())
}

/// An agent as a container runtime starts it: root, with these capabilities and no way to gain
/// more.
fn agent(node: &Node, capabilities: &[String]) -> Result<Process> {
    confined(node, capabilities)?
        .args(["agent", "--node-name", node.host.name()])
        .args(["--state-dir", "/run/lab"])
        .args(["--http", "127.0.0.1:7472"])
        .args(["--xdp-mode", "native", "--manifests"])
        .arg(node.manifests.path())
        .spawn()
}

fn confined(node: &Node, capabilities: &[String]) -> Result<Command> {
    let names = capabilities.iter().map(|it| format!(",+{it}"));
    let set = format!("-all{}", names.collect::<String>());
    Ok(node
        .host
        .command("setpriv")
        .arg(format!("--bounding-set={set}"))
        .args(["--inh-caps=-all", "--no-new-privs", "--"])
        .arg(lab::speaker_program()?))
}

fn node(lab: &Lab) -> Result<Node> {
    let node = Node::new(lab, "node-a", Mode::Native)?;
    node.serve("web", &VIPS)?;
    node.host.run(|| std::fs::create_dir_all("/run/lab"))?;
    Ok(node)
}

#[test]
fn the_agent_answers_and_restarts_with_the_granted_capabilities() {
    lab::test(|lab| {
        let node = node(lab)?;
        let client = lab.host("client")?;
        let granted = granted()?;
        let mut first = agent(&node, &granted)?;
        first.wait_for_line("ready", SOON)?;
        let askers = VIPS.map(|vip| Asker::start(&client, vip, EVERY));
        thread::sleep(Duration::from_millis(500));
        ensure!(first.terminate(SOON)?.success());
        // It adopts what the first has pinned.
        let second = agent(&node, &granted)?;
        second.wait_for_line("ready", SOON)?;
        thread::sleep(Duration::from_millis(500));
        for asker in askers {
            let asked = asker?.stop()?;
            asked.assert_all_answered(100, node.host.eth0.mac);
        }
        Ok(())
    });
}

#[test]
fn detach_removes_everything_with_the_capabilities_granted_to_it() {
    lab::test(|lab| {
        let node = node(lab)?;
        let mut agent = agent(&node, &granted()?)?;
        agent.wait_for_line("ready", SOON)?;
        ensure!(agent.terminate(SOON)?.success());
        let said = confined(
            &node,
            &added("deploy/detach/detach.yaml", "initContainers")?,
        )?
        .arg("detach")
        .run()?;
        assert!(said.contains("detached from eth0"), "{said}");
        let left = node.host.command("ls").arg("/sys/fs/bpf").run()?;
        assert!(!left.contains("speaker"), "{left}");
        let link = node.host.ip("link show dev eth0")?;
        assert!(!link.contains("prog/xdp"), "{link}");
        Ok(())
    });
}

#[test]
fn the_agent_needs_every_granted_capability() {
    lab::test(|lab| {
        for without in &granted()? {
            let rest: Vec<String> = granted()?.into_iter().filter(|it| it != without).collect();
            let node = node(lab)?;
            let mut agent = agent(&node, &rest)?;
            let status = agent.wait(SOON)?;
            assert!(!status.success());
            let said = agent.stderr().join("\n");
            let name = format!("needs CAP_{}", without.to_uppercase());
            assert!(said.contains(&name), "{name:?} is not in {said}");
        }
        Ok(())
    });
}
