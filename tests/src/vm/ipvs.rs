//! In IPVS mode, kube-proxy adds every VIP to `kube-ipvs0` on every node. Two nodes are set up as
//! it would without `strictARP`: both kernels answer for the VIPs, until the agents leave that to
//! one.

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
    message::{BROADCAST, Mac, Message, group_mac, solicited_node},
    wait::{wait_for, wait_until},
};

const VIPS: [&str; 2] = ["10.0.0.240", "fd00::240"];

/// Longer than an answer takes.
const MEANWHILE: Duration = Duration::from_millis(500);

pub(super) fn one_node_answers(lab: &Lab) -> Result<()> {
    let vips: [IpAddr; 2] = [VIPS[0].parse()?, VIPS[1].parse()?];
    let mut cluster = Cluster::new(lab, 2, Mode::Generic, &[&vips])?;
    let mut sites = Vec::new();
    for (lan, node) in (1..).zip(&cluster.nodes) {
        sites.push(Site::new(lab, &node.host, lan, &vips)?);
    }

    // Linux answers ARP for all its addresses on all its interfaces.
    let answered = answerers(&cluster, vips[0])?;
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
    let pools = pool + &manifest::advertisement("all", &["all"], &["eth0"]);
    for node in &mut cluster.nodes {
        node.manifests.write("pools.yaml", &pools)?;
        node.spawn()?;
    }
    let first = wait_for("an owner", PATIENCE, || Ok(cluster.owner(vips[0]).ok()))?;
    let second = 1 - first;
    serves(&cluster, first, &vips)?;

    cluster.nodes[first].ask("drain")?;
    is_taken_over(&cluster, second, &vips)?;
    serves(&cluster, second, &vips)?;

    // With its agent dead, a node that holds the VIP stays silent too.
    cluster.nodes[first].ask("undrain")?;
    cluster.nodes[second].agent().kill()?;
    is_taken_over(&cluster, first, &vips)?;
    serves(&cluster, first, &vips)
}

fn is_taken_over(cluster: &Cluster, by: usize, vips: &[IpAddr]) -> Result<()> {
    wait_until("the VIPs to move", PATIENCE, || {
        let answering = |vip: &IpAddr| {
            let explained = cluster.nodes[by].explain(*vip);
            explained.is_ok_and(|it| it.state == "answering")
        };
        Ok(vips.iter().all(answering))
    })
}

/// A node's equipment apart from its agent.
struct Site {
    /// Another interface in the clients' network.
    second: Link,
    /// The two ends of the cable to its pod.
    _cable: [Link; 2],
    _pod: Host,
    _backend: Backend,
}

impl Site {
    /// Sets a node up as kube-proxy would, with one pod, in a network of this number.
    fn new(lab: &Lab, node: &Host, lan: u8, vips: &[IpAddr]) -> Result<Self> {
        let second = node.extra_link("eth1", 0)?;
        let pods = node.extra_link("pods", lan)?;
        let pod = lab.host(&format!("pod-of-{}", node.name()))?;
        // A pod reaches clients only through its node.
        let inside = pod.extra_link("pod", lan)?;
        pod.ip("link set eth0 down")?;
        pod.ip(&format!("route add default via {}", pods.ipv4))?;
        pod.ip(&format!("route add default via {}", pods.ipv6))?;
        let backend = Backend::start(&pod, 8080)?;

        for family in ["ipv4", "ipv6"] {
            node.sysctl(&format!("net.{family}.conf.all.forwarding"), "1")?;
        }
        node.ip("link add kube-ipvs0 type dummy")?;
        for vip in vips {
            let (width, endpoint) = match vip {
                IpAddr::V4(_) => (32, IpAddr::V4(inside.ipv4)),
                IpAddr::V6(_) => (128, IpAddr::V6(inside.ipv6)),
            };
            node.ip(&format!("address add {vip}/{width} dev kube-ipvs0"))?;
            let service = SocketAddr::new(*vip, 80).to_string();
            let endpoint = SocketAddr::new(endpoint, 8080).to_string();
            ipvsadm(
                node,
                &format!("--add-service --tcp-service {service} --scheduler rr"),
            )?;
            let real = format!("--real-server {endpoint} --masquerading");
            ipvsadm(
                node,
                &format!("--add-server --tcp-service {service} {real}"),
            )?;
        }
        Ok(Self {
            second,
            _cable: [pods, inside],
            _pod: pod,
            _backend: backend,
        })
    }
}

fn ipvsadm(node: &Host, arguments: &str) -> Result<()> {
    let arguments = arguments.split_whitespace();
    node.command("ipvsadm").args(arguments).run()?;
    Ok(())
}

/// Exactly one node answers, with the MAC of the interface on which VIPs are advertised, and a
/// connection reaches its pod.
fn serves(cluster: &Cluster, owner: usize, vips: &[IpAddr]) -> Result<()> {
    let node = &cluster.nodes[owner].host;
    for &vip in vips {
        let answered = answerers(cluster, vip)?;
        ensure!(
            answered == BTreeSet::from([node.eth0.mac]),
            "{} alone should answer for {vip}: {answered:x?}",
            node.name()
        );
        cluster.client.ip("neigh flush dev eth0")?;
        let reply = get(&cluster.client, SocketAddr::new(vip, 80), PATIENCE)?;
        ensure!(
            reply.node == format!("pod-of-{}", node.name()),
            "{vip} should be served through {}: {reply:?}",
            node.name()
        );
    }
    Ok(())
}

/// All MACs that answer one request.
fn answerers(cluster: &Cluster, vip: IpAddr) -> Result<BTreeSet<Mac>> {
    let client = &cluster.client.eth0;
    let (request, to) = match vip {
        IpAddr::V4(vip) => {
            let request = Message::arp_request((client.ipv4, client.mac), vip);
            (request, BROADCAST)
        }
        IpAddr::V6(vip) => {
            let request = Message::solicitation((client.ipv6, client.mac), vip);
            (request, group_mac(solicited_node(vip)))
        }
    };
    let socket = cluster.client.raw("eth0")?;
    socket.send(&request.frame(client.mac, to))?;
    let mut macs = BTreeSet::new();
    while let Ok(frame) = socket.receive_matching(MEANWHILE, |frame| {
        let says = |message: Message| message.says(vip, frame.source());
        frame.destination() == client.mac && Message::of(frame).is_some_and(says)
    }) {
        macs.insert(frame.source());
    }
    Ok(macs)
}
