//! Planned moves: the owner offers a VIP, the successor claims it, and the owner stops answering
//! at the moment when its own consent is all that the claim still needs.

use std::time::Instant;

use super::{
    Cluster,
    io::{Event, Reason},
    message::{BATCH, Body},
    name::{Epoch, NodeName, VipKey, VipName},
    table::Mine,
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
            let fit = self
                .seats
                .get(&key)
                .is_some_and(|seat| self.may_own(&self.name, seat) && seat.mine == Mine::No);
            if !fit {
                keys.push(key);
                continue;
            }
            let cause = super::Cause::Met;
            self.learn_owner(key, from, life, epoch, &cause, now);
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

    pub(super) fn on_move(&mut self, vip: VipName, to: NodeName) {
        let key = vip.key();
        let leader = self.seats.get(&key).and_then(|seat| seat.follows);
        let key = leader.unwrap_or(key);
        let asked = self
            .records
            .get(&key)
            .and_then(|record| self.live_owner(record));
        let seat = self.seats.get_mut(&key);
        match (seat, asked) {
            (Some(seat), _) if seat.mine.is_owned() => {
                seat.tried.clear();
                if self.can_offer(key, &to) {
                    self.bind(key, to, Reason::Move);
                } else {
                    self.event(Event::MoveRefused(vip, to));
                }
            }
            (_, Some(owner)) => {
                let (keys, why) = (vec![key], Reason::Move);
                self.send(&owner, Body::Move { keys, to, why });
            }
            (_, None) => self.event(Event::MoveRefused(vip, to)),
        }
    }

    pub(super) fn on_move_asked(&mut self, keys: Vec<VipKey>, to: &NodeName, why: Reason) {
        for key in keys {
            self.bind(key, to.clone(), why);
        }
    }

    fn bind(&mut self, key: VipKey, to: NodeName, why: Reason) {
        if let Some(seat) = self.seats.get_mut(&key)
            && seat.mine.is_owned()
        {
            seat.tried.clear();
            seat.bound = Some((to, why));
            self.dirty.insert(key);
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
