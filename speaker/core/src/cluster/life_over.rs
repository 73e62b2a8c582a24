//! Disagreement on whether a life is over.
//!
//! A node that others consider down may still run: the network was split, or the node was paused.
//! Once they hear each other again, the side with fewer members begins new lives. A node whose agent
//! is away cannot do so; its kernel falls silent once nobody renews it any more.

use std::{cmp::Ordering, time::Instant};

use super::{
    Cluster,
    io::{Command, LifeOver},
    message::{Body, Side},
    name::{Life, NodeName},
    timing::Timing,
};

impl Cluster {
    /// Tells a node that is not a member that its claimed life is over. A member need not be told
    /// about its earlier lives: messages from these are merely late.
    pub(super) fn tell_over(&mut self, name: &NodeName, now: Instant) {
        if let Some(peer) = self.peers.get(name).filter(|peer| !peer.is_live()) {
            self.tell_life_over(name, peer.life, now);
        }
    }

    pub(super) fn tell_life_over(&mut self, name: &NodeName, life: Life, now: Instant) {
        let side = self.side();
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if peer
            .told_over
            .is_some_and(|told| now < told + Timing::RETRY)
        {
            return;
        }
        peer.told_over = Some(now);
        self.reply(name, Body::Over { life, side });
    }

    fn side(&self) -> Side {
        let first = self.live().map(|(name, _)| name).next();
        Side {
            members: 1 + self.live().count() as u32,
            first: first
                .map_or(&self.name, |first| first.min(&self.name))
                .clone(),
        }
    }

    /// A node in `its_life` considers this node's life `over` ended.
    pub(super) fn on_over(
        &mut self,
        from: &NodeName,
        its_life: Life,
        over: Life,
        theirs: &Side,
        now: Instant,
    ) {
        if self.lease.restarting {
            return;
        }
        if over > self.lease.life {
            // This node has had that life before its clock was set back.
            self.end_life(LifeOver::Declared, over, now);
        }
        if over != self.lease.life {
            return;
        }
        if !self.lease.is_valid(now) {
            // The lease may have lapsed unnoticed: read the kernel's side now.
            self.lease.heartbeat = now;
        }
        // A node that has not joined and owns nothing loses nothing, and its lease may never be
        // valid for long enough to insist.
        let newcomer = !self.is_joined() && self.owned().next().is_none();
        if newcomer || self.weigh_sides(theirs, from).is_lt() {
            self.end_life(LifeOver::Declared, over, now);
        } else if self.lease.is_valid(now) {
            self.tell_life_over(from, its_life, now);
        } else if self.lease.confirmed {
            // The kernel says that nobody renews the lease: there is nothing to defend.
            self.end_life(LifeOver::Declared, over, now);
        }
    }

    /// The kernel of a node that is not a member answers in a life that is over: it was on the other
    /// side of a split, and somebody still renews it. Its own agent could begin a new life, but is
    /// away; so whoever renews it is asked to stop.
    pub(super) fn tell_ended(&mut self, name: &NodeName, life: Life) {
        let members: Vec<NodeName> = self.live().map(|(name, _)| name.clone()).collect();
        for member in members {
            let name = name.clone();
            self.send(&member, Body::Ended { name, life });
        }
    }

    /// A member considers this life of another one over. If this node stops renewing it, the kernel
    /// falls silent and says so, or this node gives it up like one that does not reply.
    pub(super) fn on_ended(&mut self, name: &NodeName, life: Life) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.life == life
        {
            peer.evidence.ended = true;
        }
    }

    /// A node has become a member, or begun another life. Before, on the other side of a split, it
    /// may have answered for this node's VIPs, and clients may still send to it.
    pub(super) fn announce_again(&mut self) {
        let owned: Vec<_> = self.owned().map(Command::Announce).collect();
        self.commands.extend(owned);
    }

    /// More members win, then the smaller first name, then the smaller name of the two nodes.
    fn weigh_sides(&self, theirs: &Side, from: &NodeName) -> Ordering {
        let ours = self.side();
        ours.members
            .cmp(&theirs.members)
            .then(theirs.first.cmp(&ours.first))
            .then(from.cmp(&self.name))
    }
}
