//! Times that differ between nodes, as while a flag is changed on one after the other.
//!
//! [`Timing`] makes one node's times safe together. What a node waits before it holds another one
//! to be silent has to outlast the *other* node's lease, so each tells its own on its card, and
//! everybody waits for the longer of the two.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{
    Cluster, Peer,
    io::{Adopted, Event},
    name::NodeName,
    timing::Timing,
};

/// What others have to know of a node's times, by its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    /// Its kernel answers for this long after the last time that was handed back to it.
    pub peers_lease: Duration,
    /// It may go on renewing others for this long after it lost the majority.
    pub notice: Duration,
    /// Its kernel answers for this long after the agent's last sign of life.
    pub agent_grace: Duration,
    /// How far it holds clocks to be off.
    pub drift_ppm: u32,
}

/// How long the members have to be silent before they are given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    take_over_after: Duration,
    /// The longest that any node goes on renewing others.
    notice: Duration,
    agent_grace: Duration,
    drift_ppm: u32,
}

impl Waits {
    /// Nothing that was ever sent to this member can keep it answering after such a silence.
    pub(super) fn silence(&self, peer: &Peer) -> Duration {
        let Spans {
            peers_lease,
            drift_ppm,
            ..
        } = peer.card.spans;
        let drift_ppm = drift_ppm.max(self.drift_ppm);
        let needed = Timing::stretched(peers_lease + self.notice, drift_ppm);
        needed.max(self.take_over_after)
    }

    /// Nor, after such a one, can it be answering alone.
    pub(super) fn alone(&self, peer: &Peer) -> Duration {
        let Spans {
            agent_grace,
            drift_ppm,
            ..
        } = peer.card.spans;
        Timing::stretched(
            agent_grace.max(self.agent_grace),
            drift_ppm.max(self.drift_ppm),
        )
    }
}

/// The length of the peers' lease that a former agent of this node left in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormerLease {
    peers_lease: Duration,
    /// Until when the last of its renewals may last.
    until: Instant,
}

impl FormerLease {
    /// What `adopted` left, if it is another length than this agent's.
    pub(super) fn of(adopted: &Adopted, timing: &Timing, now: Instant) -> Option<Self> {
        let peers_lease = adopted.peers_lease;
        (peers_lease != timing.settings().peers_lease).then(|| Self {
            peers_lease,
            until: now + peers_lease,
        })
    }
}

impl Cluster {
    pub(super) fn waits(&self) -> Waits {
        let own = self.timing.settings();
        let notices = self.live().map(|(_, peer)| peer.card.spans.notice);
        Waits {
            take_over_after: own.take_over_after,
            notice: notices.fold(self.timing.spans().notice, Duration::max),
            agent_grace: own.agent_grace,
            drift_ppm: own.drift_ppm,
        }
    }

    /// What the others are told of this node's times: while its lease changes, the longer one.
    pub(super) fn told_spans(&self) -> Spans {
        let spans = self.timing.spans();
        let former = self
            .lease
            .former
            .map_or(Duration::ZERO, |it| it.peers_lease);
        Spans {
            peers_lease: spans.peers_lease.max(former),
            ..spans
        }
    }

    /// How long the kernel is told that a renewal lasts: while that changes, the shorter span.
    pub(super) fn peers_lease(&self) -> Duration {
        let lease = self.timing.settings().peers_lease;
        let former = self.lease.former.map_or(lease, |it| it.peers_lease);
        lease.min(former)
    }

    /// A longer lease is not used before everybody waits for it, and everybody waits for a shorter
    /// one only when no renewal of the longer can be in force any more.
    pub(super) fn former_lease_due(&mut self, now: Instant) {
        let known = |peer: &Peer| peer.handshake.acked_card == Some(self.card.version);
        if self.lease.former.is_none_or(|former| now < former.until)
            || !self.live().all(|(_, peer)| known(peer))
        {
            return;
        }
        self.lease.former = None;
        self.write_lease(now);
        let spans = self.told_spans();
        if self.card.spans != spans {
            self.card.spans = spans;
            self.card.version += 1;
            self.resend_card(now);
        }
    }

    /// Says once that a node runs with other times than this one.
    pub(super) fn compare_spans(&mut self, name: &NodeName) {
        let own = self.timing.spans();
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let theirs = peer.card.spans;
        if peer.compared.replace(theirs) != Some(theirs) && theirs != own {
            self.event(Event::TimesDiffer(name.clone(), theirs));
        }
    }
}
