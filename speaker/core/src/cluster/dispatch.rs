//! Incoming and outgoing messages.

use std::{net::SocketAddr, time::Instant};

use super::{
    Cluster,
    io::{Command, Event},
    message::{Body, Envelope, Sender},
    name::NodeName,
    watch,
};

impl Cluster {
    pub(super) fn on_message(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        let Some(envelope) = Envelope::decode(bytes) else {
            self.event_throttled(Event::Unreadable(from), now);
            return;
        };
        let Envelope {
            from: sender,
            via,
            body,
        } = envelope;
        if sender.name == self.name {
            self.event_throttled(Event::NameTaken(from), now);
            return;
        }
        self.reply_via = via;
        self.dispatch(&sender, from, body, now);
        self.reply_via = None;
    }

    fn dispatch(&mut self, from: &Sender, address: SocketAddr, body: Body, now: Instant) {
        let Sender {
            name: sender, life, ..
        } = from;
        let life = *life;
        // A member that asks to be watched may not hear this node.
        let is_contact = body != Body::WatchMe;
        match body {
            // These are accepted from non-members too.
            Body::Hello(hello) => self.on_hello(from, hello, now),
            Body::Welcome(welcome) => self.on_welcome(from, welcome, now),
            Body::Over { life: over, side } => self.on_over(sender, life, over, &side, now),
            Body::Probe(probe) => self.on_probe(&probe.into(), watch::Path::Message(sender), now),
            _ if !self.is_member(from, address, is_contact, now) => {}
            Body::Pull(after) => self.on_pull(sender, after, now),
            Body::Page(page) => self.on_page(sender, page, now),
            Body::AskLinks { hash, after } => self.on_ask_links(sender, hash, after),
            Body::Links(part) => self.on_links(sender, part, now),
            Body::Ended { name, life } => self.on_ended(&name, life),
            Body::Gone {
                lives,
                reply_wanted,
            } => self.on_gone(sender, lives, reply_wanted, now),
            Body::Ask { round, ask } => self.on_ask(sender, life, round, ask, now),
            Body::Verdict {
                round,
                denied,
                vouched,
            } => self.on_verdict(sender, round, denied, vouched, now),
            Body::Ack { round } => self.on_ack(sender, round, now),
            Body::Offer { entries, why } => self.on_offer(sender, entries, why, now),
            Body::Decline { vips } => self.on_decline(sender, vips, now),
            Body::Move { vips, to, why } => self.on_move_asked(&vips, &to, why, now),
            Body::WatchMe => self.on_watch_me(sender, now),
            Body::ProbeVia { target, probe } => {
                if let Some(peer) = self.peers.get(&target) {
                    let to = peer.card.endpoints.probes;
                    let probe = probe.into();
                    self.commands.push_back(Command::SendProbe { to, probe });
                }
            }
            Body::Relay { to, message } => {
                if let Some(peer) = self.peers.get(&to) {
                    let to = peer.card.endpoints.messages;
                    let bytes = message;
                    self.commands.push_back(Command::Send { to, bytes });
                }
            }
        }
    }

    pub(super) fn envelope(&self, body: Body, via: Option<NodeName>) -> Vec<u8> {
        let envelope = Envelope {
            from: Sender {
                name: self.name.clone(),
                life: self.lease.life,
                agent: self.agent,
            },
            via,
            body,
        };
        envelope.encode()
    }

    pub(super) fn send(&mut self, to: &NodeName, body: Body) {
        if let Some(peer) = self.peers.get(to) {
            let to = peer.card.endpoints.messages;
            self.send_to(to, body);
        }
    }

    pub(super) fn send_to(&mut self, to: SocketAddr, body: Body) {
        let bytes = self.envelope(body, None);
        self.commands.push_back(Command::Send { to, bytes });
    }

    pub(super) fn send_via(&mut self, relay: &NodeName, to: &NodeName, body: Body) {
        let message = self.envelope(body, Some(relay.clone()));
        let to = to.clone();
        self.send(relay, Body::Relay { to, message });
    }

    /// Replies to the current message along the path it took.
    pub(super) fn reply(&mut self, to: &NodeName, body: Body) {
        let address = self.peers.get(to).map(|peer| peer.card.endpoints.messages);
        self.reply_at(to, address, body);
    }

    /// The same, to a node that says that it is at this address.
    pub(super) fn reply_at(&mut self, to: &NodeName, address: Option<SocketAddr>, body: Body) {
        match (self.reply_via.clone(), address) {
            (Some(relay), _) => self.send_via(&relay, to, body),
            (None, Some(address)) => self.send_to(address, body),
            (None, None) => {}
        }
    }

    /// A member, chosen at random, that may reach `target` where this node does not.
    pub(super) fn relay(&mut self, target: &NodeName) -> Option<NodeName> {
        let relays: Vec<&NodeName> = self
            .peers
            .iter()
            .filter(|(name, peer)| *name != target && peer.is_live() && !peer.evidence.gone)
            .map(|(name, _)| name)
            .collect();
        if relays.is_empty() {
            return None;
        }
        let relay = relays[self.rng.usize(..relays.len())].clone();
        Some(relay)
    }
}
