//! Planned moves: the owner offers a VIP, the successor claims it, and the owner stops answering
//! at the moment when its own consent is all that the claim still needs.

use std::time::Instant;

use super::{
    Cluster,
    io::Reason,
    message::{BATCH, Body},
    name::{Epoch, NodeName, VipKey},
    table::{Mine, Origin},
    timing::Timing,
};

impl Cluster {
    pub(super) fn offer(&mut self, key: VipKey, to: NodeName, why: Reason, now: Instant) {
        let until = now + Timing::OFFER;
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.mine = Mine::Offered(to.clone(), until);
            self.due.insert((until, key));
            self.offers.entry((to, why)).or_default().push(key);
        }
    }

    /// Sends the offers of one moment in as few messages as can be.
    pub(super) fn flush_offers(&mut self, now: Instant) {
        for ((to, why), keys) in std::mem::take(&mut self.offers) {
            for keys in keys.chunks(BATCH) {
                let entries = keys
                    .iter()
                    .map(|key| (*key, self.record(*key, now).epoch))
                    .collect();
                self.send(&to, Body::Offer { entries, why });
            }
        }
    }

    pub(super) fn on_offer(
        &mut self,
        from: &NodeName,
        entries: Vec<(VipKey, Epoch)>,
        why: Reason,
        now: Instant,
    ) {
        let life = self.peers[from].life;
        let mut keys = Vec::new();
        for (key, epoch) in entries {
            let seat = self.seats.get(&key);
            let Some(seat) = seat.filter(|seat| self.may_own(&self.name, seat)) else {
                keys.push(key);
                continue;
            };
            // Said twice, or late.
            if seat.mine != Mine::No {
                continue;
            }
            self.learn_owner(key, from, life, epoch, Origin::met(now), now);
            if let Some(seat) = self.seats.get_mut(&key) {
                seat.offered = Some((from.clone(), why));
                self.dirty.insert(key);
            }
        }
        if !keys.is_empty() {
            self.reply(from, Body::Decline { keys });
        }
    }

    pub(super) fn on_decline(&mut self, from: &NodeName, keys: Vec<VipKey>, now: Instant) {
        for key in keys {
            if let Some(seat) = self.seats.get_mut(&key)
                && let Mine::Offered(to, until) = &mut seat.mine
                && to == from
            {
                *until = now;
                self.dirty.insert(key);
            }
        }
    }

    pub(super) fn on_drain(&mut self, draining: bool, now: Instant) {
        if self.card.draining == draining {
            return;
        }
        self.card.draining = draining;
        self.card.version += 1;
        for seat in self.seats.values_mut() {
            seat.tried.clear();
        }
        self.reintroduce(now);
        self.write_lease(now);
        self.all_dirty();
    }
}
