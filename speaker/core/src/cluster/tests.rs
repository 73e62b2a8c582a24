//! A few nodes on a network that at worst loses messages, each with a kernel that does what the
//! program does.

use std::{
    collections::{BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use speaker_common::probe::{self, LENGTH, PeersLease, Probe, Tenure};

use super::{message::Envelope, *};

mod alone;
mod claims;
mod explain;
mod found;
mod links;
mod memory;
mod moves;
mod names;
mod rest;
mod silence;
mod together;
mod vouching;
mod wire;

const KEY: Key = Key([1, 2]);
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A node: its agent, and its kernel's maps.
struct Node {
    agent: Cluster,
    lease: probe::AgentLease,
    peers: PeersLease,
    answers: BTreeSet<IpAddr>,
    announced: Vec<IpAddr>,
    defended: Vec<IpAddr>,
    checked: Vec<IpAddr>,
    events: Vec<Event>,
}

/// Nodes by their number, which is also their address, and the time since the origin.
struct Lab {
    nodes: Vec<Node>,
    /// What has arrived.
    inputs: VecDeque<(usize, Input)>,
    origin: Instant,
    now: Instant,
    /// The chance that a message between agents is lost.
    loss: f64,
    /// The nodes whose agents do not run.
    away: BTreeSet<usize>,
    /// The node that nothing reaches.
    deaf: Option<usize>,
    /// How often each node has asked each other one to watch it.
    asked: BTreeMap<(usize, usize), u32>,
    /// How many messages were sent.
    messages: u64,
    rng: Rng,
}

fn name(node: usize) -> NodeName {
    format!("node-{node}").into()
}

fn endpoints(node: usize) -> Endpoints {
    let at = |port| SocketAddr::from(([10, 0, 0, node as u8 + 1], port));
    Endpoints {
        messages: at(1),
        probes: at(2),
    }
}

fn config(node: usize, peers: usize, adopted: Option<Adopted>) -> Config {
    Config {
        name: name(node),
        endpoints: endpoints(node),
        life: Life(7),
        adopted,
        keys: vec![KEY],
        peers: Some(Configured::at(
            (0..peers).map(|peer| endpoints(peer).messages),
        )),
        remembered: BTreeMap::new(),
        draining: false,
        failback: Failback::Never,
        check_first: false,
        seed: node as u64,
    }
}

fn timing() -> Timing {
    Timing::new(Settings::new(Partition::Available)).unwrap()
}

/// A VIP other than [`VIP`].
fn vip(number: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number as u32).into()
}

fn placement(nodes: usize) -> Placement {
    Placement {
        first_ip: VIP,
        candidates: (0..nodes).map(|node| (name(node), 0)).collect(),
        follows: None,
    }
}

impl Lab {
    /// Some nodes that know each other's addresses; their intents name `VIP`.
    fn new(nodes: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let origin = Instant::now();
        let mut lab = Self {
            nodes: Vec::new(),
            inputs: VecDeque::new(),
            origin,
            now: origin + Duration::from_secs(1),
            loss: 0.0,
            away: BTreeSet::new(),
            deaf: None,
            asked: BTreeMap::new(),
            messages: 0,
            rng: Rng::with_seed(1),
        };
        for node in 0..nodes {
            let peers = if nodes == 1 { 0 } else { nodes };
            let agent = Cluster::new(config(node, peers, None), timing(), lab.now);
            lab.nodes.push(Node {
                agent,
                lease: probe::AgentLease::default(),
                peers: PeersLease::default(),
                answers: BTreeSet::new(),
                announced: Vec::new(),
                defended: Vec::new(),
                checked: Vec::new(),
                events: Vec::new(),
            });
        }
        for node in 0..nodes {
            lab.obey(node);
        }
        lab.work();
        if nodes == 1 {
            lab.feed(0, Input::Peers(Configured::default()));
        }
        for node in 0..nodes {
            lab.feed(node, Input::Vips(vec![(VIP, Some(placement(nodes)))]));
            lab.feed(node, Input::Planned);
        }
        lab
    }

    fn ns(&self, at: Instant) -> u64 {
        (at - self.origin).as_nanos() as u64
    }

    fn feed(&mut self, node: usize, input: Input) {
        self.inputs.push_back((node, input));
        self.work();
    }

    fn work(&mut self) {
        while let Some((node, input)) = self.inputs.pop_front() {
            if self.away.contains(&node) {
                continue;
            }
            self.nodes[node].agent.handle(input, self.now);
            self.nodes[node].agent.check_rest(self.now);
            self.obey(node);
        }
    }

    fn obey(&mut self, at: usize) {
        while let Some(command) = self.nodes[at].agent.next_command() {
            let now = self.ns(self.now);
            let of = |address: SocketAddr| match address {
                SocketAddr::V4(address) => usize::from(address.ip().octets()[3]) - 1,
                SocketAddr::V6(_) => unreachable!("all addresses here are IPv4"),
            };
            match command {
                Command::Send { to, bytes } => {
                    self.messages += 1;
                    let to = of(to);
                    if Envelope::decode(&bytes).is_some_and(|it| it.body == Body::WatchMe) {
                        *self.asked.entry((at, to)).or_default() += 1;
                    }
                    if self.rng.f64() >= self.loss && self.deaf != Some(to) {
                        let from = endpoints(at).messages;
                        let message = Input::Message { from, bytes };
                        self.inputs.push_back((to, message));
                    }
                }
                Command::SendProbe { to, probe } => {
                    self.probe(at, of(to), &probe, now);
                }
                Command::Lease(lease) => {
                    let node = &mut self.nodes[at];
                    node.lease = probe::AgentLease {
                        life: lease.life.0,
                        agent_deadline_ns: (lease.deadline - self.origin).as_nanos() as u64,
                        heartbeat_ns: now,
                        peers_lease_ns: lease.peers_lease.as_nanos() as u64,
                        alone: lease.alone,
                        flags: lease_flags(&lease),
                    };
                    let kernel = self.kernel(at);
                    self.inputs.push_back((at, Input::Kernel(kernel)));
                }
                Command::Set { vip, state } => {
                    let answers = &mut self.nodes[at].answers;
                    if matches!(state, VipState::Answer { .. }) {
                        answers.insert(vip);
                    } else {
                        answers.remove(&vip);
                    }
                }
                Command::Announce(vip) | Command::Contend(vip) => {
                    self.nodes[at].announced.push(vip);
                }
                Command::Defend(vip) => self.nodes[at].defended.push(vip),
                Command::AnswerProbe { to, probe } => {
                    if let Some(reply) = self.answer(at, &probe, now) {
                        let answered = Input::ProbeAnswered { to, reply };
                        self.inputs.push_back((at, answered));
                    }
                }
                Command::Check(vip) => self.nodes[at].checked.push(vip),
                Command::Event(event) => self.nodes[at].events.push(event),
                Command::Remember(_) | Command::Stopped => {}
            }
        }
    }

    fn probe(&mut self, from: usize, to: usize, bytes: &[u8; LENGTH], now: u64) {
        if self.deaf == Some(to) {
            return;
        }
        let (at, bytes) = match self.answer(to, bytes, now) {
            Some(reply) => (from, reply),
            None => (to, *bytes),
        };
        if self.deaf != Some(at) {
            self.inputs.push_back((at, Input::Probe(bytes)));
        }
    }

    /// What the kernel of a node says to a probe.
    fn answer(&mut self, at: usize, bytes: &[u8; LENGTH], now: u64) -> Option<[u8; LENGTH]> {
        let node = &mut self.nodes[at];
        let Some(probe) = Probe::open(bytes, &KEY) else {
            panic!("a probe that the key did not sign");
        };
        let number = self::name(at).number();
        let outcome = probe::answer(&probe, number, &node.lease, &node.peers, now);
        node.peers = outcome.peers;
        outcome.reply.map(|reply| reply.seal(&KEY))
    }

    fn kernel(&self, at: usize) -> KernelLease {
        let node = &self.nodes[at];
        let now = self.ns(self.now);
        let left = node.peers.deadline_ns.checked_sub(now);
        KernelLease {
            life: Life(node.lease.life),
            tenure: probe::tenure(&node.lease, &node.peers, now),
            peers_left: left
                .filter(|_| node.peers.life == node.lease.life)
                .map(Duration::from_nanos),
        }
    }

    /// What a node's agent leaves in its kernel when it ends.
    fn left_behind(&self, at: usize) -> Adopted {
        let node = &self.nodes[at];
        Adopted {
            lease: self.kernel(at),
            deadline: self.origin + Duration::from_nanos(node.lease.agent_deadline_ns),
            peers_lease: Duration::from_nanos(node.lease.peers_lease_ns),
            alone: node.lease.alone,
            vips: node.answers.clone(),
        }
    }

    /// Another agent starts on a node.
    fn restart(&mut self, at: usize, adopted: Option<Adopted>) {
        let peers = if self.nodes.len() == 1 {
            0
        } else {
            self.nodes.len()
        };
        let config = Config {
            life: Life(self.nodes[at].lease.life + 1),
            seed: self.rng.u64(..),
            ..config(at, peers, adopted)
        };
        self.nodes[at].agent = Cluster::new(config, timing(), self.now);
        self.nodes[at].events.clear();
        self.obey(at);
        self.work();
    }

    /// A new agent on a node, with these peers.
    fn start(&mut self, node: usize, peers: Configured) {
        self.start_with(node, peers, Settings::new(Partition::Available));
    }

    fn start_with(&mut self, node: usize, peers: Configured, settings: Settings) {
        let config = Config {
            peers: Some(peers),
            life: Life(self.nodes[node].lease.life + 1),
            ..config(node, 0, None)
        };
        let timing = Timing::new(settings).unwrap();
        self.nodes[node].agent = Cluster::new(config, timing, self.now);
        self.nodes[node].answers.clear();
        self.obey(node);
        let vips = vec![(VIP, Some(placement(self.nodes.len())))];
        self.feed(node, Input::Vips(vips));
        self.feed(node, Input::Planned);
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let wakes = self.nodes.iter().enumerate();
            let next = wakes
                .filter(|(at, _)| !self.away.contains(at))
                .filter_map(|(at, node)| Some((node.agent.poll_timeout()?, at)))
                .min();
            let Some((wake, at)) = next.filter(|(wake, _)| *wake < end) else {
                break;
            };
            // What is due at once is handled a moment later, or nothing else would ever happen.
            self.now = wake.max(self.now + Duration::from_micros(1));
            self.feed(at, Input::Tick);
        }
        self.now = end;
    }

    fn answering(&self) -> Vec<usize> {
        self.owners(VIP)
    }

    /// The one node that answers.
    #[track_caller]
    fn owner(&self) -> usize {
        let [owner] = self.answering()[..] else {
            panic!("{:?} answer", self.answering());
        };
        owner
    }

    fn owners(&self, vip: IpAddr) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|node| {
                self.nodes[*node].answers.contains(&vip)
                    && self.kernel(*node).tenure == Tenure::Valid
            })
            .collect()
    }

    fn explain(&self, node: usize) -> Explanation {
        self.nodes[node].agent.explain(VIP).unwrap()
    }
}
