//! kube-proxy in IPVS mode adds every VIP to `kube-ipvs0` on every node. Without `strictARP`, the
//! kernels of both nodes answer for the VIPs, until agents leave that to one.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::scene::PATIENCE;
use crate::{
    agent::Mode,
    cluster::Cluster,
    kube::{
        Backend, Kube, get,
        objects::{self, Endpoint},
        site::WEB,
    },
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
    let kube = Kube::start(lab)?;
    let mut cluster = Cluster::new(lab, 2, Mode::Generic, &[&vips])?;
    let mut sites = Vec::new();
    for (lan, node) in (1..).zip(&cluster.nodes) {
        sites.push(Site::new(lab, &node.host, lan)?);
        kube.join(&node.host, &[])?;
    }
    let mut service = objects::service("web", &WEB);
    // A node has connections served by its own pod.
    service["spec"]["externalTrafficPolicy"] = "Local".into();
    kube.apply(&service)?;
    for is_ipv6 in [false, true] {
        let endpoints = sites.iter().zip(&cluster.nodes);
        let endpoints = endpoints.map(|(site, node)| site.endpoint(&node.host, is_ipv6));
        let endpoints: Vec<_> = endpoints.collect();
        kube.apply(&objects::endpoint_slice("web", &endpoints, &WEB))?;
    }
    kube.ingress("default/web", &vips)?;
    let proxies = cluster.nodes.iter().map(|it| kube.proxy(&it.host, "ipvs"));
    let _proxies = proxies.collect::<Result<Vec<_>>>()?;

    // Linux answers ARP for all its addresses on all its interfaces.
    let nodes = cluster.nodes.iter().zip(&sites);
    let all: BTreeSet<Mac> = nodes
        .flat_map(|(node, site)| [node.host.eth0.mac, site.second.mac])
        .collect();
    let mut answered = BTreeSet::new();
    wait_until("every kernel to answer, without agents", PATIENCE, || {
        answered = answerers(&cluster, vips[0])?;
        Ok(answered == all)
    })
    .with_context(|| format!("these answer: {answered:x?}"))?;

    let pool = manifest::pool("all", &["10.0.0.0/8", "fd00::/8"]);
    let pools = pool + &manifest::advertisement("all", &["all"], &["eth0"]);
    for node in &mut cluster.nodes {
        node.manifests.write("pools.yaml", &pools)?;
        node.spawn()?;
    }
    let first = wait_for("an owner", PATIENCE, || Ok(cluster.owner(vips[0]).ok()))?;
    let second = 1 - first;
    serves(&cluster, first, &vips)?;
    corrects(&cluster, first, vips[0])?;

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

/// A node's equipment apart from its agent and kube-proxy.
struct Site {
    /// Another interface in the clients' network.
    second: Link,
    /// The two ends of the cable to its pod.
    _node: Link,
    inside: Link,
    _pod: Host,
    _backend: Backend,
}

impl Site {
    /// Gives a node a pod, in a network of this number.
    fn new(lab: &Lab, node: &Host, lan: u8) -> Result<Self> {
        let second = node.extra_link("eth1", 0)?;
        let pods = node.extra_link("pods", lan)?;
        let pod = lab.host(&format!("pod-of-{}", node.name()))?;
        // A pod reaches clients only through its node.
        let inside = pod.extra_link("pod", lan)?;
        pod.ip("link set eth0 down")?;
        pod.ip(&format!("route add default via {}", pods.ipv4))?;
        pod.ip(&format!("route add default via {}", pods.ipv6))?;
        let backend = Backend::start(&pod, 8080)?;
        Ok(Self {
            second,
            _node: pods,
            inside,
            _pod: pod,
            _backend: backend,
        })
    }

    /// The pod, as the cluster's own controller finds it.
    fn endpoint<'a>(&self, node: &'a Host, is_ipv6: bool) -> Endpoint<'a> {
        let address = match is_ipv6 {
            true => self.inside.ipv6.into(),
            false => self.inside.ipv4.into(),
        };
        Endpoint {
            address,
            ..Endpoint::on(node, is_ipv6)
        }
    }
}

/// Without `strictARP`, a kernel that sends from a VIP asks for MACs in the VIP's name, and clients
/// believe it. The owner corrects them.
fn corrects(cluster: &Cluster, owner: usize, vip: IpAddr) -> Result<()> {
    let other = &cluster.nodes[1 - owner].host;
    // The announcements of the take-over are over.
    thread::sleep(Duration::from_secs(10));
    let socket = cluster.client.raw("eth0")?;
    other.ip("neigh flush dev eth0")?;
    let client = SocketAddr::new(cluster.client.eth0.ipv4.into(), 9);
    let sent = other.run(|| UdpSocket::bind((vip, 0))?.send_to(b"from a VIP", client));
    sent.context("sending from a VIP that another node owns")?;
    for from in [other, &cluster.nodes[owner].host] {
        let said = socket.receive_matching(PATIENCE, |frame| {
            let says = |message: Message| message.says(vip, from.eth0.mac);
            frame.destination() == BROADCAST && Message::of(frame).is_some_and(says)
        });
        said.with_context(|| format!("what {} says of {vip}", from.name()))?;
    }
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
