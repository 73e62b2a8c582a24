//! Joining: a node takes part once it has met the others, or waited long enough for those that are
//! missing.

use std::time::Instant;

use super::{Cluster, io::Event, timing::Timing};

/// How far this node has come in joining.
#[derive(Debug)]
pub(super) struct Joining {
    phase: Phase,
    /// It knows no node of a former life, so it has to meet everybody. Otherwise any member that it
    /// knew can tell it of the rest.
    pub(super) newcomer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has yet to be told which nodes exist.
    Untold,
    /// It is meeting the others, and waits until then for those that are missing.
    Meeting(Instant),
    Joined,
}

impl Phase {
    fn meeting(timing: &Timing, now: Instant) -> Self {
        Self::Meeting(now + timing.longest_alone())
    }
}

impl Joining {
    pub(super) fn new(told_of_nodes: bool, timing: &Timing, now: Instant) -> Self {
        Self {
            phase: if told_of_nodes {
                Phase::meeting(timing, now)
            } else {
                Phase::Untold
            },
            newcomer: true,
        }
    }

    /// Starts to look for the others, if the node has waited to be told which they are.
    pub(super) fn begin_once_told(&mut self, timing: &Timing, now: Instant) {
        if self.phase == Phase::Untold {
            self.phase = Phase::meeting(timing, now);
        }
    }

    /// Joins again in another life, unless the node still waits to be told of the others.
    pub(super) fn begin_again(&mut self, timing: &Timing, now: Instant) {
        if self.phase != Phase::Untold {
            self.phase = Phase::meeting(timing, now);
        }
    }

    /// Until when missing nodes are waited for.
    pub(super) fn wait_ends(&self) -> Option<Instant> {
        match self.phase {
            Phase::Meeting(until) => Some(until),
            Phase::Untold | Phase::Joined => None,
        }
    }
}

impl Cluster {
    /// Whether this node has met the others and takes part.
    pub(super) fn is_joined(&self) -> bool {
        self.joining.phase == Phase::Joined
    }

    /// Whether this node is joining, and waits for those that are missing.
    pub(super) fn is_waiting_for_missing(&self, now: Instant) -> bool {
        self.joining.wait_ends().is_some_and(|until| now < until)
    }

    pub(super) fn joining_due(&mut self, now: Instant) {
        let Some(until) = self.joining.wait_ends() else {
            return;
        };
        // A member whose agent restarts will say hello itself.
        let all_met = self
            .live()
            .all(|(_, peer)| peer.handshake.met || peer.paused.is_some());
        if !all_met {
            // The rest takes long to find out where there are many nodes, and each sends several
            // messages until it is met.
            return;
        }
        let any_met = self.live().any(|(_, peer)| peer.handshake.met);
        let told_by_one = !self.joining.newcomer && any_met;
        let waited = now >= until && (any_met || !self.lease.is_heard(now));
        // While this node catches up, a node that left may have come back since.
        let nobody_missing = !self.is_catching_up(now) && self.is_nobody_missing();
        if self.has_majority(now) && (told_by_one || waited || nobody_missing) {
            self.joining.phase = Phase::Joined;
            // Until now, nobody had a reason to renew the lease.
            self.lease.ask_at_once(now);
            self.event(Event::Joined);
            self.decide_all();
        }
    }
}
