//! Moves that somebody asked for.
//!
//! The node that was asked asks the owner of each VIP to hand it over, and asks again until it sees
//! the VIP at its new owner: whatever is lost on the way is made up for. Few VIPs are on their way
//! at once, however many are to move.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Cluster,
    io::{Event, Reason},
    message::{BATCH, Body},
    name::NodeName,
    peer::Retry,
    seat::Mine,
};

/// VIPs of a rebalancing that are on their way at once.
const AT_ONCE: usize = 64;
/// A move that has not taken effect after this long is given up.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) to: NodeName,
    pub(super) why: Reason,
}

#[derive(Debug)]
struct UnderWay {
    order: Order,
    retry: Retry,
    until: Instant,
}

/// The moves that this node was asked for.
#[derive(Debug, Default)]
pub(super) struct Moves {
    waiting: BTreeMap<IpAddr, Order>,
    under_way: BTreeMap<IpAddr, UnderWay>,
}

impl Moves {
    pub(super) fn wait(&mut self, vip: IpAddr, order: Order) {
        self.under_way.remove(&vip);
        self.waiting.insert(vip, order);
    }

    fn begin(&mut self, vip: IpAddr, order: Order, now: Instant) {
        self.waiting.remove(&vip);
        let retry = Retry::now(now);
        let until = now + PATIENCE;
        let move_ = UnderWay {
            order,
            retry,
            until,
        };
        self.under_way.insert(vip, move_);
    }

    /// Where a VIP is on its way to.
    pub(super) fn target(&self, vip: IpAddr) -> Option<&NodeName> {
        self.under_way.get(&vip).map(|it| &it.order.to)
    }

    pub(super) fn forget_waiting(&mut self, why: Reason) {
        self.waiting.retain(|_, order| order.why != why);
    }
}

impl Cluster {
    pub(super) fn on_move(&mut self, vip: IpAddr, to: NodeName, now: Instant) {
        let leader = self.seats.get(&vip).and_then(|seat| seat.follows);
        let vip = leader.unwrap_or(vip);
        let may = self
            .seats
            .get(&vip)
            .is_some_and(|seat| self.may_own(&to, seat));
        if may && self.owner(vip).is_some() {
            let why = Reason::Move;
            self.moves.begin(vip, Order { to, why }, now);
        } else {
            self.event(Event::MoveRefused(vip, to));
        }
    }

    /// Asks the owners of VIPs that have yet to move.
    pub(super) fn moves_due(&mut self, now: Instant) {
        if self.lease.restarting {
            return;
        }
        self.end_moves(now);
        while self.moves.under_way.len() < AT_ONCE
            && let Some((vip, order)) = self.moves.waiting.pop_first()
        {
            let fit = self
                .seats
                .get(&vip)
                .is_some_and(|seat| self.may_own(&order.to, seat));
            if fit && self.owner(vip).is_some_and(|owner| owner != order.to) {
                self.moves.begin(vip, order, now);
            }
        }
        let due = self.moves.under_way.iter_mut();
        let due: Vec<(IpAddr, Order)> = due
            .filter_map(|(vip, it)| it.retry.due(now).then(|| (*vip, it.order.clone())))
            .collect();
        let mut asked: BTreeMap<(NodeName, NodeName, Reason), Vec<IpAddr>> = BTreeMap::new();
        for (vip, Order { to, why }) in due {
            if let Some(owner) = self.owner(vip) {
                asked.entry((owner, to, why)).or_default().push(vip);
            }
        }
        for ((owner, to, why), vips) in asked {
            if owner == self.name {
                self.on_move_asked(&vips, &to, why, now);
                continue;
            }
            for vips in vips.chunks(BATCH) {
                let (vips, to) = (vips.to_vec(), to.clone());
                self.send(&owner, Body::Move { vips, to, why });
            }
        }
    }

    /// Forgets what has taken effect, and what cannot.
    fn end_moves(&mut self, now: Instant) {
        let mut ended = Vec::new();
        for (vip, it) in &self.moves.under_way {
            let done = self.owner(*vip).is_some_and(|owner| owner == it.order.to);
            if done || now >= it.until || self.is_lost(&it.order.to) {
                ended.push((*vip, done));
            }
        }
        for (vip, done) in ended {
            if let Some(UnderWay { order, .. }) = self.moves.under_way.remove(&vip)
                && self.seats.contains_key(&vip)
                && !done
            {
                self.event(Event::MoveRefused(vip, order.to));
            }
        }
    }

    /// Whether a node takes nothing for longer than a message may be late.
    fn is_lost(&self, name: &NodeName) -> bool {
        let peer = self.peers.get(name);
        *name != self.name && peer.is_none_or(|peer| !peer.is_live() || peer.card.draining)
    }

    pub(super) fn moves_wake(&self) -> Option<Instant> {
        let moves = self.moves.under_way.values();
        let moves = moves.filter(|_| !self.lease.restarting);
        moves.map(|it| it.retry.next.min(it.until)).min()
    }

    /// Somebody asks this node to hand VIPs over. The offer is repeated as often as it is asked for:
    /// it may have been lost, and a claim that takes its time must find the VIP still on offer.
    pub(super) fn on_move_asked(
        &mut self,
        vips: &[IpAddr],
        to: &NodeName,
        why: Reason,
        now: Instant,
    ) {
        if !self.is_joined() || !self.planned || self.lease.restarting {
            return;
        }
        for vip in vips {
            let Some(seat) = self.seats.get_mut(vip) else {
                continue;
            };
            let free = match &seat.mine {
                Mine::Yes => true,
                Mine::Offered(other, _) => other == to,
                Mine::No | Mine::Claiming(_) => false,
            };
            seat.tried.remove(to);
            if free && self.can_offer(*vip, to) {
                self.offer(*vip, to.clone(), why, now);
            }
        }
    }
}
