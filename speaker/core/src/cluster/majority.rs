//! Under [`Partition::Majority`]: whether this node is with more than half of all known nodes.
//!
//! Every probe asks that. So the nodes are counted only with each heartbeat, and when a member comes
//! or goes; and once enough members have replied, this node knows how long that lasts.

use std::time::Instant;

use super::{
    Cluster,
    peer::{Peer, State},
    settings::Partition,
};

#[derive(Debug, Default)]
pub(super) struct Majority {
    /// How many members must have replied recently.
    needed: usize,
    /// Until when enough of them have.
    lasts: Option<Instant>,
}

impl Cluster {
    /// Whether more than half of all known nodes reply.
    pub(super) fn has_majority(&mut self, now: Instant) -> bool {
        if self.timing.settings().partition == Partition::Available {
            return true;
        }
        if self.majority.lasts.is_none_or(|until| now >= until) {
            self.majority.lasts = self.majority_lasts(now);
        }
        self.majority.lasts.is_some_and(|until| now < until)
    }

    /// Counts the nodes of which more than half must reply.
    pub(super) fn count_nodes(&mut self) {
        if self.timing.settings().partition == Partition::Available {
            return;
        }
        let known = self.peers.values().filter(|peer| match peer.state {
            State::Live => true,
            // A node that is down and has left the configuration has no vote.
            State::Down(_) => self.may_exist(peer),
            State::Unmet | State::Left => false,
        });
        let all = 1 + known.count() + self.unmet();
        self.majority = Majority {
            needed: all / 2,
            lasts: None,
        };
    }

    /// Until when enough members have replied recently, if no other does.
    fn majority_lasts(&self, now: Instant) -> Option<Instant> {
        let recently = self.timing.settings().suspect_after;
        let Some(last) = self.majority.needed.checked_sub(1) else {
            return Some(now + recently);
        };
        let replied = |peer: &Peer| peer.evidence.heard.unwrap_or(peer.since);
        let mut replies: Vec<Instant> = self.live().map(|(_, peer)| replied(peer)).collect();
        if last >= replies.len() {
            return None;
        }
        let (_, last, _) = replies.select_nth_unstable_by(last, |one, other| other.cmp(one));
        Some(*last + recently)
    }
}
