//! A few nodes on a network that loses messages at most, each with a kernel that does what the
//! program does: what one node alone does at once, and what `explain` says.

use std::{
    collections::{BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use speaker_common::probe::{self, LENGTH, PeersLease, Probe, Tenure};

use super::*;

mod found;
mod links;
mod memory;
mod moves;
mod names;
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
    /// The node whose agent does not run.
    away: Option<usize>,
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
    /// Some nodes that know each other's addresses, all of whose intents name `VIP`.
    fn new(nodes: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let origin = Instant::now();
        let mut lab = Self {
            nodes: Vec::new(),
            inputs: VecDeque::new(),
            origin,
            now: origin + Duration::from_secs(1),
            loss: 0.0,
            away: None,
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
        } else {
            lab.run(Timing::LISTEN);
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
            if self.away == Some(node) {
                continue;
            }
            self.nodes[node].agent.handle(input, self.now);
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
                    if self.rng.f64() >= self.loss {
                        let from = endpoints(at).messages;
                        let message = Input::Message { from, bytes };
                        self.inputs.push_back((of(to), message));
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
                Command::Announce(vip) => self.nodes[at].announced.push(vip),
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
        let input = match self.answer(to, bytes, now) {
            Some(reply) => (from, Input::Probe(reply)),
            None => (to, Input::Probe(*bytes)),
        };
        self.inputs.push_back(input);
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

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let wakes = self.nodes.iter().enumerate();
            let next = wakes
                .filter(|(at, _)| self.away != Some(*at))
                .filter_map(|(at, node)| Some((node.agent.poll_timeout()?, at)))
                .min();
            let Some((wake, at)) = next.filter(|(wake, _)| *wake < end) else {
                break;
            };
            // Due at once is due a moment later, or nothing else would ever happen.
            self.now = wake.max(self.now + Duration::from_micros(1));
            self.feed(at, Input::Tick);
        }
        self.now = end;
    }

    fn answering(&self) -> Vec<usize> {
        self.owners(VIP)
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

#[test]
fn a_lone_node_answers_and_announces_at_once() {
    let lab = Lab::new(1);
    assert_eq!(lab.answering(), [0]);
    assert_eq!(lab.nodes[0].announced, [VIP]);
}

#[test]
fn a_node_claims_nothing_before_it_is_told_which_nodes_there_are() {
    let mut lab = Lab::new(2);
    let config = Config {
        peers: None,
        ..config(0, 0, None)
    };
    lab.nodes.truncate(1);
    lab.nodes[0].agent = Cluster::new(config, timing(), lab.now);
    lab.obey(0);
    lab.feed(0, Input::Vips(vec![(VIP, Some(placement(1)))]));
    lab.feed(0, Input::Planned);
    lab.run(Duration::from_secs(5));
    assert!(lab.answering().is_empty());
    lab.feed(0, Input::Peers(Configured::default()));
    assert_eq!(lab.answering(), [0]);
}

#[test]
fn a_lone_node_needs_nobody_to_renew_its_lease() {
    let mut lab = Lab::new(1);
    lab.run(Duration::from_secs(20));
    assert_eq!(lab.answering(), [0]);
    assert_eq!(lab.kernel(0).peers_left, None);
    assert!(lab.nodes[0].agent.lease.alone);
}

#[test]
fn a_lone_nodes_next_agent_goes_on_without_a_gap() {
    let mut lab = Lab::new(1);
    lab.run(Duration::from_secs(5));
    // The agent is gone for two seconds; the kernel is left as it was.
    lab.now += Duration::from_secs(2);
    assert_eq!(lab.answering(), [0]);
    let adopted = lab.left_behind(0);
    lab.restart(0, Some(adopted));
    assert_eq!(lab.answering(), [0]);
    lab.run(Duration::from_secs(5));
    // The intent takes its time.
    assert_eq!(lab.answering(), [0]);
    lab.feed(0, Input::Vips(vec![(VIP, Some(placement(1)))]));
    lab.feed(0, Input::Planned);
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [0]);
    assert_eq!(lab.explain(0).cause, Some(Cause::Adopted));
}

/// Nodes hear of a change of the configuration one after the other.
#[test]
fn of_two_nodes_one_goes_on_answering_however_long_the_others_agent_takes_to_restart() {
    for away_ms in (10..400).step_by(10) {
        let mut lab = Lab::new(2);
        lab.run(Duration::from_secs(5));
        let owner = lab.answering();
        let other = 1 - owner[0];
        lab.feed(other, Input::Stop(Stop::Return(Duration::from_secs(60))));
        lab.run(Duration::from_millis(5));
        lab.away = Some(other);
        lab.run(Duration::from_millis(away_ms));
        lab.away = None;
        let adopted = lab.left_behind(other);
        lab.restart(other, Some(adopted));
        lab.feed(other, Input::Vips(vec![(VIP, Some(placement(2)))]));
        lab.feed(other, Input::Planned);
        for _ in 0..200 {
            lab.run(Duration::from_millis(5));
            assert_eq!(lab.answering(), owner, "{away_ms} ms away");
        }
    }
}

#[test]
fn who_declines_what_it_has_yet_to_hear_that_it_may_own_is_offered_it_again() {
    let mut lab = Lab::new(2);
    for node in 0..2 {
        let config = Config {
            failback: Failback::Immediate,
            ..config(node, 2, None)
        };
        lab.nodes[node].agent = Cluster::new(config, timing(), lab.now);
        lab.nodes[node].answers.clear();
        lab.obey(node);
    }
    let intent = |it: Placement| Input::Vips(vec![(VIP, Some(it))]);
    for node in 0..2 {
        lab.feed(node, intent(placement(2)));
        lab.feed(node, Input::Planned);
    }
    lab.run(Duration::from_secs(5));
    let better = lab.answering()[0];
    let worse = 1 - better;
    let only_worse = Placement {
        candidates: vec![(name(worse), 0)],
        ..placement(2)
    };
    for node in 0..2 {
        lab.feed(node, intent(only_worse.clone()));
    }
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [worse]);
    lab.feed(worse, intent(placement(2)));
    lab.run(Duration::from_millis(200));
    lab.feed(better, intent(placement(2)));
    lab.run(Duration::from_secs(3));
    assert_eq!(lab.answering(), [better]);
}

/// What is to be together with what is a matter of configuration, and one node may have yet to hear
/// of it: nobody ever owns what another one does.
#[test]
fn nodes_that_do_not_agree_on_what_is_together_do_not_both_own_any_of_it() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let [owner] = lab.answering()[..] else {
        panic!("{:?} answer", lab.answering());
    };
    let other = 1 - owner;
    // The VIP is to be with `first`, of which its owner does not know.
    let first = vip(1);
    let changes = || {
        let follower = (
            VIP,
            Some(Placement {
                follows: Some(first),
                ..placement(2)
            }),
        );
        Input::Vips(vec![(first, Some(placement(2))), follower])
    };
    lab.feed(other, changes());
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.owners(first), [other]);
    assert_eq!(lab.owners(VIP), [owner]);
    lab.feed(owner, changes());
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.owners(first), [other]);
    assert_eq!(lab.owners(VIP), [other]);
}

#[test]
fn what_is_new_goes_to_the_owner_of_what_it_is_to_be_with() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let first = lab.answering()[0];
    for to in (0..3).filter(|node| *node != first) {
        let (vip, to) = (VIP, name(to));
        lab.feed(first, Input::Move { vip, to });
        lab.run(Duration::from_secs(2));
    }
    let owner = lab.answering()[0];
    // One that is new and leads, and one that is new and follows.
    let (leader, third) = (vip(1), vip(2));
    for node in 0..3 {
        let follower = Placement {
            follows: Some(leader),
            ..placement(3)
        };
        lab.feed(
            node,
            Input::Vips(vec![
                (leader, Some(placement(3))),
                (VIP, Some(follower.clone())),
                (third, Some(follower)),
            ]),
        );
    }
    lab.run(Duration::from_secs(2));
    for vip in [leader, VIP, third] {
        assert_eq!(lab.owners(vip), [owner], "{vip}");
    }
    lab.feed(owner, Input::Drain(true));
    lab.run(Duration::from_secs(2));
    let next = lab.answering();
    assert_ne!(next, [owner]);
    for vip in [leader, third] {
        assert_eq!(lab.owners(vip), next, "{vip}");
    }
}

#[test]
fn explain_names_the_owner_and_why_each_candidate_is_or_is_not() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let answering = lab.answering();
    let [owner] = answering[..] else {
        panic!("{answering:?} answer");
    };
    let order = metallb_order(placement(3).first_ip, &placement(3).candidates);
    for node in 0..3 {
        let told = lab.explain(node);
        assert_eq!(told.owner, Some(name(owner)));
        assert_eq!((told.epoch, &told.cause), (1, &Some(Cause::First)));
        assert!(told.since.is_some_and(|since| since < lab.now));
        let names = told.candidates.iter().map(|candidate| &candidate.name);
        assert!(names.eq(order.iter().map(|(name, _)| name)));
        for candidate in told.candidates {
            let expected = if candidate.name == name(owner) {
                CandidateStanding::Owner
            } else {
                CandidateStanding::Ready
            };
            assert_eq!(candidate.standing, expected);
        }
    }
    lab.feed(owner, Input::Drain(true));
    lab.run(Duration::from_secs(1));
    let told = lab.explain((owner + 1) % 3);
    let drained = told
        .candidates
        .iter()
        .find(|candidate| candidate.name == name(owner));
    assert_eq!(drained.unwrap().standing, CandidateStanding::Draining);
    let by = name(owner);
    let why = Reason::Drain;
    let moved = Cause::HandedOver { by, why };
    assert_eq!((told.epoch, told.cause), (2, Some(moved.clone())));
    assert_eq!(told.history, [(name(owner), moved)]);
}

#[test]
fn explain_tells_a_vip_that_only_others_name_from_one_that_nobody_knows() {
    let mut lab = Lab::new(3);
    let only = vec![(name(0), 0)];
    let elsewhere = vip(1);
    let mine = Placement {
        candidates: only,
        ..placement(3)
    };
    lab.feed(0, Input::Vips(vec![(elsewhere, Some(mine))]));
    lab.run(Duration::from_secs(2));
    let told = lab.nodes[1].agent.explain(elsewhere).unwrap();
    assert_eq!((told.owner, told.state), (Some(name(0)), None));
    assert_eq!(told.candidates, []);
    assert_eq!(lab.nodes[1].agent.explain(vip(2)), None);
}

#[test]
fn what_is_wrong_with_every_message_of_a_peer_is_told_once_a_minute() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(2));
    lab.nodes[0].events.clear();
    let own = lab.nodes[0].agent.envelope(Body::WatchMe, None);
    let from = [endpoints(7).messages, endpoints(8).messages];
    for _ in 0..600 {
        for from in from {
            for bytes in [vec![0], own.clone()] {
                lab.feed(0, Input::Message { from, bytes });
            }
        }
        lab.run(Duration::from_millis(150));
    }
    let told = |event: Event| {
        let events = lab.nodes[0].events.iter();
        events.filter(|other| **other == event).count()
    };
    for from in from {
        assert_eq!(told(Event::Unreadable(from)), 2);
        assert_eq!(told(Event::NameTaken(from)), 2);
    }
}
