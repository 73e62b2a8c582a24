//! The fast failure detector: which members this node watches, and the probes that it exchanges.
//!
//! Each node is watched by a few others, chosen by rendezvous hash, so that the cost per node does
//! not grow with the cluster. A watcher renews the lease of each node that it watches until it
//! gives that node up. If direct probes go unanswered, it also probes by message and through other
//! members: a reply counts whichever path it took.

use std::{collections::BTreeSet, time::Instant};

use speaker_common::probe::{
    FLAG_ALONE, FLAG_LAPSED, FLAG_OVER, FLAG_RENEWS, FLAG_RESTARTING, Key, Kind, LENGTH, Probe,
    siphash,
};

use super::{
    Cluster,
    io::Command,
    message::Body,
    name::{Life, NodeName},
    peer::{Peer, State, Watch},
    settings::Partition,
    timing::Timing,
};

/// The number of regular watchers of a node.
pub(super) const WATCHERS: usize = 4;

/// The path by which a probe arrived.
pub(super) enum Path<'a> {
    Direct,
    /// In a message from this node: the target, or a relay.
    Message(&'a NodeName),
}

impl Cluster {
    /// Chooses the members that this node watches, after one came or went.
    pub(super) fn assign_watches(&mut self, now: Instant) {
        if !std::mem::take(&mut self.watches_stale) {
            return;
        }
        self.remember();
        self.count_nodes();
        let mut numbers: Vec<u64> = self.live().map(|(_, peer)| peer.number).collect();
        numbers.push(self.number);
        let everyone = self.timing.settings().partition == Partition::Majority;
        let own = self.number;
        let is_regular = |peer: &Peer| {
            let weight = |watcher: u64| siphash(&Key([0, 0]), &[watcher, peer.number]);
            let mine = weight(own);
            // Finding a few watchers with lower hashes is enough to know that this node need not
            // watch the member.
            everyone
                || numbers
                    .iter()
                    .filter(|other| **other != peer.number && weight(**other) < mine)
                    .nth(WATCHERS - 1)
                    .is_none()
        };
        let differs = |peer: &Peer| peer.is_live() && is_regular(peer) != peer.is_watched();
        self.peers.change(differs, |peer| match &mut peer.watch {
            Some(watch) if watch.until.is_none() => peer.watch = None,
            Some(watch) => watch.until = None,
            None => peer.watch = Some(Watch::new(now, None)),
        });
    }

    /// The regular watchers of a member.
    pub(super) fn watchers_of(&self, target: &NodeName) -> BTreeSet<NodeName> {
        let Some(peer) = self.peers.get(target) else {
            return BTreeSet::new();
        };
        let weigh = |watcher: u64| siphash(&Key([0, 0]), &[watcher, peer.number]);
        let mut watchers: Vec<(u64, &NodeName)> = self
            .live()
            .filter(|(name, _)| *name != target)
            .map(|(name, other)| (weigh(other.number), name))
            .chain([(weigh(self.number), &self.name)])
            .collect();
        watchers.sort_unstable();
        watchers
            .into_iter()
            .take(WATCHERS)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// Watches a member for a while, even if this node is not one of its regular watchers.
    pub(super) fn watch_for_now(&mut self, name: &NodeName, now: Instant) {
        let waits = self.waits();
        if let Some(peer) = self.peers.get(name) {
            self.watch_until(name, now + 2 * waits.silence(peer), now);
        }
    }

    fn watch_until(&mut self, name: &NodeName, until: Instant, now: Instant) {
        let Some(peer) = self.peers.get_mut(name).filter(|peer| peer.is_live()) else {
            return;
        };
        let watch = peer
            .watch
            .get_or_insert_with(|| Watch::new(now, Some(until)));
        watch.until = watch.until.map(|before| before.max(until));
    }

    /// Watches members that this node does not watch regularly, and about which nobody else may be
    /// able to tell it anything once they are lost. A node that is alone watches all: their watchers
    /// may be lost too. Any other probes one of those that it does not know to be in company: if
    /// that one dies along with its watchers, this node need not wait until it cannot be alone.
    pub(super) fn watch_the_unwatched(&mut self, now: Instant) {
        let alone = self.lease.alone;
        let is_wanted = |peer: &Peer| {
            peer.is_live()
                && !peer.is_watched()
                && (alone || peer.watch.is_none() && peer.evidence.in_company.is_none())
        };
        let wanted = self.peers.iter().filter(|(_, peer)| is_wanted(peer));
        let wanted: Vec<NodeName> = wanted.map(|(name, _)| name.clone()).collect();
        if alone {
            for name in wanted {
                self.watch_for_now(&name, now);
            }
        } else if !wanted.is_empty() {
            let name = &wanted[self.rng.usize(..wanted.len())];
            self.watch_until(name, now + self.timing.heartbeat(), now);
        }
    }

    /// A member whose lease is running out asks to be probed at once.
    pub(super) fn on_watch_me(&mut self, name: &NodeName, now: Instant) {
        let resumed = Some(self.stalls.over_since());
        if let Some(peer) = self.peers.get_mut(name)
            && (peer.watch.is_none() || peer.evidence.in_company < resumed)
        {
            // It may believe itself alone before a probe of this node reaches it, or have done so
            // while this node stalled.
            peer.evidence.in_company = None;
        }
        self.watch_for_now(name, now);
        if let Some(peer) = self.peers.get_mut(name)
            && let Some(watch) = &mut peer.watch
            && watch
                .pending
                .back()
                .is_none_or(|(_, sent)| now >= *sent + Timing::RETRY)
        {
            watch.next = now;
        }
    }

    pub(super) fn watch_wake(&self) -> Option<Instant> {
        self.awake()
            .filter_map(|(_, peer)| peer.watch.as_ref())
            .map(|watch| watch.next)
            .min()
    }

    pub(super) fn probe_due(&mut self, now: Instant) {
        let late = self.timing.settings().suspect_after;
        let due: Vec<NodeName> = self
            .awake()
            .filter(|(_, peer)| peer.watch.as_ref().is_some_and(|watch| now >= watch.next))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let sequence = self.nonce();
            let Some(peer) = self.peers.get_mut(&name) else {
                continue;
            };
            let Some(watch) = &mut peer.watch else {
                continue;
            };
            if watch.until.is_some_and(|until| now >= until) && !peer.evidence.gone {
                peer.watch = None;
                continue;
            }
            let interval = self.timing.interval_for(&peer.card.spans);
            // A lost probe is repeated well before the next is due, but only until the member is
            // suspect. During a stall of this node, a reply may have been lost.
            let unheard = watch
                .heard
                .unwrap_or(watch.since)
                .max(self.stalls.over_since());
            let pause = if now < unheard + late {
                interval / 3
            } else {
                interval
            };
            watch.next = now + pause;
            watch.sent(sequence, now);
            let direct = watch.direct.unwrap_or(watch.since);
            let to = peer.card.endpoints.probes;
            let (number, life) = (peer.number, peer.life);
            let echo = watch.echo;
            // The promise of a renewal ends the target's time alone. If nothing from it reaches this
            // node any more, this node cannot renew it.
            let hears = watch.heard.is_some_and(|heard| now < heard + 2 * interval);
            let flags = if hears && self.renews(&name, now) {
                FLAG_RENEWS
            } else {
                0
            };
            let probe = self.request(number, life, sequence, flags, echo);
            self.commands.push_back(Command::SendProbe { to, probe });
            if now >= direct + interval * 3 / 2 {
                self.send(&name, Body::Probe(probe.into()));
                if let Some(relay) = self.relay(&name) {
                    let target = name.clone();
                    let probe = probe.into();
                    self.send(&relay, Body::ProbeVia { target, probe });
                }
            }
        }
    }

    /// Tells the kernel of a node that is down that its life is over: the node may receive although
    /// it cannot be heard, and believe itself alone. If this node hears nobody, it may itself be the
    /// one that receives nothing, and tells only those whose kernels reply (`orphans`).
    pub(super) fn probe_the_dead(&mut self, address: std::net::SocketAddr, now: Instant) {
        if self.is_silent(now) {
            return;
        }
        let sequence = self.nonce();
        let dead = self.peers.values().find(|peer| {
            matches!(peer.state, State::Down(_)) && peer.card.endpoints.messages == address
        });
        if let Some(peer) = dead {
            let to = peer.card.endpoints.probes;
            let probe = self.request(peer.number, peer.life, sequence, FLAG_OVER, 0);
            self.commands.push_back(Command::SendProbe { to, probe });
        }
    }

    pub(super) fn request(
        &self,
        target: u64,
        life: Life,
        sequence: u64,
        flags: u32,
        time_ns: u64,
    ) -> [u8; LENGTH] {
        self.seal(Probe {
            kind: Kind::Request,
            flags,
            watcher: self.number,
            target,
            sequence,
            life: life.0,
            time_ns,
            agent_age_ms: 0,
            agent_left_ms: 0,
        })
    }

    fn seal(&self, probe: Probe) -> [u8; LENGTH] {
        probe.seal(self.keys.first().unwrap_or(&Key([0, 0])))
    }

    pub(super) fn on_probe(&mut self, bytes: &[u8; LENGTH], path: Path<'_>, now: Instant) {
        let Some(probe) = self.keys.iter().find_map(|key| Probe::open(bytes, key)) else {
            return;
        };
        match probe.kind {
            Kind::Reply if probe.watcher == self.number => {
                if !self.on_orphan_reply(&probe, now) {
                    self.on_reply(&probe, path, now);
                }
            }
            Kind::Reply => {
                // This node relayed the probe.
                let watcher = self.peers.numbered(probe.watcher);
                if let Some((name, _)) = watcher.filter(|(_, peer)| peer.is_live()) {
                    let name = name.clone();
                    self.send(&name, Body::Probe((*bytes).into()));
                }
            }
            Kind::Request | Kind::Renew => {
                if let Path::Message(from) = path
                    && probe.target == self.number
                {
                    self.commands.push_back(Command::AnswerProbe {
                        to: from.clone(),
                        probe: *bytes,
                    });
                }
            }
        }
    }

    fn on_reply(&mut self, reply: &Probe, path: Path<'_>, now: Instant) {
        let late = self.timing.settings().suspect_after;
        let on_time = self.is_on_time(now);
        let stall = self.stalls.over_since();
        let Some((name, _)) = self.peers.numbered(reply.target) else {
            return;
        };
        let name = name.clone();
        let renews = self.renews(&name, now);
        let Some(peer) = self.peers.get_mut(&name) else {
            return;
        };
        let Some(watch) = peer.watch.as_mut() else {
            return;
        };
        let Some(sent) = watch
            .pending
            .iter()
            .position(|(sequence, _)| *sequence == reply.sequence)
        else {
            return;
        };
        let (_, sent) = watch.pending.remove(sent).expect("it was just found");
        if reply.life != peer.life.0 || on_time && now > sent + late {
            return;
        }
        if reply.flags & FLAG_LAPSED != 0 {
            let life = peer.life;
            self.report_lapsed(&name, life, reply.agent_left_ms == 0, now);
            return;
        }
        if peer.evidence.ended {
            return;
        }
        let interval = self.timing.interval_for(&peer.card.spans);
        watch.next = watch.next.max(sent + interval);
        watch.heard = Some(now);
        self.replies.arrived(stall, late, now);
        let given_up = peer.evidence.gone;
        watch.echo = reply.time_ns;
        if matches!(path, Path::Direct) {
            watch.direct = Some(now);
        }
        peer.headless = peer.card.spans.is_headless(reply);
        if !peer.headless {
            peer.contact = Some(now);
        }
        if !peer.evidence.gone {
            peer.evidence.heard = Some(now);
        }
        let in_company = renews && reply.flags & FLAG_ALONE == 0;
        peer.evidence.in_company = in_company.then_some(sent);
        if sent < stall {
            peer.doubt_company(stall);
        }
        if reply.flags & FLAG_RESTARTING != 0 {
            self.on_pause(&name, sent, now);
        }
        if given_up {
            self.retract(&name, now);
        }
        self.renew(&name, reply, path, now);
    }

    /// Whether this node renews a member's lease when it hears from it.
    fn renews(&mut self, name: &NodeName, now: Instant) -> bool {
        self.is_joined()
            && !self.lease.restarting
            && !self.peers[name].evidence.gone
            && self.has_majority(now)
    }

    /// Renews a member's lease: hands back the time that its kernel sent.
    fn renew(&mut self, name: &NodeName, reply: &Probe, path: Path<'_>, now: Instant) {
        if !self.renews(name, now) {
            return;
        }
        let peer = &self.peers[name];
        let to = peer.card.endpoints.probes;
        let probe = self.seal(Probe {
            kind: Kind::Renew,
            flags: 0,
            agent_age_ms: 0,
            agent_left_ms: 0,
            ..*reply
        });
        match path {
            Path::Direct => self.commands.push_back(Command::SendProbe { to, probe }),
            Path::Message(from) if from == name => self.send(name, Body::Probe(probe.into())),
            Path::Message(relay) => {
                let target = name.clone();
                let probe = probe.into();
                self.send(relay, Body::ProbeVia { target, probe });
            }
        }
    }

    /// Watches members that leave this node's messages unanswered.
    pub(super) fn watch_unresponsive(&mut self, now: Instant) {
        let mut unresponsive = BTreeSet::new();
        for round in self.rounds.values() {
            unresponsive.extend(round.unanswered(now).cloned());
        }
        for (name, peer) in self.awake() {
            if peer.unanswered_at().is_some_and(|at| now >= at) {
                unresponsive.insert(name.clone());
            }
        }
        for name in unresponsive {
            self.watch_for_now(&name, now);
        }
    }
}
