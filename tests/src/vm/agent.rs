//! The agent in the lab, asked by clients that nobody here wrote.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::lab::{Host, Lab, Process};

const VIP_V4: &str = "10.0.0.240";
const VIP_V6: &str = "fd00::240";

const MANIFEST: &str = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: { name: lan, namespace: metallb-system }
spec: { addresses: [10.0.0.240/32, "fd00::240/128"] }
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: { name: lan, namespace: metallb-system }
---
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: { metallb.io/loadBalancerIPs: "10.0.0.240,fd00::240" }
spec: { type: LoadBalancer, ports: [{ port: 80 }] }
"#;

/// The verifier may take its time.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) fn veth_generic() -> Result<()> {
    let scene = Scene::on_veth()?;
    let _agent = scene.agent("generic")?;
    scene.is_answered()
}

/// Without its agent the kernel goes on, and the next agent adopts what it finds.
pub(super) fn veth_native_killed() -> Result<()> {
    let scene = Scene::on_veth()?;
    let mut agent = scene.agent("native")?;
    scene.is_answered()?;
    agent.kill()?;
    scene.asks("arping", &["-c", "1", "-w", "2", "-I", "eth0", VIP_V4])?;
    let agent = scene.agent("native")?;
    agent.wait_for_line("maps of an earlier run", PATIENCE)?;
    scene.is_answered()
}

pub(super) fn virtio_generic() -> Result<()> {
    let scene = Scene::on_cards()?;
    let _agent = scene.agent("generic")?;
    scene.is_answered()
}

pub(super) fn virtio_native() -> Result<()> {
    let scene = Scene::on_cards()?;
    let _agent = scene.agent("native")?;
    scene.is_answered()
}

/// A node and a client on one wire. Fields are dropped in this order.
struct Scene {
    node: Host,
    client: Host,
    /// Their ends of the wire.
    node_end: &'static str,
    client_end: &'static str,
    manifests: TempDir,
    _lab: Lab,
}

impl Scene {
    fn on_veth() -> Result<Self> {
        let scene = Self::new("eth0", "eth0")?;
        scene.node.eth0.port.enable_native_xdp()?;
        Ok(scene)
    }

    /// On the two network cards of the virtual machine, which are on one wire.
    fn on_cards() -> Result<Self> {
        let scene = Self::new("card0", "card1")?;
        let ends = [
            (&scene.node, scene.node_end),
            (&scene.client, scene.client_end),
        ];
        for (number, (host, card)) in (1..).zip(ends) {
            // Out of a namespace that has just ended, it comes back some time later.
            wait_for_card(card)?;
            run_here(&format!("link set {card} netns {}", host.init()))?;
            // The hosts' own wire is not to be asked.
            host.ip("link set eth0 down")?;
            host.ip(&format!("link set {card} up"))?;
            host.ip(&format!("address add 10.0.0.{number}/24 dev {card}"))?;
            host.ip(&format!("address add fd00::{number}/64 dev {card} nodad"))?;
        }
        Ok(scene)
    }

    fn new(node_end: &'static str, client_end: &'static str) -> Result<Self> {
        let lab = Lab::new()?;
        let manifests = tempfile::tempdir()?;
        fs::write(manifests.path().join("web.yaml"), MANIFEST)?;
        Ok(Self {
            node: lab.host("node")?,
            client: lab.host("client")?,
            node_end,
            client_end,
            manifests,
            _lab: lab,
        })
    }

    /// An agent that has attached the program in this mode.
    fn agent(&self, mode: &str) -> Result<Process> {
        let manifests = self.manifests.path().to_string_lossy();
        let agent = self.node.agent([
            "--manifests",
            &manifests,
            "--interface",
            self.node_end,
            "--xdp-mode",
            mode,
        ])?;
        agent
            .wait_for_line("ready", PATIENCE)
            .with_context(|| format!("the agent says: {}", agent.stderr().join("\n")))?;
        let status = ["status", "--state-dir", "/run/lab/state"];
        let status = self.node.speaker()?.args(status).limit(PATIENCE).run()?;
        for vip in [VIP_V4, VIP_V6] {
            let attached = status.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some(vip) && words.any(|word| word == mode)
            });
            ensure!(
                attached,
                "{vip} should be answered in {mode} mode:\n{status}"
            );
        }
        Ok(agent)
    }

    fn is_answered(&self) -> Result<()> {
        self.asks(
            "arping",
            &["-c", "2", "-w", "20", "-I", self.client_end, VIP_V4],
        )?;
        self.asks("ndisc6", &["-1", "-r", "20", VIP_V6, self.client_end])
    }

    /// The client's program is told the node's MAC.
    fn asks(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let mac = format!("/sys/class/net/{}/address", self.node_end);
        let mac = self.node.run(|| fs::read_to_string(mac))?;
        let told = self.client.command(program).args(arguments);
        let told = told.limit(PATIENCE).run()?.to_lowercase();
        ensure!(
            told.contains(mac.trim()),
            "{program} should be told {mac}: {told}"
        );
        Ok(())
    }
}

fn wait_for_card(card: &str) -> Result<()> {
    let path = format!("/sys/class/net/{card}");
    for _ in 0..100 {
        if fs::exists(&path)? {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("the virtual machine has no network card {card}")
}

fn run_here(arguments: &str) -> Result<()> {
    let status = std::process::Command::new("ip")
        .args(arguments.split_whitespace())
        .status()?;
    ensure!(status.success(), "ip {arguments}: {status}");
    Ok(())
}
