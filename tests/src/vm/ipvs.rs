//! kube-proxy in IPVS mode gives every VIP to `kube-ipvs0` on every node. Here a node is set up as it
//! does without `strictARP`, and the agents see to it that one node answers.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};

use super::scene::PATIENCE;
use crate::{
    agent::Mode,
    cluster::Cluster,
    kube::{Backend, get},
    lab::{Host, Lab, Link},
    manifest,
    message::{BROADCAST, Mac, Message},
    wait::{wait_for, wait_until},
};

const VIP: &str = "10.0.0.240";
const VIP_V6: &str = "fd00::240";

/// A virtual machine has a tenth of the speed, of a computer that may have much else to do.
const PACE: [&str; 4] = [
    "--probe-interval=500ms",
    "--suspect-after=10s",
    "--peers-lease=15s",
    "--take-over-after=16s",
];

/// An answer would have come.
const MEANWHILE: Duration = Duration::from_millis(500);

pub(super) fn one_node_answers(lab: &Lab) -> Result<()> {
    let vips: [IpAddr; 2] = [VIP.parse()?, VIP_V6.parse()?];
    let mut cluster = Cluster::new(lab, 2, Mode::Generic, &[&vips])?;
    let mut sites = Vec::new();
    for (lan, node) in (1..).zip(&cluster.nodes) {
        sites.push(Site::new(lab, &node.host, lan)?);
    }

    // Linux answers for all its addresses on all its interfaces.
    let answered = answerers(&cluster)?;
    for (node, site) in cluster.nodes.iter().zip(&sites) {
        for mac in [node.host.eth0.mac, site.second.mac] {
            ensure!(
                answered.contains(&mac),
                "without an agent, the kernel of {} should answer: {answered:x?}",
                node.host.name()
            );
        }
    }

    let pool = manifest::pool("all", &["10.0.0.0/8", "fd00::/8"]);
    let advertisement = manifest::advertisement("all", &["all"], &["eth0"]);
    let pools = pool + &advertisement;
    for node in &mut cluster.nodes {
        node.manifests.write("pools.yaml", &pools)?;
        node.arguments.extend(PACE.map(str::to_owned));
        node.spawn()?;
    }
    let owner = owner(&cluster, vips[0])?;
    serves(&cluster, owner)?;
    cluster.nodes[owner].ask("drain")?;
    let other = 1 - owner;
    wait_until("the VIP moves", PATIENCE, || {
        Ok(cluster.owner(vips[0]).is_ok_and(|now| now == other))
    })?;
    serves(&cluster, other)?;
    // Who does not answer stays silent without its agent.
    cluster.nodes[owner].agent().kill()?;
    serves(&cluster, other)
}

fn owner(cluster: &Cluster, vip: IpAddr) -> Result<usize> {
    wait_for("an owner", PATIENCE, || Ok(cluster.owner(vip).ok()))
}

/// What a node has besides its agent.
struct Site {
    /// Another interface in the clients' network.
    second: Link,
    /// Where its pods are.
    _pods: Link,
    _pod: Host,
    _backend: Backend,
}

impl Site {
    /// Sets a node up as kube-proxy would, with one pod, which is in a network of this number.
    fn new(lab: &Lab, node: &Host, lan: u8) -> Result<Self> {
        let second = node.extra_link("eth1", 0)?;
        let pods = node.extra_link("pods", lan)?;
        let pod = lab.host(&format!("pod-of-{}", node.name()))?;
        // A pod has no way to clients but its node.
        let inside = pod.extra_link("pod", lan)?;
        pod.ip("link set eth0 down")?;
        pod.ip(&format!("route add default via {}", pods.ipv4))?;
        pod.ip(&format!("route add default via {}", pods.ipv6))?;
        let backend = Backend::start(&pod, 8080)?;

        for family in ["ipv4", "ipv6"] {
            node.sysctl(&format!("net.{family}.conf.all.forwarding"), "1")?;
        }
        node.ip("link add kube-ipvs0 type dummy")?;
        for (vip, endpoint) in [(VIP, inside.ipv4.into()), (VIP_V6, inside.ipv6.into())] {
            let vip: IpAddr = vip.parse()?;
            let width = if vip.is_ipv4() { 32 } else { 128 };
            node.ip(&format!("address add {vip}/{width} dev kube-ipvs0"))?;
            let service = SocketAddr::new(vip, 80).to_string();
            let endpoint = SocketAddr::new(endpoint, 8080).to_string();
            ipvsadm(node, &["--add-service", "--tcp-service", &service])?;
            let real = ["--add-server", "--tcp-service", &service];
            let at = ["--real-server", &endpoint, "--masquerading"];
            ipvsadm(node, &[real, at].concat())?;
        }
        Ok(Self {
            second,
            _pods: pods,
            _pod: pod,
            _backend: backend,
        })
    }
}

fn ipvsadm(node: &Host, arguments: &[&str]) -> Result<()> {
    node.command("ipvsadm").args(arguments).run()?;
    Ok(())
}

/// One node answers, with the MAC of the interface that was asked through, and its pod serves.
fn serves(cluster: &Cluster, owner: usize) -> Result<()> {
    let node = &cluster.nodes[owner].host;
    let answered = answerers(cluster)?;
    ensure!(
        answered == BTreeSet::from([node.eth0.mac]),
        "{} alone should answer: {answered:x?}",
        node.name()
    );
    for vip in [VIP, VIP_V6] {
        cluster.client.ip("neigh flush dev eth0")?;
        let reply = get(&cluster.client, SocketAddr::new(vip.parse()?, 80), PATIENCE)?;
        ensure!(
            reply.node == format!("pod-of-{}", node.name()),
            "{vip} should be served through {}: {reply:?}",
            node.name()
        );
    }
    Ok(())
}

/// All MACs that answer one ARP request.
fn answerers(cluster: &Cluster) -> Result<BTreeSet<Mac>> {
    let vip: IpAddr = VIP.parse()?;
    let IpAddr::V4(v4) = vip else {
        unreachable!("it is of IPv4")
    };
    let client = &cluster.client.eth0;
    let socket = cluster.client.raw("eth0")?;
    let request = Message::arp_request((client.ipv4, client.mac), v4);
    socket.send(&request.frame(client.mac, BROADCAST))?;
    let mut macs = BTreeSet::new();
    while let Ok(frame) = socket.receive_matching(MEANWHILE, |frame| {
        let says = |message: Message| message.says(vip, frame.source());
        frame.destination() == client.mac && Message::of(frame).is_some_and(says)
    }) {
        macs.insert(frame.source());
    }
    Ok(macs)
}
