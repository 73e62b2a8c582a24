//! Nodes with different timeouts, as during a rolling change of a flag.
//!
//! [`Timing`] makes the timeouts of one node safe. But a node that waits for another one to fall
//! silent has to outlast the *other* node's lease. So each node puts its timeouts on its card, and
//! the longer wait applies.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use speaker_common::probe::{FLAG_RESTARTING, Probe};

use super::{
    Cluster, Peer,
    io::{Adopted, Event},
    name::NodeName,
    timing::Timing,
};

/// The timeouts of a node that others have to know, by its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    /// Its kernel answers for this long after the time of the last reply that a peer handed back.
    pub peers_lease: Duration,
    /// It may renew others for this long after it has lost the majority.
    pub notice: Duration,
    /// The interval of its agent's heartbeats.
    pub heartbeat: Duration,
    /// Its kernel answers for this long after the agent's last heartbeat.
    pub agent_grace: Duration,
    /// How far a clock's rate may be off by its settings, in parts per million.
    pub drift_ppm: u32,
}

impl Spans {
    /// A node with these timeouts that a peer renews does not believe itself alone for longer than
    /// this: its `suspect_after` is longer.
    pub(super) fn in_company(&self) -> Duration {
        2 * self.heartbeat
    }

    /// Whether the reply of a kernel with these timeouts says that its agent does not run.
    pub(super) fn is_headless(&self, reply: &Probe) -> bool {
        let age = Duration::from_millis(reply.agent_age_ms.into());
        age >= self.heartbeat * 3 / 2 || reply.flags & FLAG_RESTARTING != 0
    }
}

/// How long members have to be silent before this node gives them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    take_over_after: Duration,
    /// The longest time that any member renews others after it has lost the majority.
    notice: Duration,
    agent_grace: Duration,
    drift_ppm: u32,
}

impl Waits {
    /// After a silence of this length, no renewal that was ever sent to this member can keep its
    /// lease valid.
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

    /// After a silence of this length, it cannot be answering alone either.
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

/// A peers' lease of a different length, which an earlier agent of this node left in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormerLease {
    peers_lease: Duration,
    /// The latest time that a renewal under it can last to.
    until: Instant,
}

impl FormerLease {
    /// The adopted lease, if its length is not this agent's.
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
        let notice = self.timing.spans().notice;
        Waits {
            take_over_after: own.take_over_after,
            notice: notice.max(self.peers.longest_notice().unwrap_or_default()),
            agent_grace: own.agent_grace,
            drift_ppm: own.drift_ppm,
        }
    }

    /// The timeouts to announce: while the lease length changes, the longer one.
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

    /// The renewal length for the kernel: while it changes, the shorter one.
    pub(super) fn peers_lease(&self) -> Duration {
        let lease = self.timing.settings().peers_lease;
        let former = self.lease.former.map_or(lease, |it| it.peers_lease);
        lease.min(former)
    }

    /// Changes to this agent's length. A longer lease is not used before all members wait for it,
    /// and they wait for a shorter one only once no renewal of the longer can be in force.
    pub(super) fn former_lease_due(&mut self, now: Instant) {
        let known = |peer: &Peer| peer.handshake.acked_card == Some(self.card.version);
        if self.lease.former.is_none_or(|former| now < former.until)
            || !self.live().all(|(_, peer)| known(peer))
        {
            return;
        }
        self.lease.former = None;
        self.write_lease();
        let spans = self.told_spans();
        if self.card.spans != spans {
            self.card.spans = spans;
            self.card.version += 1;
            self.resend_card(now);
        }
    }

    /// Reports once that a node uses different timeouts.
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
