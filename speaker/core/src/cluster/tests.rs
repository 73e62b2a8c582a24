//! A few nodes on a network without faults, each with a kernel that does what the program does:
//! what one node alone does at once, and what `explain` says.

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use speaker_common::probe::{self, LENGTH, PeersLease, Probe, Tenure};

use super::*;

const KEY: Key = Key([1, 2]);

/// A node: its agent, and its kernel's maps.
struct Node {
    agent: Cluster,
    lease: probe::AgentLease,
    peers: PeersLease,
    answers: BTreeSet<GroupName>,
    announced: Vec<GroupName>,
}

/// Nodes by their number, which is also their address, and the time since the origin.
struct Lab {
    nodes: Vec<Node>,
    /// What has arrived.
    inputs: VecDeque<(usize, Input)>,
    origin: Instant,
    now: Instant,
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
        peers: Some((0..peers).map(|peer| endpoints(peer).messages).collect()),
        draining: false,
        failback: Failback::Never,
        check_first: false,
        seed: node as u64,
    }
}

fn timing() -> Timing {
    Timing::new(Settings::new(Partition::Available)).unwrap()
}

fn group(nodes: usize) -> Group {
    Group {
        first_ip: Ipv4Addr::new(192, 0, 2, 1).into(),
        candidates: (0..nodes).map(|node| (name(node), 0)).collect(),
    }
}

impl Lab {
    /// Some nodes that know each other's addresses, all of whose intents name `vip`.
    fn new(nodes: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let origin = Instant::now();
        let mut lab = Self {
            nodes: Vec::new(),
            inputs: VecDeque::new(),
            origin,
            now: origin + Duration::from_secs(1),
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
            });
        }
        for node in 0..nodes {
            lab.obey(node);
        }
        lab.work();
        for node in 0..nodes {
            lab.feed(
                node,
                Input::Groups(vec![("vip".into(), Some(group(nodes)))]),
            );
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
                    let from = endpoints(at).messages;
                    let message = Input::Message { from, bytes };
                    self.inputs.push_back((of(to), message));
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
                Command::Set { group, state } => {
                    let answers = &mut self.nodes[at].answers;
                    if matches!(state, GroupState::Answer { .. }) {
                        answers.insert(group);
                    } else {
                        answers.remove(&group);
                    }
                }
                Command::Announce(group) => self.nodes[at].announced.push(group),
                Command::AnswerProbe { .. } | Command::Check(_) => unreachable!("no need here"),
                Command::Event(_) | Command::Stopped => {}
            }
        }
    }

    fn probe(&mut self, from: usize, to: usize, bytes: &[u8; LENGTH], now: u64) {
        let node = &mut self.nodes[to];
        let Some(probe) = Probe::open(bytes, &KEY) else {
            panic!("a probe that the key did not sign");
        };
        let number = self::name(to).number();
        let outcome = probe::answer(&probe, number, &node.lease, &node.peers, now);
        node.peers = outcome.peers;
        self.inputs.push_back(match outcome.reply {
            Some(reply) => (from, Input::Probe(reply.seal(&KEY))),
            None => (to, Input::Probe(*bytes)),
        });
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

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let wakes = self.nodes.iter().enumerate();
            let next = wakes
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
        let vip = GroupName::from("vip");
        (0..self.nodes.len())
            .filter(|node| {
                self.nodes[*node].answers.contains(&vip)
                    && self.kernel(*node).tenure == Tenure::Valid
            })
            .collect()
    }

    fn explain(&self, node: usize) -> Explanation {
        self.nodes[node].agent.explain(&"vip".into()).unwrap()
    }
}

#[test]
fn a_lone_node_answers_and_announces_at_once() {
    let lab = Lab::new(1);
    assert_eq!(lab.answering(), [0]);
    assert_eq!(lab.nodes[0].announced, ["vip".into()]);
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
    lab.feed(0, Input::Groups(vec![("vip".into(), Some(group(1)))]));
    lab.feed(0, Input::Planned);
    lab.run(Duration::from_secs(5));
    assert!(lab.answering().is_empty());
    lab.feed(0, Input::Peers(BTreeSet::new()));
    assert_eq!(lab.answering(), [0]);
}

#[test]
fn a_lone_node_needs_nobody_to_renew_its_lease() {
    let mut lab = Lab::new(1);
    lab.run(Duration::from_secs(20));
    assert_eq!(lab.answering(), [0]);
    assert_eq!(lab.kernel(0).peers_left, None);
    assert!(lab.nodes[0].agent.life().1, "it is alone");
}

#[test]
fn a_lone_nodes_next_agent_goes_on_without_a_gap() {
    let mut lab = Lab::new(1);
    lab.run(Duration::from_secs(5));
    // The agent is gone for two seconds; the kernel is left as it was.
    lab.now += Duration::from_secs(2);
    assert_eq!(lab.answering(), [0]);
    let node = &lab.nodes[0];
    let adopted = Adopted {
        lease: lab.kernel(0),
        deadline: lab.origin + Duration::from_nanos(node.lease.agent_deadline_ns),
        alone: node.lease.alone,
        groups: node.answers.clone(),
    };
    lab.nodes[0].agent = Cluster::new(config(0, 0, Some(adopted)), timing(), lab.now);
    lab.obey(0);
    lab.work();
    assert_eq!(lab.answering(), [0]);
    lab.run(Duration::from_secs(5));
    // The intent takes its time.
    assert_eq!(lab.answering(), [0]);
    lab.feed(0, Input::Groups(vec![("vip".into(), Some(group(1)))]));
    lab.feed(0, Input::Planned);
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [0]);
    assert_eq!(lab.explain(0).cause, Some(Cause::Adopted));
}

/// Nodes hear of a change of the configuration one after the other.
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
    let intent = |group: Group| Input::Groups(vec![("vip".into(), Some(group))]);
    for node in 0..2 {
        lab.feed(node, intent(group(2)));
        lab.feed(node, Input::Planned);
    }
    lab.run(Duration::from_secs(5));
    let better = lab.answering()[0];
    let worse = 1 - better;
    let only_worse = Group {
        candidates: vec![(name(worse), 0)],
        ..group(2)
    };
    for node in 0..2 {
        lab.feed(node, intent(only_worse.clone()));
    }
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [worse]);
    lab.feed(worse, intent(group(2)));
    lab.run(Duration::from_millis(200));
    lab.feed(better, intent(group(2)));
    lab.run(Duration::from_secs(3));
    assert_eq!(lab.answering(), [better]);
}

#[test]
fn explain_names_the_owner_and_why_each_candidate_is_or_is_not() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let answering = lab.answering();
    let [owner] = answering[..] else {
        panic!("{answering:?} answer");
    };
    let order = metallb_order(group(3).first_ip, &group(3).candidates);
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
fn explain_tells_a_group_that_only_others_name_from_one_that_nobody_knows() {
    let mut lab = Lab::new(3);
    let only = vec![(name(0), 0)];
    let mine = Group {
        candidates: only,
        ..group(3)
    };
    lab.feed(0, Input::Groups(vec![("elsewhere".into(), Some(mine))]));
    lab.run(Duration::from_secs(2));
    let told = lab.nodes[1].agent.explain(&"elsewhere".into()).unwrap();
    assert_eq!((told.owner, told.state), (Some(name(0)), None));
    assert_eq!(told.candidates, []);
    assert_eq!(lab.nodes[1].agent.explain(&"nowhere".into()), None);
}
