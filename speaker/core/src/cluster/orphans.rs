//! Orphans: kernels that answer for VIPs while their agents cannot be met.
//!
//! A node that starts while another one's agent is away cannot meet it, and yet that kernel may be
//! answering. So missing nodes are also probed, and while the kernel of one holds a valid lease,
//! nothing is claimed.
//!
//! `discovery` tries missing nodes one at a time, which takes long if there are many. Known
//! orphans, and all missing nodes while this node joins, are also probed four times a second each.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use speaker_common::probe::{ANYBODY, FLAG_ALONE, FLAG_OVER, FLAG_VALID, LENGTH, Probe};

use super::{
    Cluster,
    io::Command,
    name::{Endpoints, Life},
};

/// The most probes to await replies for.
const PENDING: usize = 512;
/// How long an orphan is assumed to hold its lease after its last reply that said so.
const HOLDS: Duration = Duration::from_millis(1_500);
/// The pause between two probes: losing a few replies in a row must not make this node forget an
/// orphan.
const INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// Probes without a reply: sequence number and target.
    pending: VecDeque<(u64, SocketAddr)>,
    /// When each orphan last said that its lease is valid.
    valid: BTreeMap<SocketAddr, Instant>,
    /// When they are next probed.
    next: Option<Instant>,
}

impl Orphans {
    /// This node stalled for so long, and so asked none of them.
    pub(super) fn stalled(&mut self, span: Duration) {
        for seen in self.valid.values_mut() {
            *seen += span;
        }
    }

    /// The target of the probe that this reply answers.
    fn take_pending(&mut self, reply: &Probe) -> Option<SocketAddr> {
        let mut pending = self.pending.iter();
        let at = pending.position(|(sequence, _)| *sequence == reply.sequence)?;
        self.pending.remove(at).map(|(_, address)| address)
    }
}

impl Cluster {
    /// Asks the kernel of a missing node whether its lease is valid.
    pub(super) fn probe_orphan(&mut self, address: SocketAddr) {
        let sequence = self.nonce();
        let pending = &mut self.orphans.pending;
        if pending.len() == PENDING {
            pending.pop_front();
        }
        pending.push_back((sequence, address));
        let probe = self.request(ANYBODY, Life(0), sequence, 0, 0);
        self.send_orphan(address, probe);
    }

    fn send_orphan(&mut self, address: SocketAddr, probe: [u8; LENGTH]) {
        if let Some(Endpoints { probes: to, .. }) = Endpoints::at(address) {
            self.commands.push_back(Command::SendProbe { to, probe });
        }
    }

    /// Probes the known orphans, and while this node joins, all missing nodes.
    pub(super) fn orphans_due(&mut self, now: Instant) {
        let joining = self.is_waiting_for_missing(now);
        if !joining && self.orphans.valid.is_empty() {
            self.orphans.next = None;
            return;
        }
        if now < *self.orphans.next.get_or_insert(now + INTERVAL) {
            return;
        }
        self.orphans.next = Some(now + INTERVAL);
        let mut targets = self.missing();
        targets.retain(|address| joining || self.orphans.valid.contains_key(address));
        for address in targets {
            self.probe_orphan(address);
        }
    }

    pub(super) fn orphans_wake(&self) -> Option<Instant> {
        self.orphans.next
    }

    /// Takes note of a reply to [`probe_orphan`](Self::probe_orphan); false if it answers another
    /// probe.
    pub(super) fn on_orphan_reply(&mut self, reply: &Probe, now: Instant) -> bool {
        let Some(address) = self.orphans.take_pending(reply) else {
            return false;
        };
        let life = Life(reply.life);
        let known = self.peers.numbered(reply.target);
        let is_member = known.is_some_and(|(_, peer)| peer.is_live());
        // A node in a life that is over is told, and does not count.
        let over = known.filter(|(_, peer)| !is_member && peer.is_over(life));
        let is_over = over.is_some();
        let answers = reply.flags & FLAG_VALID != 0;
        let is_orphan = !is_member && !is_over && answers;
        let is_renewed = answers && reply.flags & FLAG_ALONE == 0;
        let renewed = over
            .filter(|(_, peer)| is_renewed && peer.card.spans.is_headless(reply))
            .map(|(name, _)| name.clone());
        if is_orphan {
            self.orphans.valid.insert(address, now);
        } else {
            self.orphans.valid.remove(&address);
        }
        if is_over || is_orphan && self.is_rival(reply) {
            let sequence = self.nonce();
            let probe = self.request(reply.target, life, sequence, FLAG_OVER, 0);
            self.send_orphan(address, probe);
        }
        if let Some(name) = renewed.filter(|_| self.is_joined()) {
            self.tell_ended(&name, life);
        }
        true
    }

    /// A kernel that needs no renewal was unreachable when this node took its VIPs, and keeps
    /// answering for as long as its agent announced to be away.
    fn is_rival(&self, orphan: &Probe) -> bool {
        let is_alone = orphan.flags & FLAG_ALONE != 0;
        let owns = self.is_joined() && self.owned().next().is_some();
        is_alone && self.timing.spans().is_headless(orphan) && owns
    }

    /// Whether some orphan may be answering.
    pub(super) fn has_orphans(&mut self, now: Instant) -> bool {
        let missing = self.missing();
        self.orphans
            .valid
            .retain(|address, seen| missing.contains(address) && now < *seen + HOLDS);
        !self.orphans.valid.is_empty()
    }
}
