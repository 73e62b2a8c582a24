//! Looking for missing nodes: known addresses without a member.
//!
//! They come from the configuration, from what an earlier agent of this node remembered, and from
//! members that went down. They are tried one at a time, each with a hello to its agent and a probe
//! to its kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    Cluster,
    configured::{Configured, Known},
    io::Command,
    name::NodeName,
    peer::{Peer, State},
    timing::Timing,
};

/// The nodes to look for, and when.
#[derive(Debug)]
pub(super) struct Discovery {
    configured: Configured,
    /// The configuration names every node that exists.
    complete: bool,
    /// Addresses of nodes that an earlier agent knew and this one has yet to meet.
    remembered: BTreeMap<NodeName, SocketAddr>,
    /// What the next agent will remember.
    written: BTreeMap<NodeName, SocketAddr>,
    /// When the next missing node is tried.
    next: Instant,
    /// The missing node that was tried last.
    last: Option<SocketAddr>,
}

impl Discovery {
    /// Without a configuration, [`Input::Peers`](super::Input::Peers) will bring a complete one.
    pub(super) fn new(
        configured: Option<Configured>,
        remembered: BTreeMap<NodeName, SocketAddr>,
        now: Instant,
    ) -> Self {
        Self {
            complete: configured.is_none(),
            configured: configured.unwrap_or_default(),
            written: remembered.clone(),
            remembered,
            next: now,
            last: None,
        }
    }

    /// The missing node to try next: they take turns in the order of addresses.
    fn take_turn(&mut self, missing: &BTreeSet<SocketAddr>) -> Option<SocketAddr> {
        self.last = missing
            .iter()
            .find(|address| self.last.is_none_or(|last| **address > last))
            .or(missing.first())
            .copied();
        self.last
    }
}

impl Cluster {
    /// The nodes that exist are exactly these. Other members remain members until they are down.
    pub(super) fn on_peers(&mut self, peers: Configured, now: Instant) {
        self.discovery.complete = true;
        self.discovery.remembered.clear();
        self.discovery.configured = peers;
        self.count_nodes();
        self.joining.begin_once_told(&self.timing, now);
        self.try_all_missing(now);
    }

    /// The configured nodes have other addresses than before.
    pub(super) fn on_resolved(&mut self, peers: Configured, now: Instant) {
        self.discovery.configured = peers;
        self.count_nodes();
        self.try_all_missing(now);
    }

    /// Tries all missing nodes at once.
    pub(super) fn try_all_missing(&mut self, now: Instant) {
        for address in self.missing() {
            self.hello(address, 0);
            self.probe_orphan(address);
        }
        self.discovery.next = now + self.discovery_interval();
    }

    /// Known addresses at which there is no member.
    pub(super) fn missing(&self) -> BTreeSet<SocketAddr> {
        let members = self.known_as(|state| state == State::Live);
        self.missing_among(&members).collect()
    }

    /// Every node that this one looks for is a member.
    pub(super) fn is_nobody_missing(&self) -> bool {
        let members = self.known_as(|state| state == State::Live);
        self.discovery.configured.is_resolved() && self.missing_among(&members).next().is_none()
    }

    fn missing_among(&self, members: &Known<'_>) -> impl Iterator<Item = SocketAddr> {
        self.peers
            .values()
            .filter(|peer| matches!(peer.state, State::Unmet | State::Down(_)))
            .map(|peer| peer.card.endpoints.messages)
            .chain(self.discovery.remembered.values().copied())
            .filter(|address| !members.contains_key(address))
            .chain(self.discovery.configured.missing(members))
    }

    /// This node, and the others whose state is wanted.
    fn known_as(&self, wanted: impl Fn(State) -> bool) -> Known<'_> {
        self.peers
            .values()
            .filter(|peer| wanted(peer.state))
            .map(|peer| (peer.card.endpoints.messages, peer.links.known()))
            .chain([(self.card.endpoints.messages, &self.links[..])])
            .collect()
    }

    /// The configuration names every node that exists.
    pub(super) fn is_told_of_all(&self) -> bool {
        self.discovery.complete
    }

    /// Whether a node that is down may still exist: the configuration does not rule it out, and it
    /// has not come back under another name.
    pub(super) fn may_exist(&self, peer: &Peer) -> bool {
        let address = peer.card.endpoints.messages;
        let cards = self.live().map(|(_, peer)| &peer.card).chain([&self.card]);
        let is_renamed = cards
            .map(|card| card.endpoints.messages)
            .any(|it| it == address);
        let is_configured = !self.is_told_of_all() || self.discovery.configured.contains(address);
        is_configured && !is_renamed
    }

    /// How many nodes should exist that this one has never met.
    pub(super) fn unmet(&self) -> usize {
        let Discovery {
            configured,
            remembered,
            ..
        } = &self.discovery;
        let met = self.known_as(|state| state != State::Unmet);
        let elsewhere =
            |address: &&SocketAddr| !met.contains_key(address) && !configured.contains(**address);
        let remembered: BTreeSet<&SocketAddr> = remembered.values().filter(elsewhere).collect();
        configured.unmet(&met) + remembered.len()
    }

    /// Has the shell store the known nodes for the next agent, if they changed.
    pub(super) fn remember(&mut self) {
        let Discovery {
            complete,
            remembered,
            written,
            ..
        } = &mut self.discovery;
        if *complete {
            return;
        }
        let peers = &self.peers;
        let is_unmet = |peer: &Peer| peer.state == State::Unmet;
        remembered.retain(|name, _| peers.get(name).is_none_or(is_unmet));
        let mut known = remembered.clone();
        for (name, peer) in peers.iter() {
            if peer.state != State::Left {
                known.insert(name.clone(), peer.card.endpoints.messages);
            }
        }
        if known != *written {
            written.clone_from(&known);
            self.commands.push_back(Command::Remember(known));
        }
    }

    /// All members try a missing node, so the more members there are, the less often each does.
    fn discovery_interval(&self) -> Duration {
        Timing::DISCOVERY.max(Timing::DISCOVERY / 5 * self.live().count() as u32)
    }

    /// Tries the next missing node.
    pub(super) fn discovery_due(&mut self, now: Instant) {
        if now < self.discovery.next {
            return;
        }
        self.discovery.next = now + self.discovery_interval();
        self.forget_peers(now);
        let missing = self.missing();
        if let Some(address) = self.discovery.take_turn(&missing) {
            self.hello(address, 0);
            self.probe_orphan(address);
            self.probe_the_dead(address, now);
        }
    }

    pub(super) fn discovery_wake(&self) -> Instant {
        self.discovery.next
    }

    /// Forgets nodes that will not come back.
    fn forget_peers(&mut self, now: Instant) {
        let forgotten: Vec<NodeName> = self
            .peers
            .iter()
            .filter(|(_, peer)| match peer.state {
                State::Unmet | State::Live => false,
                State::Down(_) => !self.may_exist(peer),
                State::Left => true,
            })
            .filter(|(_, peer)| now >= peer.since + Timing::FORGET)
            .map(|(name, _)| name.clone())
            .collect();
        for name in forgotten {
            self.peers.remove(&name);
        }
    }
}
