//! Nodes that share VIPs, and an ordinary client.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::{
    agent::{Mode, Node},
    lab::{Host, Lab},
    message::Mac,
    wait::wait_for,
};

/// More than nodes take to agree, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Some nodes in one network, and a client.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes: `node-a`, `node-b`, …
    pub nodes: Vec<Node>,
    /// A host without an agent.
    pub client: Host,
    key: NamedTempFile,
}

impl Cluster {
    /// Nodes without running agents. All have the same manifests: for each slice, a Service `web`
    /// with these VIPs.
    pub fn new(lab: &Lab, size: u8, mode: Mode, services: &[&[IpAddr]]) -> Result<Self> {
        let key = tempfile::Builder::new().prefix("key").tempfile()?;
        std::fs::write(&key, "the secret of the nodes in the lab\n")?;
        let mut nodes = Vec::new();
        for number in 0..size {
            let name = format!("node-{}", char::from(b'a' + number));
            let node = Node::new(lab, &name, mode)?;
            for (index, vips) in services.iter().enumerate() {
                node.serve(&format!("web-{index}"), vips)?;
            }
            nodes.push(node);
        }
        let client = lab.host("client")?;
        let mut cluster = Self { nodes, client, key };
        for number in 0..cluster.nodes.len() {
            let arguments =
                cluster.arguments(number, cluster.key.path().to_str().context("UTF-8")?);
            cluster.nodes[number].arguments = arguments;
        }
        Ok(cluster)
    }

    /// Running nodes that agree on one owner of each VIP.
    pub fn started(lab: &Lab, size: u8, mode: Mode, services: &[&[IpAddr]]) -> Result<Self> {
        let mut cluster = Self::new(lab, size, mode, services)?;
        for node in &mut cluster.nodes {
            node.spawn()?;
        }
        cluster.agree(services.concat())?;
        Ok(cluster)
    }

    /// The arguments that name the other nodes to a node's agent.
    pub fn arguments(&self, number: usize, key_file: &str) -> Vec<String> {
        let own = self.nodes[number].host.eth0.ipv4;
        let mut arguments = vec![
            format!("--gossip-bind={own}"),
            format!("--cluster-key-file={key_file}"),
        ];
        let peers = self.nodes.iter().map(|node| node.host.eth0.ipv4);
        arguments.extend(peers.map(|peer| format!("--peer={peer}")));
        arguments
    }

    /// Waits until all nodes agree on one owner of each VIP.
    pub fn agree(&self, vips: Vec<IpAddr>) -> Result<()> {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        for vip in vips {
            self.agreed(&all, vip)?;
        }
        Ok(())
    }

    /// Waits until these nodes agree that one of them owns a VIP, and it answers. Returns which.
    pub fn agreed(&self, among: &[usize], vip: IpAddr) -> Result<usize> {
        wait_for("the nodes to agree", LIMIT, || {
            Ok(agreed(&self.nodes, among, vip))
        })
        .with_context(|| {
            let views = among.iter().map(|number| self.nodes[*number].explain(vip));
            format!("{vip}: {:#?}", views.collect::<Vec<_>>())
        })
    }

    /// The owner of a VIP: waits until all nodes agree.
    pub fn owner(&self, vip: IpAddr) -> Result<usize> {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.agreed(&all, vip)
    }

    /// All nodes but this one.
    pub fn others(&self, number: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|it| *it != number).collect()
    }

    /// The MAC of a node.
    pub fn mac(&self, number: usize) -> Mac {
        self.nodes[number].host.eth0.mac
    }
}

/// Which of these nodes answers for a VIP, if all say that it owns it.
pub fn agreed(nodes: &[Node], among: &[usize], vip: IpAddr) -> Option<usize> {
    let views = among.iter().map(|number| nodes[*number].explain(vip).ok());
    let views: Vec<Explanation> = views.collect::<Option<_>>()?;
    let answers = |(_, view): &(&usize, &Explanation)| view.state == "answering";
    let mut answering = among.iter().zip(&views).filter(answers);
    let (Some((owner, _)), None) = (answering.next(), answering.next()) else {
        return None;
    };
    let name = nodes[*owner].host.name();
    let mut owners = views.iter().map(|view| view.owner.as_deref());
    owners.all(|it| it == Some(name)).then_some(*owner)
}

/// The parts of `speaker explain -o json` that tests read.
#[derive(Clone, Debug, Deserialize)]
pub struct Explanation {
    /// What the node does.
    pub state: String,
    /// The owner.
    pub owner: Option<String>,
    /// The epoch.
    pub epoch: u64,
    /// Why it became the owner.
    pub cause: Option<String>,
    /// The nodes that may own it.
    pub candidates: Vec<Candidate>,
    /// The nodes that may not, and why.
    pub excluded: BTreeMap<String, String>,
    /// The other claimant.
    pub claimed_by: Option<String>,
}

/// A node that may own a VIP.
#[derive(Clone, Debug, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub node: String,
    /// Its standing.
    pub standing: String,
}

impl Node {
    /// The result of `speaker explain` on this node.
    pub fn explain(&self, vip: IpAddr) -> Result<Explanation> {
        let explain = self.speaker("explain")?.arg(vip.to_string());
        let text = explain.args(["-o", "json"]).unheard().run()?;
        serde_json::from_str(&text).with_context(|| format!("reading {text}"))
    }

    /// Runs `speaker drain`, `move` and the like on this node to completion.
    pub fn ask(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let verb = words.next().context("no verb")?;
        let output = self.speaker(verb)?.args(words).output()?;
        ensure!(output.status.success(), "speaker {line}: {}", output.stderr);
        Ok(output.stdout)
    }
}
