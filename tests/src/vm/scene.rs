//! A node and a client on one wire, and what the client's programs see.

use std::{fs, net::IpAddr, process, thread, time::Duration};

use anyhow::{Result, bail, ensure};

use crate::{
    agent::Mode,
    lab::{Host, Lab, Process},
    manifest::{self, Manifests},
    message::{Message, text},
};

/// The verifier may take its time.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// A second answer would arrive within this time.
const MEANWHILE: Duration = Duration::from_millis(300);

/// Two ends of a wire: the node's interface, and the client's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) node: &'static str,
    pub(super) client: &'static str,
}

/// Part of the lab's hosts.
pub(super) const VETH: Wire = Wire {
    node: "eth0",
    client: "eth0",
};

/// Network cards of the virtual machine, all on one wire.
pub(super) const VIRTIO: Wire = Wire {
    node: "virtio0",
    client: "virtio1",
};

/// To the same client.
pub(super) const VMXNET3: Wire = Wire {
    node: "vmxnet0",
    client: "virtio1",
};

/// A node and a client.
pub(super) struct Scene {
    pub(super) node: Host,
    pub(super) client: Host,
    /// The manifests of the node's agents: a pool of all networks of the hosts, advertised on all
    /// interfaces (`pools.yaml`), and Services.
    pub(super) manifests: Manifests,
}

impl Scene {
    /// On the lab's own wire.
    pub(super) fn on_veth(lab: &Lab) -> Result<Self> {
        let manifests = Manifests::new()?;
        let pool = manifest::pool("all", &["10.0.0.0/8", "fd00::/8"]);
        let advertisement = manifest::advertisement("all", &["all"], &[]);
        manifests.write("pools.yaml", &(pool + &advertisement))?;
        Ok(Self {
            node: lab.host("node")?,
            client: lab.host("client")?,
            manifests,
        })
    }

    /// On network cards of the virtual machine.
    pub(super) fn on_cards(lab: &Lab, wire: Wire) -> Result<Self> {
        let scene = Self::on_veth(lab)?;
        for (number, (host, card)) in (1..).zip(scene.ends(wire)) {
            take_card(host, card)?;
            // The hosts' own wire must not be used.
            host.ip("link set eth0 down")?;
            host.ip(&format!("link set {card} up"))?;
            give_addresses(host, card, "10.0.0", "fd00:", number)?;
        }
        Ok(scene)
    }

    /// Puts a VLAN device on either end of a wire, with addresses of 10.0.100.0/24 and fd00:100::/64.
    pub(super) fn add_vlan(&self, wire: Wire) -> Result<()> {
        for (number, (host, end)) in (1..).zip(self.ends(wire)) {
            let vlan = format!("{end}.100");
            // It is created after the card, as the kernel numbers them if neither has moved.
            host.ip(&format!(
                "link add link {end} name {vlan} index 100 type vlan id 100"
            ))?;
            host.ip(&format!("link set {vlan} up"))?;
            give_addresses(host, &vlan, "10.0.100", "fd00:100:", number)?;
        }
        Ok(())
    }

    /// Makes the node's agent answer for these VIPs.
    pub(super) fn serve(&self, service: &str, vips: &[&str]) -> Result<()> {
        let text = manifest::service(service, vips);
        self.manifests.write(&format!("{service}.yaml"), &text)
    }

    /// An agent that uses these interfaces, and has attached the program in this mode.
    pub(super) fn agent(&self, mode: Mode, interfaces: &[&str]) -> Result<Process> {
        let manifests = self.manifests.path().to_string_lossy();
        let mut arguments = vec!["--manifests", &manifests, "--xdp-mode", mode.name()];
        for interface in interfaces {
            arguments.extend(["--interface", interface]);
        }
        let agent = self.node.agent(arguments)?;
        agent.wait_for_line("ready", PATIENCE)?;
        Ok(agent)
    }

    /// What `speaker status` prints.
    pub(super) fn status(&self) -> Result<String> {
        let status = ["status", "--state-dir", "/run/lab/state"];
        self.node.speaker()?.args(status).limit(PATIENCE).run()
    }

    /// The program runs on this interface in this mode, according to the kernel, and answers for
    /// the VIPs, according to the agent.
    pub(super) fn runs_on(&self, interface: &str, mode: Mode, vips: &[&str]) -> Result<()> {
        let shown = self.node.ip(&format!("link show dev {interface}"))?;
        let word = match mode {
            Mode::Generic => "xdpgeneric",
            Mode::Native => "xdp",
        };
        ensure!(
            shown.split_whitespace().any(|it| it == word),
            "the program should run on {interface} in {mode:?} mode: {shown}"
        );
        let status = self.status()?;
        for vip in vips {
            let answered = status.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some(vip) && words.any(|word| word == mode.name())
            });
            ensure!(
                answered,
                "{vip} should be answered in {mode:?} mode:\n{status}"
            );
        }
        Ok(())
    }

    /// No program runs on this interface.
    pub(super) fn leaves_alone(&self, interface: &str) -> Result<()> {
        let shown = self.node.ip(&format!("link show dev {interface}"))?;
        ensure!(
            !shown.contains("xdp"),
            "no program should run here: {shown}"
        );
        Ok(())
    }

    /// The client's programs get the MAC of the node's end, once per request.
    pub(super) fn is_answered(&self, vip: &str, wire: Wire) -> Result<()> {
        let mac = mac(&self.node, wire.node)?;
        let asked = self.ask(vip, wire.client, "20")?;
        ensure!(
            asked.told.to_lowercase().contains(&mac),
            "{vip} should be at {mac}: {asked:?}"
        );
        ensure!(
            (1..=asked.requests).contains(&asked.answers),
            "{vip} should be answered once: {asked:?}"
        );
        Ok(())
    }

    /// The client gets no answer.
    pub(super) fn is_not_answered(&self, vip: &str, client_end: &str) -> Result<()> {
        let asked = self.ask(vip, client_end, "1")?;
        ensure!(
            asked.requests > 0 && asked.answers == 0,
            "{vip} should not be answered on {client_end}: {asked:?}"
        );
        Ok(())
    }

    /// Runs arping or ndisc6 for a VIP, for this many seconds or until it is answered.
    fn ask(&self, vip: &str, client_end: &str, seconds: &str) -> Result<Asked> {
        let address: IpAddr = vip.parse()?;
        let program = match address {
            IpAddr::V4(_) => {
                let arping = self.client.command("arping");
                arping.args(["-f", "-w", seconds, "-I", client_end, vip])
            }
            IpAddr::V6(_) => {
                let ndisc6 = self.client.command("ndisc6");
                ndisc6.args(["-1", "-r", seconds, vip, client_end])
            }
        };
        let client = mac(&self.client, client_end)?;
        let seen = self.client.capture(client_end)?;
        let told = program.limit(PATIENCE).output()?.stdout;
        thread::sleep(MEANWHILE);
        let (mut requests, mut answers) = (0, 0);
        for frame in seen.frames() {
            let Some(message) = Message::of(&frame) else {
                continue;
            };
            if frame.sent && asks_for(&message, address) {
                requests += 1;
            }
            // Announcements are broadcast.
            let to_client = !frame.sent && text(frame.destination()) == client;
            if to_client && message.says(address, frame.source()) {
                answers += 1;
            }
        }
        Ok(Asked {
            told,
            requests,
            answers,
        })
    }

    fn ends(&self, wire: Wire) -> [(&Host, &'static str); 2] {
        [(&self.node, wire.node), (&self.client, wire.client)]
    }
}

/// The result of asking.
#[derive(Debug)]
struct Asked {
    /// The program's output.
    told: String,
    /// Sent by it.
    requests: usize,
    /// Sent to it.
    answers: usize,
}

fn asks_for(message: &Message, vip: IpAddr) -> bool {
    match *message {
        Message::Arp { target, .. } => vip == target.0,
        Message::Solicitation { target, .. } => vip == target,
        Message::Advertisement { .. } => false,
    }
}

/// The MAC of a host's interface, as the kernel writes it.
pub(super) fn mac(host: &Host, interface: &str) -> Result<String> {
    let path = format!("/sys/class/net/{interface}/address");
    let mac = host.run(|| fs::read_to_string(path))?;
    Ok(mac.trim().to_owned())
}

/// Gives a host a card of the virtual machine for its lifetime.
pub(super) fn take_card(host: &Host, card: &str) -> Result<()> {
    // From a namespace that has just ended, it comes back some time later.
    let path = format!("/sys/class/net/{card}");
    for _ in 0..100 {
        if fs::exists(&path)? {
            return run_here(&format!("link set {card} netns {}", host.init()));
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("the virtual machine has no network card {card}")
}

/// Connects two hosts by a separate cable, with an interface of this name at either end.
pub(super) fn connect(one: (&Host, &str), other: (&Host, &str)) -> Result<()> {
    let end = |(host, name): (&Host, &str)| format!("name {name} netns {}", host.init());
    let (one, other) = (end(one), end(other));
    run_here(&format!("link add {one} type veth peer {other}"))
}

/// Gives an interface the address of this number in an IPv4 and an IPv6 network.
pub(super) fn give_addresses(
    host: &Host,
    interface: &str,
    v4: &str,
    v6: &str,
    number: u8,
) -> Result<()> {
    host.ip(&format!("address add {v4}.{number}/24 dev {interface}"))?;
    host.ip(&format!(
        "address add {v6}:{number}/64 dev {interface} nodad"
    ))?;
    Ok(())
}

fn run_here(arguments: &str) -> Result<()> {
    let status = process::Command::new("ip")
        .args(arguments.split_whitespace())
        .status()?;
    ensure!(status.success(), "ip {arguments}: {status}");
    Ok(())
}
