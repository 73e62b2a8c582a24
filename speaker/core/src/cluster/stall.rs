//! Stalls: times in which the agent should have run and did not.
//!
//! After a stall, this node has missed replies, and the messages that wait for it are old. So it
//! accuses nobody for a while, and reads the kernel before it relies on its lease.

use std::time::Instant;

use super::Cluster;

#[derive(Debug)]
pub(super) struct Stalls {
    /// The end of the last stall, or the agent's start.
    over_since: Instant,
    /// There has been a stall since the start.
    any: bool,
}

impl Stalls {
    pub(super) fn none(now: Instant) -> Self {
        Self {
            over_since: now,
            any: false,
        }
    }

    /// Since when the agent has run on time.
    pub(super) fn over_since(&self) -> Instant {
        self.over_since
    }
}

impl Cluster {
    pub(super) fn notice_stall(&mut self, now: Instant) {
        if let Some(wake) = self.wake
            && now > wake + self.timing.stall()
        {
            self.orphans.stalled(now - wake);
            self.stalls = Stalls {
                over_since: now,
                any: true,
            };
            self.lease.confirmed = false;
            self.lease.heartbeat = now;
            self.lease.ask_at_once(&self.timing, now);
            for peer in self.peers.values_mut() {
                peer.doubt_company(now);
            }
        }
    }

    /// Whether this node has run on time for long enough since its last stall that its own picture
    /// of the others is complete.
    pub(super) fn is_on_time(&self, now: Instant) -> bool {
        now >= self.stalls.over_since() + self.timing.settings().suspect_after
    }

    /// Whether this node has run for long enough since its last stall to have received the replies
    /// to several probes.
    pub(super) fn may_accuse(&self, now: Instant) -> bool {
        now >= self.may_accuse_at()
    }

    pub(super) fn may_accuse_at(&self) -> Instant {
        self.stalls.over_since() + self.timing.settings().probe_interval
    }

    /// Whether this node stalled a moment ago, so what it hears may be old.
    pub(super) fn is_catching_up(&self, now: Instant) -> bool {
        self.stalls.any && !self.is_on_time(now)
    }
}
