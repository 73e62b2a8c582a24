//! Moves on request.
//!
//! The node that receives the request asks the owner of each VIP to hand it over, and repeats that
//! until it sees the VIP at its new owner, so lost messages do not matter. Only a few VIPs move at
//! a time.

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

/// VIPs that a rebalancing moves at a time.
const AT_ONCE: usize = 64;
/// A move that takes longer than this is abandoned.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct MoveRequest {
    pub(super) to: NodeName,
    pub(super) why: Reason,
}

#[derive(Debug)]
struct Active {
    request: MoveRequest,
    retry: Retry,
    until: Instant,
}

/// The moves that were requested from this node.
#[derive(Debug, Default)]
pub(super) struct Moves {
    waiting: BTreeMap<IpAddr, MoveRequest>,
    active: BTreeMap<IpAddr, Active>,
}

impl Moves {
    pub(super) fn enqueue(&mut self, vip: IpAddr, request: MoveRequest) {
        self.active.remove(&vip);
        self.waiting.insert(vip, request);
    }

    fn begin(&mut self, vip: IpAddr, request: MoveRequest, now: Instant) {
        self.waiting.remove(&vip);
        let retry = Retry::now(now);
        let until = now + PATIENCE;
        let move_ = Active {
            request,
            retry,
            until,
        };
        self.active.insert(vip, move_);
    }

    /// The node that a VIP is moving to.
    pub(super) fn target(&self, vip: IpAddr) -> Option<&NodeName> {
        self.active.get(&vip).map(|it| &it.request.to)
    }

    pub(super) fn cancel_waiting(&mut self, why: Reason) {
        self.waiting.retain(|_, request| request.why != why);
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
            self.moves.begin(vip, MoveRequest { to, why }, now);
        } else {
            self.event(Event::MoveRefused(vip, to));
        }
    }

    /// Asks the owners of VIPs that have not moved yet.
    pub(super) fn moves_due(&mut self, now: Instant) {
        if self.lease.restarting {
            return;
        }
        self.end_moves(now);
        while self.moves.active.len() < AT_ONCE
            && let Some((vip, request)) = self.moves.waiting.pop_first()
        {
            let fit = self
                .seats
                .get(&vip)
                .is_some_and(|seat| self.may_own(&request.to, seat));
            if fit && self.owner(vip).is_some_and(|owner| owner != request.to) {
                self.moves.begin(vip, request, now);
            }
        }
        let due = self.moves.active.iter_mut();
        let due: Vec<(IpAddr, MoveRequest)> = due
            .filter_map(|(vip, it)| it.retry.due(now).then(|| (*vip, it.request.clone())))
            .collect();
        let mut asked: BTreeMap<(NodeName, NodeName, Reason), Vec<IpAddr>> = BTreeMap::new();
        for (vip, MoveRequest { to, why }) in due {
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

    /// Ends moves that have succeeded, or cannot.
    fn end_moves(&mut self, now: Instant) {
        let mut ended = Vec::new();
        for (vip, it) in &self.moves.active {
            let done = self.is_sole_owner(*vip, &it.request.to);
            if done || now >= it.until || self.is_lost(&it.request.to) {
                ended.push((*vip, done));
            }
        }
        for (vip, done) in ended {
            if let Some(Active { request, .. }) = self.moves.active.remove(&vip)
                && self.seats.contains_key(&vip)
                && !done
            {
                self.event(Event::MoveRefused(vip, request.to));
            }
        }
    }

    /// Whether a node certainly owns the VIP. A claim is not enough: it may still be refused.
    fn is_sole_owner(&self, vip: IpAddr, name: &NodeName) -> bool {
        self.owner(vip).is_some_and(|owner| owner == *name)
            && self.records.get(&vip).is_some_and(|record| {
                let mut holders = record.holders.iter();
                holders.all(|holder| holder.name == *name)
            })
    }

    /// Whether the node takes no VIPs, not just because a message is late.
    fn is_lost(&self, name: &NodeName) -> bool {
        let peer = self.peers.get(name);
        *name != self.name && peer.is_none_or(|peer| !peer.is_live() || peer.card.draining)
    }

    pub(super) fn moves_wake(&self) -> Option<Instant> {
        let moves = self.moves.active.values();
        let moves = moves.filter(|_| !self.lease.restarting);
        moves.map(|it| it.retry.next.min(it.until)).min()
    }

    /// A member, or this node itself, requests that it hand VIPs over. Each request repeats the
    /// offer, which may have been lost or have expired before the claim is complete.
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
