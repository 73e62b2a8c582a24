//! The demo: a switch, a node with the agent, a client that knows nothing of it, and what they see.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use speaker_tests::lab::{Host, Lab};

const VIP_V4: &str = "10.0.0.240";
const VIP_V6: &str = "fd00::240";

const MANIFEST: &str = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: { name: lan, namespace: metallb-system }
spec: { addresses: [10.0.0.240-10.0.0.250, "fd00::240-fd00::250"] }
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

fn main() -> Result<()> {
    let start = Instant::now();
    let lab = Lab::new()?;
    let node = lab.host("node-a")?;
    let client = lab.host("client")?;
    node.eth0.port.enable_native_xdp()?;
    let manifests = tempfile::tempdir()?;
    fs::write(manifests.path().join("web.yaml"), MANIFEST)?;

    title(
        "A small network: a switch, node-a (10.0.0.1) and a client (10.0.0.2), all in namespaces",
    );
    println!("The Service default/web has {VIP_V4} and {VIP_V6}. No interface holds either:");
    show(&node, "ip -brief address show dev eth0")?;

    title("The agent reads the manifests and puts the program into the driver of eth0");
    let directory = manifests.path().to_string_lossy().into_owned();
    let arguments = ["--manifests", &directory, "--xdp-mode", "native"];
    let mut agent = node.agent(arguments)?;
    agent.wait_for_line("ready", Duration::from_secs(30))?;
    said(&agent.stderr());

    title("The client asks, and is answered");
    let mut watch = node
        .speaker()?
        .args([
            "watch",
            "--state-dir",
            "/run/lab/state",
            "--replies",
            "--count",
            "8",
        ])
        .spawn()?;
    watch.wait_for_line("watching", Duration::from_secs(10))?;
    show(&client, &format!("arping -c 3 -I eth0 {VIP_V4}"))?;
    show(&client, &format!("ndisc6 -1 {VIP_V6} eth0"))?;

    title("speaker watch, on the node: what tcpdump does not see there");
    watch.wait(Duration::from_secs(10))?;
    said(&watch.stdout());

    title("speaker status");
    let status = ["status", "--state-dir", "/run/lab/state"];
    print!("{}", node.speaker()?.args(status).run()?);

    title("The map that the program reads, with bpftool");
    show(
        &node,
        "bpftool map dump pinned /sys/fs/bpf/speaker/v1/vips_v4",
    )?;

    title("The agent is killed (kill -9). The kernel goes on answering for 3 seconds");
    agent.kill()?;
    let killed = Instant::now();
    let mut asked = Vec::new();
    while killed.elapsed() < Duration::from_secs(5) {
        let answered = answers(&client)?;
        asked.push((killed.elapsed(), answered));
    }
    let last = asked.iter().rev().find(|(_, answered)| *answered);
    if let Some((after, _)) = last {
        println!(
            "last answer {:.1} s after the kill, then silence",
            after.as_secs_f64()
        );
    }

    title("It starts again, finds its program and maps, and answers");
    let again = Instant::now();
    let agent = node.agent(arguments)?;
    while !answers(&client)? && again.elapsed() < Duration::from_secs(30) {}
    println!(
        "answered {:.1} s after the start",
        again.elapsed().as_secs_f64()
    );
    said(&agent.stderr());

    println!(
        "\nDone in {:.0} s. Everything vanishes with this process.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn title(text: &str) {
    println!("\n\x1b[1m# {text}\x1b[0m\n");
}

fn said(lines: &[String]) {
    for line in lines {
        println!("  {line}");
    }
}

/// Runs a command line in a host, and shows both what is run and what it says.
fn show(host: &Host, line: &str) -> Result<()> {
    println!("{}$ {line}", host.name());
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let output = host.command(program).args(words).output()?;
    said(&output.stdout.lines().map(str::to_owned).collect::<Vec<_>>());
    println!();
    Ok(())
}

/// Whether the VIP is answered within a second.
fn answers(client: &Host) -> Result<bool> {
    let arping = client
        .command("arping")
        .args(["-q", "-f", "-w", "1", "-I", "eth0", VIP_V4]);
    Ok(arping.output()?.status.success())
}
