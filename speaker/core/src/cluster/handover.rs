//! Handing VIPs over: the owner offers a VIP, the successor claims it, and the owner stops
//! answering when its own consent is the last that the claim needs.

use std::{net::IpAddr, time::Instant};

use super::{
    Cluster,
    io::Reason,
    message::{BATCH, Body},
    name::{Epoch, NodeName},
    record::Origin,
    seat::Mine,
    timing::Timing,
};

impl Cluster {
    pub(super) fn offer(&mut self, vip: IpAddr, to: NodeName, why: Reason, now: Instant) {
        let until = now + Timing::OFFER;
        if let Some(seat) = self.seats.get_mut(&vip) {
            seat.mine = Mine::Offered(to.clone(), until);
            self.agenda.add_at(until, vip);
            self.pending_offers.entry((to, why)).or_default().push(vip);
        }
    }

    /// Sends offers made at the same time in as few messages as possible.
    pub(super) fn flush_offers(&mut self, now: Instant) {
        for ((to, why), vips) in std::mem::take(&mut self.pending_offers) {
            for vips in vips.chunks(BATCH) {
                let entries = vips
                    .iter()
                    .map(|vip| (*vip, self.record(*vip, now).epoch))
                    .collect();
                self.send(&to, Body::Offer { entries, why });
            }
        }
    }

    pub(super) fn on_offer(
        &mut self,
        from: &NodeName,
        entries: Vec<(IpAddr, Epoch)>,
        why: Reason,
        now: Instant,
    ) {
        let life = self.peers[from].life;
        let mut vips = Vec::new();
        for (vip, epoch) in entries {
            let seat = self.seats.get(&vip);
            let Some(seat) = seat.filter(|seat| self.may_own(&self.name, seat)) else {
                vips.push(vip);
                continue;
            };
            // The offer is a duplicate, or late.
            if seat.mine != Mine::No {
                continue;
            }
            self.learn_owner(vip, from, life, epoch, Origin::met(now), now);
            if let Some(seat) = self.seats.get_mut(&vip) {
                seat.offered = Some((from.clone(), why));
                self.agenda.add(vip);
            }
        }
        if !vips.is_empty() {
            self.reply(from, Body::Decline { vips });
        }
    }

    pub(super) fn on_decline(&mut self, from: &NodeName, vips: Vec<IpAddr>, now: Instant) {
        for vip in vips {
            if let Some(seat) = self.seats.get_mut(&vip)
                && let Mine::Offered(to, until) = &mut seat.mine
                && to == from
            {
                *until = now;
                self.agenda.add(vip);
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
        self.resend_card(now);
        self.write_lease();
        self.decide_all();
    }
}
