//! The event loop: virtual time, and what the shell does with commands.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use speaker_common::probe::AgentLease;
use speaker_core::cluster::{
    Adopted, Cluster, Command, Config, Group, GroupName, GroupState, Input, KernelLease, Life,
    Settings, Timing, describe_message,
};

use super::{
    Sabotage, Scenario, Tally,
    invariant::{Broken, Watchdog},
    net::Net,
    node::{Clock, KEY, MS, Node, Packet, Trip},
};

/// Lines of the trace that are kept.
const TRACE: usize = 400;
/// Inputs that an agent's sockets hold while it stands still.
const SOCKET: usize = 3_000;
/// Frames that a network card holds while its host stands still.
const RING: usize = 64;

pub(super) enum What {
    Packet {
        to: usize,
        boots: u64,
        packet: Packet,
    },
    Timer {
        node: usize,
        timer: u64,
    },
    /// The agent learns what its intent for a VIP is by then.
    Intent {
        node: usize,
        vip: usize,
    },
    /// For the agent, if it runs by then.
    Input {
        node: usize,
        boots: u64,
        input: Input,
    },
    Begin(usize),
    End(usize),
    Start(usize),
    Resume(usize),
    /// All agents stand still now and then, for up to `pause`, until then.
    Busy {
        pause: u64,
        until: u64,
    },
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    pending: BTreeMap<usize, What>,
    sequence: u64,
    pub(super) rng: SmallRng,
    pub(super) net: Net,
    pub(super) nodes: Vec<Node>,
    pub(super) frozen_until: Vec<u64>,
    pub(super) stopped_until: Vec<u64>,
    pub(super) withdrawn: Vec<bool>,
    pub(super) timing: Timing,
    pub(super) watchdog: Watchdog,
    pub(super) tally: Tally,
    trace: Option<VecDeque<String>>,
}

impl World {
    pub(super) fn new(scenario: Scenario, sabotage: Option<Sabotage>, traced: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(scenario.seed ^ 0x9e37_79b9);
        let timing = Timing::new(Settings::new(scenario.partition)).expect("defaults are safe");
        let nodes: Vec<Node> = (0..scenario.nodes)
            .map(|at| {
                let clock = Clock {
                    offset: rng.random_range(0..1_000_000) * MS,
                    ppm: scenario.drift[at],
                };
                Node::new(at, clock)
            })
            .collect();
        let count = nodes.len();
        let mut world = Self {
            net: Net::new(count, scenario.weather),
            watchdog: Watchdog::new(&scenario, &timing),
            withdrawn: vec![false; scenario.vips],
            scenario,
            sabotage,
            now: 0,
            queue: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            rng,
            nodes,
            frozen_until: vec![0; count],
            stopped_until: vec![0; count],
            timing,
            tally: Tally::default(),
            trace: traced.then(VecDeque::new),
        };
        for node in 0..count {
            let at = world.scenario.starts[node] * MS;
            world.at(at, What::Start(node));
        }
        for (fault, (at, _)) in world.scenario.faults.clone().iter().enumerate() {
            world.at(at * MS, What::Begin(fault));
        }
        world
    }

    pub(super) fn play(mut self) -> Result<Tally, Broken> {
        self.run()
    }

    pub(super) fn trace_of_failure(mut self) -> Vec<String> {
        let broken = self.run().is_err();
        debug_assert!(broken, "the same seed gives the same run");
        self.trace.unwrap_or_default().into()
    }

    fn run(&mut self) -> Result<Tally, Broken> {
        let calm = self.scenario.calm() * MS;
        let settled = calm + self.timing.settle(self.nodes.len() as u32).as_nanos() as u64;
        let end = settled + 2_000 * MS;
        while let Some(Reverse((at, _, id))) = self.queue.pop() {
            if at > end {
                break;
            }
            let was = std::mem::replace(&mut self.now, at);
            if was < settled && at >= settled {
                self.trace(|| "settled".into());
            }
            self.tally.events += 1;
            if std::env::var_os("LOUD").is_some() {
                eprintln!("{} {at}", self.tally.events);
            }
            let what = self.pending.remove(&id).expect("each is queued once");
            self.handle(what);
            self.check(at >= settled)?;
        }
        Ok(self.tally)
    }

    pub(super) fn at(&mut self, at: u64, what: What) {
        self.sequence += 1;
        let id = self.sequence as usize;
        self.pending.insert(id, what);
        self.queue.push(Reverse((at, self.sequence, id)));
    }

    pub(super) fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE {
                trace.pop_front();
            }
            if std::env::var_os("LOUD").is_some() {
                let l = line();
                eprintln!("{:>12.3} {}", self.now as f64 / MS as f64, l);
                return;
            }
            trace.push_back(format!("{:>12.3} {}", self.now as f64 / MS as f64, line()));
        }
    }

    fn handle(&mut self, what: What) {
        match what {
            What::Packet { to, boots, packet } => {
                if self.nodes[to].boots == boots {
                    self.receive(to, packet);
                }
            }
            What::Timer { node, timer } => {
                if self.nodes[node].timer == timer {
                    self.feed(node, Input::Tick);
                }
            }
            What::Input { node, boots, input } => {
                if self.nodes[node].boots == boots {
                    self.feed(node, input);
                }
            }
            What::Intent { node, vip } => self.learn_intent(node, vip),
            What::Begin(fault) => self.begin(fault),
            What::End(fault) => self.end(fault),
            What::Start(node) => self.start(node),
            What::Resume(node) => self.resume(node),
            What::Busy { pause, until } => self.busy(pause, until),
        }
    }

    pub(super) fn receive(&mut self, to: usize, packet: Packet) {
        let node = &mut self.nodes[to];
        if !node.up {
            return;
        }
        if node.frozen {
            if node.ring.len() < RING {
                node.ring.push_back(packet);
            }
            return;
        }
        match packet {
            Packet::Message { from, bytes } => {
                self.trace(|| format!("node-{to} < {}", describe_message(&bytes)));
                self.feed(to, Input::Message { from, bytes });
            }
            Packet::Probe { from, bytes } => {
                let now = node.clock.reads(self.now);
                let number = node.number;
                match node.kernel.answer_probe(number, &bytes, now) {
                    Some(reply) => self.send_probe(to, from, reply),
                    None => self.feed(to, Input::Probe(bytes)),
                }
            }
        }
    }

    fn send_probe(&mut self, from: usize, to: usize, bytes: [u8; 64]) {
        if !self.net.probes_blocked {
            self.transmit(from, to, Packet::Probe { from, bytes });
        }
    }

    fn transmit(&mut self, from: usize, to: usize, packet: Packet) {
        for delay in self.net.transit(&mut self.rng, from, to) {
            let boots = self.nodes[to].boots;
            let packet = packet.clone();
            self.at(self.now + delay, What::Packet { to, boots, packet });
        }
    }

    /// Gives the agent an input, and does what it wants.
    pub(super) fn feed(&mut self, at: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let node = &mut self.nodes[at];
            let Some(agent) = &mut node.agent else {
                return;
            };
            if node.stopped || node.frozen {
                if node.inbox.len() < SOCKET {
                    node.inbox.push_back(input);
                }
                continue;
            }
            agent.handle(input, node.clock.instant(self.now));
            self.carry_out(at, &mut inputs);
        }
        self.set_timer(at);
    }

    /// Carries out the agent's commands one by one.
    pub(super) fn carry_out(&mut self, at: usize, inputs: &mut VecDeque<Input>) {
        loop {
            let node = &mut self.nodes[at];
            let held = node.held.pop_front();
            let next = held.or_else(|| node.agent.as_mut().and_then(Cluster::next_command));
            let Some(command) = next else {
                return;
            };
            match &mut node.trip {
                Some(Trip { after: 0, kill }) => {
                    let kill = *kill;
                    node.trip = None;
                    if kill {
                        self.kill(at);
                    } else {
                        node.held.push_front(command);
                        while let Some(command) =
                            node.agent.as_mut().and_then(Cluster::next_command)
                        {
                            node.held.push_back(command);
                        }
                        node.stopped = true;
                    }
                    return;
                }
                Some(trip) => trip.after -= 1,
                None => {}
            }
            self.obey(at, command, inputs);
        }
    }

    fn set_timer(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.timer += 1;
        let timer = node.timer;
        if !node.stopped
            && !node.frozen
            && let Some(agent) = &node.agent
            && let Some(wake) = agent.poll_timeout()
        {
            let when = node.clock.when(wake, self.now);
            self.at(when, What::Timer { node: at, timer });
        }
    }

    fn obey(&mut self, at: usize, command: Command, inputs: &mut VecDeque<Input>) {
        if !matches!(
            command,
            Command::Send { .. } | Command::SendProbe { .. } | Command::Lease(_)
        ) {
            self.trace(|| format!("node-{at}: {command:?}"));
        }
        let now = self.nodes[at].clock.reads(self.now);
        match command {
            Command::Send { to, bytes } => {
                let from = self.nodes[at].endpoints.messages;
                self.transmit(at, Node::at(to), Packet::Message { from, bytes });
            }
            Command::SendProbe { to, probe } => self.send_probe(at, Node::at(to), probe),
            Command::AnswerProbe { to, probe } => {
                let node = &mut self.nodes[at];
                let number = node.number;
                if let Some(reply) = node.kernel.answer_probe(number, &probe, now) {
                    inputs.push_back(Input::ProbeAnswered { to, reply });
                }
            }
            Command::Lease(lease) => {
                let node = &mut self.nodes[at];
                node.kernel.agent = AgentLease {
                    life: lease.life.0,
                    agent_deadline_ns: Clock::nanos(lease.deadline),
                    heartbeat_ns: now,
                    peers_lease_ns: lease.peers_lease.as_nanos() as u64,
                    alone: lease.alone,
                    flags: speaker_core::cluster::lease_flags(&lease),
                };
                inputs.push_back(Input::Kernel(self.read_kernel(at)));
                self.announce(at);
            }
            Command::Set { group, state } => self.set(at, &group, &state),
            Command::Announce(group) => {
                self.nodes[at].unannounced.insert(vip_of(&group));
                self.announce(at);
            }
            Command::Check(group) => {
                let input = Input::Checked { group, free: true };
                let boots = self.nodes[at].boots;
                self.at(
                    self.now + 200 * MS,
                    What::Input {
                        node: at,
                        boots,
                        input,
                    },
                );
            }
            Command::Event(event) => self.note(at, &event),
            Command::Stopped => self.ended(at),
        }
    }

    /// The shell announces what waits for it, if the lease stands.
    fn announce(&mut self, at: usize) {
        if !self.nodes[at].stands(self.now) || self.sabotage == Some(Sabotage::Unannounced) {
            return;
        }
        for vip in std::mem::take(&mut self.nodes[at].unannounced) {
            if self.nodes[at].answers(vip, self.now) {
                self.watchdog.announced(at, vip);
            }
        }
    }

    fn set(&mut self, at: usize, group: &GroupName, state: &GroupState) {
        let vip = vip_of(group);
        let answer = match self.sabotage {
            Some(Sabotage::Mute) => false,
            Some(Sabotage::Usurper) => !matches!(state, GroupState::Silent(_)),
            Some(Sabotage::DrainIgnored) if self.nodes[at].draining => {
                matches!(state, GroupState::Answer { .. })
                    || self.nodes[at].kernel.answer.contains(&vip)
            }
            Some(_) | None => matches!(state, GroupState::Answer { .. }),
        };
        let answers = &mut self.nodes[at].kernel.answer;
        if !answer {
            answers.remove(&vip);
            self.nodes[at].unannounced.remove(&vip);
        } else if answers.insert(vip) {
            self.tally.takeovers += 1;
            self.watchdog.took_over(at, vip, state, self.now);
        }
    }

    pub(super) fn read_kernel(&self, at: usize) -> KernelLease {
        let node = &self.nodes[at];
        let now = node.clock.reads(self.now);
        let kernel = &node.kernel;
        let left = kernel.peers.deadline_ns.checked_sub(now);
        KernelLease {
            life: Life(kernel.agent.life),
            tenure: kernel.tenure(now),
            peers_left: left
                .filter(|_| kernel.peers.life == kernel.agent.life)
                .map(Duration::from_nanos),
        }
    }

    /// Starts an agent where none runs, and the host if it is off.
    pub(super) fn start(&mut self, at: usize) {
        let kernel = self.read_kernel(at);
        let peers = self
            .nodes
            .iter()
            .map(|node| node.endpoints.messages)
            .collect();
        let seed = self.rng.random();
        // Now and then a host comes up with a clock that is far behind.
        let life = Life(if self.rng.random_range(0..8) == 0 {
            1
        } else {
            self.now / MS + 1
        });
        let node = &mut self.nodes[at];
        if node.agent.is_some() {
            return;
        }
        node.up = true;
        node.left = false;
        self.watchdog.back(at);
        node.stopped = false;
        node.inbox.clear();
        node.held.clear();
        node.trip = None;
        let lease = node.kernel.agent;
        let now = node.clock.instant(self.now);
        let until_deadline = lease
            .agent_deadline_ns
            .saturating_sub(node.clock.reads(self.now));
        let config = Config {
            name: node.name.clone(),
            endpoints: node.endpoints,
            life,
            adopted: Some(Adopted {
                lease: kernel,
                deadline: now + Duration::from_nanos(until_deadline),
                alone: lease.alone,
                groups: node.kernel.answer.iter().map(|vip| name_of(*vip)).collect(),
            })
            .filter(|_| lease.life != 0),
            keys: vec![KEY],
            peers,
            draining: node.draining,
            failback: self.scenario.failback,
            check_first: false,
            seed,
        };
        self.trace(|| format!("node-{at} starts: {:?}", config.adopted));
        let agent = Cluster::new(config, self.timing.clone(), now);
        self.nodes[at].agent = Some(agent);
        let mut inputs = VecDeque::new();
        self.carry_out(at, &mut inputs);
        for input in inputs {
            self.feed(at, input);
        }
        for vip in 0..self.scenario.vips {
            self.tell_intent(at, vip, 30);
        }
        let planned = Input::Planned;
        let boots = self.nodes[at].boots;
        self.at(
            self.now + 31 * MS,
            What::Input {
                node: at,
                boots,
                input: planned,
            },
        );
        self.set_timer(at);
    }

    /// The node's intent for a VIP is as the model has it, within so many milliseconds.
    pub(super) fn tell_intent(&mut self, at: usize, vip: usize, within: u64) {
        let delay = self.rng.random_range(0..within) * MS;
        self.at(self.now + delay, What::Intent { node: at, vip });
    }

    fn learn_intent(&mut self, at: usize, vip: usize) {
        let group = (!self.withdrawn[vip]).then(|| Group {
            first_ip: std::net::Ipv4Addr::from(0x0a00_0001 + vip as u32).into(),
            candidates: self
                .nodes
                .iter()
                .zip(&self.scenario.candidates[vip])
                .filter(|(node, _)| node.linked)
                .filter_map(|(node, score)| Some((node.name.clone(), (*score)?)))
                .collect(),
        });
        self.feed(at, Input::Group(name_of(vip), group));
    }
}

pub(super) fn name_of(vip: usize) -> GroupName {
    GroupName::from(format!("vip-{vip}"))
}

pub(super) fn vip_of(group: &GroupName) -> usize {
    let number = group.as_str().trim_start_matches("vip-").parse();
    number.expect("all groups are named by `name_of`")
}
