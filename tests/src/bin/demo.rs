//! The demo: a switch, a node with the agent, an ordinary client, and what they see.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use speaker_tests::{
    agent::{Mode, Node},
    asker::Asker,
    cluster::Cluster,
    lab::{Host, Lab},
};

const VIP_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 240);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x240);

fn main() -> Result<()> {
    let start = Instant::now();
    let vips = [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)];
    let lab = Lab::new()?;
    let mut node = Node::new(&lab, "node-a", Mode::Native)?;
    let client = lab.host("client")?;
    node.serve("web", &vips)?;

    title("A switch, node-a (10.0.0.1) and a client (10.0.0.2), each in its own namespace");
    println!("The Service default/web has {VIP_V4} and {VIP_V6}. No interface holds either:\n");
    show(&node.host, "ip -brief address show dev eth0")?;

    title("The agent reads the manifests and attaches the program to eth0's driver");
    node.start()?;
    said(&node.agent().stderr());

    title("The client asks, and gets an answer");
    let mut watch = node
        .speaker("watch")?
        .args(["--replies", "--count", "8"])
        .spawn()?;
    watch.wait_for_line("watching", Duration::from_secs(10))?;
    show(&client, &format!("arping -c 3 -I eth0 {VIP_V4}"))?;
    show(&client, &format!("ndisc6 -1 {VIP_V6} eth0"))?;

    title("speaker watch, on the node: what tcpdump does not see there");
    watch.wait(Duration::from_secs(10))?;
    said(&watch.stdout());

    title("speaker status");
    print!("{}", node.speaker("status")?.run()?);

    title("The map that the program reads, with bpftool");
    show(
        &node.host,
        "bpftool map dump pinned /sys/fs/bpf/speaker/v2/vips_v4",
    )?;

    title("The agent is killed (kill -9) while the client asks every 10 ms");
    let asker = Asker::start(&client, VIP_V4.into(), Duration::from_millis(10))?;
    sleep(Duration::from_millis(500));
    let killed = SystemTime::now();
    node.agent().kill()?;
    sleep(Duration::from_secs(1));
    let restarted = SystemTime::now();
    node.start()?;
    sleep(Duration::from_millis(500));
    let asked = asker.stop()?;
    println!(
        "{} requests, {} of them in the {} ms without an agent; {} unanswered in all",
        asked.0.len(),
        asked.between(killed, restarted).0.len(),
        restarted.duration_since(killed)?.as_millis(),
        asked.unanswered().len(),
    );

    title("It is killed again, and not restarted: the kernel's lease lapses");
    let asker = Asker::start(&client, VIP_V4.into(), Duration::from_millis(10))?;
    let killed = SystemTime::now();
    node.agent().kill()?;
    sleep(Duration::from_secs(4));
    let asked = asker.stop()?;
    if let Some(last) = asked.last_answered() {
        let after = last.at.duration_since(killed).unwrap_or_default();
        println!(
            "the last answer came {:.1} s after the kill",
            after.as_secs_f64()
        );
    }
    print!("{}", node.speaker("status")?.run()?);

    drop((node, client, lab));
    fail_over()?;

    println!(
        "\nDone in {:.0} s. Everything disappears with this process.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Three nodes share the VIPs, and the owner is cut off.
fn fail_over() -> Result<()> {
    title("Another network: three nodes that share the VIPs, and a client");
    let lab = Lab::new()?;
    let vip = IpAddr::V4(VIP_V4);
    let cluster = Cluster::started(&lab, 3, Mode::Native, &[&[vip, IpAddr::V6(VIP_V6)]])?;
    let owner = cluster.owner(vip)?;
    let name = |number: usize| cluster.nodes[number].host.name();
    print!("{}", cluster.nodes[owner].ask(&format!("explain {vip}"))?);

    title(&format!(
        "The cable of {} is cut while the client asks every 2 ms",
        name(owner)
    ));
    let asker = Asker::start(&cluster.client, vip, Duration::from_millis(2))?;
    sleep(Duration::from_millis(500));
    let cut = SystemTime::now();
    cluster.nodes[owner].host.eth0.port.cut()?;
    let next = cluster.agreed(&cluster.others(owner), vip)?;
    sleep(Duration::from_millis(300));
    let asked = asker.stop()?;
    let mut last = cut;
    for answerer in asked.answerers() {
        let who = (0..3).find(|number| cluster.mac(*number) == answerer.mac);
        let who = who.map_or("somebody else", name);
        let at = |time: SystemTime| match time.duration_since(cut) {
            Ok(after) => format!("{:>4} ms after the cut", after.as_millis()),
            Err(before) => format!("{:>4} ms before the cut", before.duration().as_millis()),
        };
        println!("  {}: the first answer of {who}", at(answerer.first));
        println!("  {}: its last", at(answerer.last));
        if let Ok(outage) = answerer.first.duration_since(last)
            && who == name(next)
        {
            println!("  {} ms without an answer", outage.as_millis());
        }
        last = answerer.last;
    }

    title("The cable is plugged in again: the VIP stays where it is");
    cluster.nodes[owner].host.eth0.port.restore()?;
    cluster.owner(vip)?;
    print!("{}", cluster.nodes[owner].ask(&format!("explain {vip}"))?);
    Ok(())
}

fn title(text: &str) {
    println!("\n# {text}\n");
}

fn said(lines: &[String]) {
    for line in lines {
        println!("  {line}");
    }
}

/// Runs a command line in a host, and shows it with its output.
fn show(host: &Host, line: &str) -> Result<()> {
    println!("{}$ {line}", host.name());
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let output = host.command(program).args(words).output()?;
    for line in output.stdout.lines() {
        println!("  {line}");
    }
    println!();
    Ok(())
}
