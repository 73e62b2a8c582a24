//! What the wire itself says of who owns a VIP.
//!
//! Two nodes that can neither probe nor talk to each other, and yet share a wire, see each other's
//! announcements. No epoch is in them, but it can be told: whoever took a group over while the
//! other was already down in its eyes has the higher one, and both know which of them that is.

use std::time::Instant;

use super::{
    Cluster,
    io::{Cause, Claimant, Command, Event},
    name::{GroupKey, GroupName, NodeName},
    peer::State,
    table::Mine,
    timing::Timing,
};

/// What the wire has shown of a group.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// When a foreign claim was last answered.
    defended: Option<Instant>,
    /// The member that claims it as well, since then.
    contested: Option<(NodeName, Instant)>,
    /// A node that cannot be talked to owns it: it is not claimed before the wire is silent.
    conceded: bool,
    check: Check,
    /// The last foreign claim.
    pub(super) claimed: Option<(Claimant, Instant)>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Check {
    #[default]
    Unknown,
    Asked,
    Free,
    /// Somebody answered; look again then.
    InUse(Instant),
}

impl Wire {
    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        match self.check {
            Check::InUse(until) => now < until,
            Check::Asked => self.conceded,
            Check::Unknown | Check::Free => false,
        }
    }

    pub(super) fn next_look(&self) -> Option<Instant> {
        match self.check {
            Check::InUse(until) => Some(until),
            Check::Unknown | Check::Asked | Check::Free => None,
        }
    }
}

impl Cluster {
    /// Whether the wire need not be asked, or has been, before a vacant group is claimed.
    pub(super) fn is_checked(&mut self, key: GroupKey, now: Instant) -> bool {
        let new = self
            .records
            .get(&key)
            .is_none_or(|record| record.epoch == 0);
        let Some(seat) = self.seats.get_mut(&key) else {
            return false;
        };
        if !(seat.wire.conceded || new && self.check_first) {
            return true;
        }
        match seat.wire.check {
            Check::Free => {
                seat.wire.check = Check::Unknown;
                seat.wire.conceded = false;
                return true;
            }
            Check::InUse(until) if now < until => {}
            Check::Asked => {}
            Check::Unknown | Check::InUse(_) => {
                seat.wire.check = Check::Asked;
                let group = seat.name.clone();
                self.commands.push_back(Command::Check(group));
            }
        }
        false
    }

    pub(super) fn on_checked(&mut self, group: &GroupName, free: bool, now: Instant) {
        let key = group.key();
        if let Some(seat) = self.seats.get_mut(&key)
            && seat.wire.check == Check::Asked
        {
            seat.wire.check = if free {
                Check::Free
            } else {
                Check::InUse(now + Timing::RECHECK)
            };
            self.dirty.insert(key);
        }
    }

    pub(super) fn on_wire_claim(&mut self, group: GroupName, by: Claimant, now: Instant) {
        let key = group.key();
        let Some(seat) = self.seats.get_mut(&key) else {
            return;
        };
        let news = seat
            .wire
            .claimed
            .as_ref()
            .is_none_or(|(last, at)| *last != by || now >= *at + Timing::DEFEND);
        if news {
            seat.wire.claimed = Some((by.clone(), now));
        }
        if !seat.mine.is_owned() {
            return;
        }
        if news {
            self.event(Event::Conflict(group, by.clone()));
        }
        match by {
            // The shell defends it: RFC 5227 §2.4 allows one announcement, not a burst.
            Claimant::Foreign(_) => {}
            Claimant::Node(name) => self.settle(key, &name, now),
        }
    }

    fn settle(&mut self, key: GroupKey, name: &NodeName, now: Instant) {
        let Some(record) = self.records.get(&key) else {
            return;
        };
        let epoch = record.epoch;
        let taken_from = record.history.front().map(|(last, _)| last) == Some(name);
        let owned_since = record.since;
        let peer = self.peers.get(name).map(|peer| (peer.state, peer.since));
        let better = self.yields(key, epoch, name, epoch);
        let yields = match peer {
            Some((State::Live, _)) => {
                // A frame may have been late; and whoever can be talked to settles it by epoch.
                let Some(seat) = self.seats.get_mut(&key) else {
                    return;
                };
                let since = match &seat.wire.contested {
                    Some((other, since)) if other == name && now < *since + Timing::DEFEND => {
                        *since
                    }
                    Some(_) | None => {
                        seat.wire.contested = Some((name.clone(), now));
                        self.reassert(key, epoch, now);
                        return;
                    }
                };
                if now < since + Timing::WIRE {
                    return;
                }
                better
            }
            // It was down before this node took the group: from it, or from a third one while it
            // may have done the same.
            Some((State::Down(_), down)) if down <= owned_since => !taken_from && better,
            // It was a member when this node took the group, and would not have consented to two
            // owners: it has given this node up since, and its epoch is higher.
            Some((State::Down(_), _)) => true,
            Some((State::Stranger | State::Left, _)) | None => better,
        };
        if yields {
            self.concede(key, name, now);
        } else {
            self.defend(key, now);
        }
    }

    fn defend(&mut self, key: GroupKey, now: Instant) {
        if let Some(seat) = self.seats.get_mut(&key)
            && seat
                .wire
                .defended
                .is_none_or(|last| now >= last + Timing::DEFEND)
        {
            seat.wire.defended = Some(now);
            let group = seat.name.clone();
            self.commands.push_back(Command::Announce(group));
        }
    }

    fn concede(&mut self, key: GroupKey, to: &NodeName, now: Instant) {
        let life = self.peers.get(to).map(|peer| peer.life).unwrap_or_default();
        let record = self.record(key, now);
        let epoch = record.epoch + 1;
        record.set((to.clone(), life), epoch, &Cause::First, now);
        self.lose(key, to);
        if let Some(seat) = self.seats.get_mut(&key) {
            debug_assert_eq!(seat.mine, Mine::No, "it has just been lost");
            seat.wire.contested = None;
            seat.wire.conceded = true;
            seat.wire.check = Check::InUse(now + Timing::RECHECK);
        }
    }
}
