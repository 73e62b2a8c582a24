//! How faults begin and end.

use std::{collections::VecDeque, time::Duration};

use speaker_core::cluster::{Event, Input, Stop};

use super::{
    Sabotage,
    fault::Fault,
    node::{Kernel, MS, Trip},
    world::{What, World, address_of, timing},
};

impl World {
    /// What the model does wrong from the start.
    pub(super) fn sabotage(&mut self) {
        match self.sabotage {
            Some(Sabotage::LeaseForgotten) => {
                for node in &mut self.nodes {
                    node.forgetful = true;
                }
            }
            Some(Sabotage::Restless) => {
                // Not by `begin`, which would be a cause.
                for to in 0..self.nodes.len() {
                    let (vip, to) = (address_of(0), self.nodes[to].name.clone());
                    let input = Input::Move { vip, to };
                    let at = 10_000 * MS;
                    self.at(
                        at,
                        What::Input {
                            node: 0,
                            boots: 0,
                            input,
                        },
                    );
                }
            }
            Some(
                Sabotage::Mute
                | Sabotage::Unannounced
                | Sabotage::Usurper
                | Sabotage::DrainIgnored
                | Sabotage::Apart,
            )
            | None => {}
        }
    }

    pub(super) fn begin(&mut self, index: usize) {
        let (_, fault) = self.scenario.faults[index].clone();
        self.trace(|| format!("begins: {fault}"));
        self.watchdog.trouble(&fault, self.now);
        let span = fault.span() * MS;
        self.at(self.now + span, What::End(index));
        match fault {
            Fault::Crash { node, .. } => {
                let lost = &mut self.nodes[node];
                lost.up = false;
                lost.boots += 1;
                lost.agent = None;
                lost.frozen = false;
                lost.stopped = false;
                lost.stopping = false;
                lost.kernel = Kernel::default();
                lost.ring.clear();
            }
            Fault::Kill { node, after, .. } => self.trip(node, after, true),
            Fault::Stop { node, after, span } => {
                self.stopped_until[node] = self.stopped_until[node].max(self.now + span * MS);
                self.trip(node, after, false);
            }
            Fault::Busy { pause, span } => self.busy(pause * MS, self.now + span * MS),
            Fault::Freeze { node, span } => {
                self.frozen_until[node] = self.frozen_until[node].max(self.now + span * MS);
                self.nodes[node].frozen = true;
            }
            Fault::Restart { node, away } => {
                self.nodes[node].stopping = self.nodes[node].agent.is_some();
                let grace = Duration::from_millis(away + 2_000);
                self.feed(node, Input::Stop(Stop::Return(grace)));
            }
            Fault::Flags { node, settings } => self.timings[node] = timing(settings),
            Fault::Leave { node, .. } => {
                let leaving = &mut self.nodes[node];
                leaving.left |= leaving.runs() && !leaving.stopping;
                leaving.stopping |= leaving.left;
                self.feed(node, Input::Stop(Stop::HandOver));
            }
            Fault::Remove { nodes, .. } => self.configure(&nodes, true),
            Fault::LinkDown { node, .. } => self.link(node, false),
            Fault::Drain { node, .. } => {
                self.nodes[node].draining = true;
                self.feed(node, Input::Drain(true));
            }
            Fault::Move { asked, vip, to } => {
                let (vip, to) = (address_of(vip), self.nodes[to].name.clone());
                self.feed(asked, Input::Move { vip, to });
            }
            Fault::Rebalance { asked } => self.feed(asked, Input::Rebalance),
            Fault::Withdraw { vip, .. } => {
                self.withdrawn[vip] = true;
                self.tell_all(vip);
            }
            Fault::Separate { vip, .. } => {
                self.separate[vip] = true;
                self.tell_all(vip);
            }
            Fault::Choke { node, .. } => {
                let choked = &mut self.nodes[node];
                choked.chokes += 1;
                choked.choked = Some((self.now, choked.present_life()));
            }
            Fault::Deaf { node, .. } => {
                self.nodes[node].deaf += 1;
                self.nodes[node].missed = true;
                self.touched.insert(node);
            }
            Fault::Storm { loss, .. } => self.net.weather.loss += loss,
            Fault::NoProbes { .. } => self.net.probes_blocked = true,
            Fault::Split { .. }
            | Fault::OneWay { .. }
            | Fault::Cut { .. }
            | Fault::Holes { .. }
            | Fault::Mute { .. } => {}
        }
        for (from, to) in self.ways(index) {
            self.net.close(from, to);
        }
    }

    pub(super) fn end(&mut self, index: usize) {
        let (_, fault) = self.scenario.faults[index].clone();
        self.trace(|| format!("ends: {fault}"));
        self.watchdog.trouble(&fault, self.now);
        match fault {
            Fault::Crash { node, back } if back.is_some() && !self.nodes[node].up => {
                // Its boot clock starts again.
                self.nodes[node].clock.offset = self.rng.u64(0..20_000) * MS;
                self.start(node);
            }
            Fault::Kill { node, .. } | Fault::Restart { node, .. } if self.nodes[node].up => {
                self.start(node);
            }
            Fault::Leave { node, back } if back.is_some() && self.nodes[node].up => {
                self.start(node)
            }
            Fault::Stop { node, .. } => self.resume(node),
            Fault::Freeze { node, .. } => self.thaw(node),
            Fault::Remove { nodes, back } if back.is_some() => self.configure(&nodes, false),
            Fault::LinkDown { node, .. } => self.link(node, true),
            Fault::Drain { node, .. } => {
                self.nodes[node].draining = false;
                self.feed(node, Input::Drain(false));
            }
            Fault::Withdraw { vip, .. } => {
                self.withdrawn[vip] = false;
                self.tell_all(vip);
            }
            Fault::Separate { vip, .. } => {
                self.separate[vip] = false;
                self.tell_all(vip);
            }
            Fault::Choke { node, .. } => {
                let choked = &mut self.nodes[node];
                choked.chokes -= 1;
                choked.choked = choked.choked.map(|(_, life)| (self.now, life));
            }
            Fault::Deaf { node, .. } => {
                self.nodes[node].deaf -= 1;
                self.touched.insert(node);
            }
            Fault::Storm { loss, .. } => self.net.weather.loss -= loss,
            Fault::NoProbes { .. } => self.net.probes_blocked = false,
            Fault::Crash { .. }
            | Fault::Kill { .. }
            | Fault::Restart { .. }
            | Fault::Flags { .. }
            | Fault::Leave { .. }
            | Fault::Remove { .. }
            | Fault::Busy { .. }
            | Fault::Move { .. }
            | Fault::Rebalance { .. }
            | Fault::Split { .. }
            | Fault::OneWay { .. }
            | Fault::Cut { .. }
            | Fault::Holes { .. }
            | Fault::Mute { .. } => {}
        }
        for (from, to) in self.ways(index) {
            self.net.open(from, to, self.now);
        }
    }

    /// The paths that a fault closes. A storm closes none, but while it lasts nobody can tell.
    fn ways(&self, index: usize) -> Vec<(usize, usize)> {
        let (_, fault) = &self.scenario.faults[index];
        let nodes = self.nodes.len();
        let all = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        all.filter(|&(from, to)| match fault {
            Fault::Split { side, .. } => side.contains(&from) != side.contains(&to),
            Fault::OneWay { from: a, to: b, .. } => (from, to) == (*a, *b),
            Fault::Cut { one, other, .. } => {
                (from, to) == (*one, *other) || (to, from) == (*one, *other)
            }
            Fault::Holes { ways, .. } => ways.contains(&(from, to)),
            Fault::Deaf { node, .. } => from != to && to == *node,
            Fault::Mute { node, inbound, .. } => {
                from != to && if *inbound { to == *node } else { from == *node }
            }
            _ => false,
        })
        .collect()
    }

    fn trip(&mut self, node: usize, after: usize, kill: bool) {
        if self.nodes[node].agent.is_some() && !self.nodes[node].stopped {
            self.nodes[node].trip = Some(Trip { after, kill });
        } else if kill {
            self.kill(node);
        }
    }

    pub(super) fn kill(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.agent = None;
        node.stopping = false;
        node.stopped = false;
        node.inbox.clear();
        node.held.clear();
        node.trip = None;
    }

    /// The agent reported that it is done.
    pub(super) fn ended(&mut self, at: usize) {
        let left = self.nodes[at].left;
        self.kill(at);
        if left {
            self.watchdog.left(at);
        }
    }

    pub(super) fn resume(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        // The command that should have stopped it never came.
        if node.trip.is_some_and(|trip| !trip.kill) {
            node.trip = None;
        }
        if !node.stopped || self.now < self.stopped_until[at] {
            return;
        }
        node.stopped = false;
        self.catch_up(at);
    }

    pub(super) fn thaw(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.frozen || self.now < self.frozen_until[at] {
            return;
        }
        node.frozen = false;
        self.touched.insert(at);
        for packet in std::mem::take(&mut self.nodes[at].ring) {
            self.receive(at, packet);
        }
        if !self.nodes[at].stopped {
            self.catch_up(at);
        }
    }

    /// Pending commands continue, then waiting inputs are handled.
    fn catch_up(&mut self, at: usize) {
        let mut inputs = VecDeque::new();
        self.carry_out(at, &mut inputs);
        inputs.extend(std::mem::take(&mut self.nodes[at].inbox));
        for input in inputs {
            self.feed(at, input);
        }
        self.feed(at, Input::Tick);
    }

    pub(super) fn busy(&mut self, pause: u64, until: u64) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].runs() {
                let span = self.rng.u64(0..pause);
                self.nodes[node].stopped = true;
                self.stopped_until[node] = self.stopped_until[node].max(self.now + span);
                let at = self.stopped_until[node];
                self.at(at, What::Resume(node));
            }
        }
        let next = self.now + pause + self.rng.u64(0..pause);
        if next < until {
            self.at(next, What::Busy { pause, until });
        }
    }

    /// Tells all nodes which nodes currently exist.
    fn configure(&mut self, nodes: &[usize], removed: bool) {
        for node in nodes {
            self.removed[*node] = removed;
        }
        for node in 0..self.nodes.len() {
            let peers = self.peers_of(node);
            self.feed(node, Input::Peers(peers));
        }
    }

    fn link(&mut self, node: usize, linked: bool) {
        self.nodes[node].linked = linked;
        for vip in 0..self.scenario.vips {
            self.tell_all(vip);
        }
    }

    /// Tells all nodes about a VIP and those that follow it, each at its own time.
    fn tell_all(&mut self, vip: usize) {
        let follows = self.scenario.follows.iter();
        let followers = follows.filter(|(_, leader)| **leader == vip);
        let concerned: Vec<usize> = followers.map(|(vip, _)| *vip).chain([vip]).collect();
        for vip in concerned {
            for node in 0..self.nodes.len() {
                self.tell_intent(node, vip, 200);
            }
        }
    }

    pub(super) fn note(&mut self, at: usize, event: &Event) {
        if let Event::MemberDown(name, life, why) = event {
            let found = self.nodes.iter().position(|node| node.name == *name);
            if let Some(down) = found {
                self.watchdog.declared_down(at, down, *life, *why);
            }
        }
    }
}
