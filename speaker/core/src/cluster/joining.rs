//! Joining: a node takes part once it has met the others, or waited long enough for those that are
//! missing.

use std::time::{Duration, Instant};

use super::{Cluster, io::Event, timing::Timing};

/// How far this node has come in joining.
#[derive(Debug)]
pub(super) struct Joining {
    phase: Phase,
    /// It knows no node from an earlier life, so it has to meet all. Otherwise any member that it
    /// knew can name the rest.
    pub(super) newcomer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It does not know yet which nodes exist.
    AwaitingPeers,
    /// It is meeting the others.
    Meeting {
        /// While it knows of no node, how long it listens for nodes that look for it.
        listens: Instant,
        /// Until when it waits for those that are missing.
        waits: Instant,
    },
    Joined,
}

impl Phase {
    fn meeting(timing: &Timing, now: Instant) -> Self {
        Self::Meeting {
            listens: now + Timing::LISTEN,
            waits: now + timing.longest_alone(),
        }
    }
}

impl Joining {
    pub(super) fn new(told_of_nodes: bool, timing: &Timing, now: Instant) -> Self {
        Self {
            phase: if told_of_nodes {
                Phase::meeting(timing, now)
            } else {
                Phase::AwaitingPeers
            },
            newcomer: true,
        }
    }

    /// The kernel still answers for an earlier agent: nodes that looked for this one have found it.
    pub(super) fn skip_listening(&mut self, now: Instant) {
        if let Phase::Meeting { listens, .. } = &mut self.phase {
            *listens = now;
        }
    }

    /// Starts to look for the others, if the node was waiting to learn which exist.
    pub(super) fn begin_once_told(&mut self, timing: &Timing, now: Instant) {
        if self.phase == Phase::AwaitingPeers {
            self.phase = Phase::meeting(timing, now);
        }
    }

    /// Joins again in another life, unless the node is still waiting to learn which others exist.
    pub(super) fn begin_again(&mut self, timing: &Timing, now: Instant) {
        if self.phase != Phase::AwaitingPeers {
            self.phase = Phase::meeting(timing, now);
        }
    }

    /// The moments at which this node may join although others are missing, or may exist.
    pub(super) fn wake(&self) -> impl Iterator<Item = Instant> {
        let moments = match self.phase {
            Phase::Meeting { listens, waits } => [Some(listens), Some(waits)],
            Phase::AwaitingPeers | Phase::Joined => [None, None],
        };
        moments.into_iter().flatten()
    }
}

/// A node that says hello is retried within this time, unless very many are missing.
const GREETING: Duration = Duration::from_secs(1);

impl Cluster {
    /// Whether another node runs without hearing this one: it answers for the existing VIPs.
    fn is_greeted(&self, now: Instant) -> bool {
        let mut unmet = self.peers.values().filter(|peer| !peer.is_live());
        unmet.any(|peer| peer.contact.is_some_and(|at| now < at + GREETING))
    }

    /// Whether this node has met the others and takes part.
    pub(super) fn is_joined(&self) -> bool {
        self.joining.phase == Phase::Joined
    }

    /// Whether this node is joining, and waits for those that are missing: they may have spoken
    /// while it stalled.
    pub(super) fn is_waiting_for_missing(&self, now: Instant) -> bool {
        let Phase::Meeting { waits, .. } = self.joining.phase else {
            return false;
        };
        now < waits || self.is_catching_up(now)
    }

    pub(super) fn joining_due(&mut self, now: Instant) {
        let Phase::Meeting { listens, .. } = self.joining.phase else {
            return;
        };
        // A member whose agent restarts will say hello itself.
        let all_met = self
            .live()
            .all(|(_, peer)| peer.handshake.met || peer.paused.is_some());
        if !all_met {
            // The rest is expensive with many nodes, each of which sends several messages until it
            // is met.
            return;
        }
        let any_met = self.live().any(|(_, peer)| peer.handshake.met);
        let told_by_one = !self.joining.newcomer && any_met;
        let is_lonely = !self.lease.is_heard(now) && !self.is_greeted(now);
        let waited = !self.is_waiting_for_missing(now) && (any_met || is_lonely);
        // While this node catches up, a node that left may have come back.
        let nobody_missing = !self.is_catching_up(now)
            && self.is_nobody_missing()
            && (any_met || now >= listens || self.is_told_of_all());
        if self.has_majority(now) && (told_by_one || waited || nobody_missing) {
            self.joining.phase = Phase::Joined;
            // Until now, nobody had a reason to renew the lease.
            self.lease.ask_at_once(&self.timing, now);
            self.event(Event::Joined);
            self.decide_all();
        }
    }
}
