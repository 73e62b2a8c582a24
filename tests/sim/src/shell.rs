//! How a host handles packets, and the shell the agent's commands.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use speaker_common::probe::{AgentLease, LENGTH};
use speaker_core::cluster::{
    Adopted, Claimant, Cluster, Command, Config, Configured, Input, KernelLease, Life, Occupancy,
    Placement, VipState, describe_message, lease_flags,
};

use super::{
    Sabotage,
    node::{Clock, KEY, MS, Node, Packet, Trip},
    world::{What, World, address_of, vip_at},
};

/// Inputs that an agent's sockets hold while it is frozen.
const SOCKET: usize = 3_000;
/// Frames that a network card holds while its host is paused.
const RING: usize = 64;

impl World {
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
                let stood = node.stands(self.now);
                let reply = node.kernel.answer_probe(number, &bytes, now);
                if !stood && node.stands(self.now) {
                    self.touched.insert(to);
                }
                match reply {
                    Some(reply) => self.send_probe(to, from, reply),
                    None => self.feed(to, Input::Probe(bytes)),
                }
            }
        }
    }

    fn send_probe(&mut self, from: usize, to: usize, bytes: [u8; LENGTH]) {
        if !self.net.probes_blocked {
            self.transmit(from, to, Packet::Probe { from, bytes });
        }
    }

    fn transmit(&mut self, from: usize, to: usize, packet: Packet) {
        if let Packet::Message { .. } = packet {
            self.tally.messages += u64::from(self.now >= self.trouble);
        }
        if self.now >= self.idle {
            self.tally.idle_packets += 1;
            self.tally.idle_bytes += packet.length();
        }
        for delay in self.net.transit(&mut self.rng, from, to) {
            let boots = self.nodes[to].boots;
            let packet = packet.clone();
            self.at(self.now + delay, What::Packet { to, boots, packet });
        }
    }

    /// Passes an input to the agent, and carries out its commands.
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
        let runs = !node.stopped && !node.frozen;
        let wake = node.agent.as_ref().filter(|_| runs);
        let wakes = wake
            .and_then(Cluster::poll_timeout)
            .map(|wake| node.clock.when(wake, self.now));
        if wakes == node.wakes {
            return;
        }
        node.wakes = wakes;
        node.timer += 1;
        let timer = node.timer;
        if let Some(when) = wakes {
            self.at(when, What::Timer { node: at, timer });
        }
    }

    fn obey(&mut self, at: usize, command: Command, inputs: &mut VecDeque<Input>) {
        if matches!(
            command,
            Command::Set { .. } | Command::Lease(_) | Command::AnswerProbe { .. }
        ) {
            self.touched.insert(at);
        }
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
                if self.nodes[at].chokes == 0 {
                    self.transmit(at, Node::at(to), Packet::Message { from, bytes });
                }
            }
            Command::SendProbe { to, probe } => {
                if self.nodes[at].chokes == 0 {
                    self.send_probe(at, Node::at(to), probe);
                }
            }
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
                    flags: lease_flags(&lease),
                };
                inputs.push_back(Input::Kernel(self.read_kernel(at)));
                self.announce(at);
            }
            Command::Set { vip, state } => self.set(at, vip, &state),
            Command::Announce(vip) | Command::Contend(vip) => {
                self.nodes[at].unannounced.insert(vip_at(vip));
                self.announce(at);
            }
            // It corrects clients, which are not modelled.
            Command::Defend(_) => {}
            Command::Check(vip) => {
                let number = vip_at(vip);
                let taken =
                    |other: usize| other != at && self.nodes[other].answers(number, self.now);
                let hears = self.scenario.wired && self.nodes[at].deaf == 0;
                let free = !hears || !(0..self.nodes.len()).any(taken);
                let occupancy = match free {
                    true => Occupancy::Free,
                    false => Occupancy::InUse,
                };
                let input = Input::Checked { vip, occupancy };
                let boots = self.nodes[at].boots;
                self.at(
                    self.now + if free { 300 * MS } else { MS },
                    What::Input {
                        node: at,
                        boots,
                        input,
                    },
                );
            }
            Command::Remember(known) => self.nodes[at].remembered = known,
            Command::Event(event) => self.note(at, &event),
            Command::Stopped => self.ended(at),
        }
    }

    /// The shell sends pending announcements, if the lease is valid.
    fn announce(&mut self, at: usize) {
        if !self.nodes[at].stands(self.now) || self.sabotage == Some(Sabotage::Unannounced) {
            return;
        }
        for vip in std::mem::take(&mut self.nodes[at].unannounced) {
            if self.nodes[at].would_answer(vip, self.now) {
                self.watchdog.announced(at, vip, self.now);
                self.spread_announcement(at, vip);
                let again = self.now + 1_100 * MS;
                self.at(again, What::Announce { node: at, vip });
            }
        }
    }

    /// Every XDP program sees announcements of VIPs that it answers for itself.
    pub(super) fn spread_announcement(&mut self, at: usize, vip: usize) {
        if !self.scenario.wired || !self.nodes[at].would_answer(vip, self.now) {
            return;
        }
        for other in 0..self.nodes.len() {
            let node = &self.nodes[other];
            if other != at && node.deaf == 0 && node.kernel.answer.contains(&vip) {
                let input = Input::WireClaim {
                    vip: address_of(vip),
                    by: Claimant::Node(self.nodes[at].name.clone()),
                };
                let boots = node.boots;
                self.at(
                    self.now + MS / 10,
                    What::Input {
                        node: other,
                        boots,
                        input,
                    },
                );
            }
        }
    }

    fn set(&mut self, at: usize, vip: IpAddr, state: &VipState) {
        let vip = vip_at(vip);
        let answer = match self.sabotage {
            Some(Sabotage::Mute) => false,
            Some(Sabotage::Usurper) => !matches!(state, VipState::Silent(_)),
            Some(Sabotage::DrainIgnored) if self.nodes[at].draining => {
                matches!(state, VipState::Answer { .. })
                    || self.nodes[at].kernel.answer.contains(&vip)
            }
            Some(_) | None => matches!(state, VipState::Answer { .. }),
        };
        let answers = &mut self.nodes[at].kernel.answer;
        if !answer {
            if answers.remove(&vip) {
                self.tally.settled = self.now.saturating_sub(self.calm);
            }
            self.nodes[at].unannounced.remove(&vip);
        } else if answers.insert(vip) {
            self.tally.takeovers += 1;
            self.tally.settled = self.now.saturating_sub(self.calm);
            self.tally.taken_over = self.now.saturating_sub(self.trouble);
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

    /// The nodes that this one knows at its start.
    pub(super) fn peers_of(&self, at: usize) -> Configured {
        let told = |other: &usize| match self.scenario.told.get(&at) {
            Some(told) => told.contains(other),
            None => true,
        };
        let others = (0..self.nodes.len()).filter(|other| told(other) && !self.removed[*other]);
        Configured::at(others.map(|other| self.nodes[other].endpoints.messages))
    }

    /// Starts an agent if none runs, and the host if it is off.
    pub(super) fn start(&mut self, at: usize) {
        let kernel = self.read_kernel(at);
        let peers = Some(self.peers_of(at));
        let seed = self.rng.u64(..);
        // Now and then, a host boots with a clock that is far behind.
        let life = Life(if self.rng.u8(0..8) == 0 {
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
                peers_lease: Duration::from_nanos(lease.peers_lease_ns),
                alone: lease.alone,
                vips: node
                    .kernel
                    .answer
                    .iter()
                    .map(|vip| address_of(*vip))
                    .collect(),
            })
            .filter(|_| lease.life != 0),
            keys: vec![KEY],
            peers,
            remembered: node.remembered.clone(),
            draining: node.draining,
            failback: self.scenario.failback,
            check_first: false,
            seed,
        };
        self.trace(|| format!("node-{at} starts: {:?}", config.adopted));
        let agent = Cluster::new(config, self.timings[at].clone(), now);
        let node = &mut self.nodes[at];
        node.agent = Some(agent);
        // The earlier agent may have ended before it announced them.
        node.unannounced.extend(&node.kernel.answer);
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

    /// Updates the node's intent for a VIP to the model's, within this many milliseconds.
    pub(super) fn tell_intent(&mut self, at: usize, vip: usize, within: u64) {
        let delay = self.rng.u64(0..within) * MS;
        self.at(self.now + delay, What::Intent { node: at, vip });
    }

    /// The VIP that this one should currently follow.
    pub(super) fn leader(&self, vip: usize) -> Option<usize> {
        let leader = self.scenario.follows.get(&vip).copied()?;
        (!self.separate[vip] && !self.withdrawn[leader]).then_some(leader)
    }

    pub(super) fn learn_intent(&mut self, at: usize, vip: usize) {
        let leader = self.leader(vip);
        let as_of = leader.unwrap_or(vip);
        let told = leader.filter(|_| self.sabotage != Some(Sabotage::Apart));
        let placement = (!self.withdrawn[vip]).then(|| Placement {
            first_ip: address_of(as_of),
            follows: told.map(address_of),
            candidates: self
                .nodes
                .iter()
                .zip(&self.scenario.candidates[as_of])
                .filter(|(node, _)| node.linked)
                .filter_map(|(node, score)| Some((node.name.clone(), (*score)?)))
                .collect(),
        });
        self.feed(at, Input::Vips(vec![(address_of(vip), placement)]));
    }
}
