//! Decides what to do about each VIP: keep it, claim it, hand it over, or leave it to another node.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Cluster,
    claim::PendingClaim,
    io::{Cause, DownReason, Failback, Reason, Silence, VipState},
    name::NodeName,
    peer::State,
    record::Record,
    seat::{Mine, Seat},
    timing::Timing,
};

/// The most VIPs decided in one go: there may be as many as the maps hold, and this node's lease
/// must be renewed in between.
const AT_ONCE: usize = 512;

impl Cluster {
    pub(super) fn decide_due(&mut self, now: Instant) {
        // A decision may make another VIP due at once, but none is decided twice here.
        for vip in self.agenda.take(AT_ONCE, now) {
            self.decide(vip, now);
        }
    }

    fn decide(&mut self, vip: IpAddr, now: Instant) {
        let Some(seat) = self.seats.get(&vip) else {
            return;
        };
        self.agenda
            .add_all(self.followers.get(&vip).into_iter().flatten());
        match seat.mine.clone() {
            Mine::Yes | Mine::Offered(..) => {
                self.contests_due(vip, now);
                self.decide_to_keep(vip, now);
            }
            Mine::Claiming(_) if self.may_own(&self.name, seat) => {}
            Mine::Claiming(_) => self.release(&[vip], Silence::NoCandidate, now),
            Mine::No if !self.is_joined() => {
                let minority = !self.has_majority(now);
                let why = if minority {
                    Silence::Minority
                } else {
                    Silence::Joining
                };
                self.set_state(vip, VipState::Silent(why));
            }
            Mine::No => self.decide_to_claim(vip, now),
        }
    }

    /// Whether a node could take a VIP now.
    pub(super) fn may_own(&self, name: &NodeName, seat: &Seat) -> bool {
        seat.has_candidate(name) && self.is_eligible(name)
    }

    /// Whether a node takes VIPs at all.
    pub(super) fn is_eligible(&self, name: &NodeName) -> bool {
        if *name == self.name {
            return self.is_joined()
                && self.planned
                && !self.lease.restarting
                && !self.card.draining;
        }
        self.peers.get(name).is_some_and(|peer| {
            peer.is_live() && !peer.evidence.gone && peer.paused.is_none() && !peer.card.draining
        })
    }

    /// The owner, if it is still in the life in which it became the owner.
    pub(super) fn live_owner(&self, record: &Record) -> Option<NodeName> {
        let owner = record.owner.as_ref()?;
        let live = self
            .peers
            .get(&owner.name)
            .is_some_and(|peer| peer.is_live() && peer.life == owner.life);
        live.then(|| owner.name.clone())
    }

    fn decide_to_claim(&mut self, vip: IpAddr, now: Instant) {
        let Some(seat) = self.seats.get(&vip) else {
            return;
        };
        let Some(owner) = self.owner(vip) else {
            self.decide_on_a_vacancy(vip, now);
            return;
        };
        let fit = self.may_own(&self.name, seat);
        let drained = self.peers[&owner].card.draining;
        let doubtful = seat.first_ip.is_some() && (drained || !seat.has_candidate(&owner));
        let first = doubtful && self.succession(vip, seat, None).first() == Some(&self.name);
        let offered = seat.offered.clone().filter(|(by, _)| *by == owner);
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        seat.vacant = None;
        seat.wire.trust_members();
        seat.offered.clone_from(&offered);
        if !doubtful {
            seat.doubt = None;
        }
        let doubt = doubtful.then(|| *seat.doubt.get_or_insert(now) + Timing::DOUBT);
        if let Some((by, why)) = offered
            && fit
        {
            self.pending_claims.push(PendingClaim {
                vip,
                cause: Cause::HandedOver {
                    by: by.clone(),
                    why,
                },
                from: Some(by),
            });
        } else if let Some(doubt) = doubt {
            if now < doubt {
                self.agenda.add_at(doubt, vip);
            } else if first {
                // By this node's intent the owner should not own it, or it is drained and should have
                // handed it over: then it may not own it at all, if a claim of it failed. A claim
                // asks the owner, which knows.
                if let Some(seat) = self.seats.get_mut(&vip) {
                    seat.doubt = Some(now);
                }
                self.agenda.add_at(now + Timing::DOUBT, vip);
                self.pending_claims.push(PendingClaim {
                    vip,
                    cause: Cause::GivenUp(owner.clone()),
                    from: Some(owner.clone()),
                });
            }
        }
        self.set_state(vip, VipState::Suppress { owner });
    }

    /// The nodes that may take a vacant VIP, in order: the owner of the VIPs that it belongs with,
    /// its last owner, then the candidates, best first.
    fn succession(&self, vip: IpAddr, seat: &Seat, last: Option<&NodeName>) -> Vec<NodeName> {
        let companion = self.companion(vip, seat);
        let mut first: Vec<&NodeName> = companion.iter().chain(last).collect();
        first.retain(|name| self.may_own(name, seat));
        first.dedup();
        let order = seat.order.iter().map(|(name, _)| name);
        let rest = order.filter(|name| !first.contains(name) && self.is_eligible(name));
        first.iter().copied().chain(rest).cloned().collect()
    }

    /// The node that has, or is next to take, the VIP that this one follows; for a leader, the
    /// owner of its first owned follower.
    fn companion(&self, vip: IpAddr, seat: &Seat) -> Option<NodeName> {
        let Some(leader) = seat.follows else {
            let mut followers = self.followers.get(&vip)?.iter();
            return followers.find_map(|follower| self.owner(*follower));
        };
        self.owner(leader).or_else(|| {
            let seat = self.seats.get(&leader).filter(|it| it.follows.is_none())?;
            let last = self.last_owner(leader);
            self.succession(leader, seat, last.as_ref())
                .into_iter()
                .next()
        })
    }

    fn last_owner(&self, vip: IpAddr) -> Option<NodeName> {
        let owner = self.records.get(&vip)?.owner.as_ref()?;
        Some(owner.name.clone())
    }

    /// The owner of the VIP that this one follows, if it is another node that can be offered this
    /// one.
    fn leaders_owner(&self, vip: IpAddr) -> Option<NodeName> {
        let leader = self.seats.get(&vip)?.follows?;
        self.owner(leader)
            .filter(|owner| self.can_offer(vip, owner))
    }

    fn decide_on_a_vacancy(&mut self, vip: IpAddr, now: Instant) {
        let last = self.last_owner(vip);
        let Some(seat) = self.seats.get(&vip) else {
            return;
        };
        if seat.wire.is_in_use(now) {
            let again = seat.wire.next_look();
            if let Some(again) = again {
                self.agenda.add_at(again, vip);
            }
            self.set_state(vip, VipState::Silent(Silence::InUse));
            return;
        }
        let succession = self.succession(vip, seat, last.as_ref());
        let place = succession.iter().position(|name| *name == self.name);
        let silence = if succession.is_empty() {
            Silence::NoCandidate
        } else {
            Silence::Vacant
        };
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        let since = *seat.vacant.get_or_insert(now);
        self.set_state(vip, VipState::Silent(silence));
        let Some(place) = place else {
            return;
        };
        // An owner whose lease merely lapsed is given time to begin another life.
        let returns = last
            .as_ref()
            .and_then(|last| self.peers.get(last))
            .is_some_and(|peer| peer.state == State::Down(DownReason::Lapsed));
        let turn = since + Timing::PATIENCE * (place as u32 + u32::from(returns));
        if now < turn {
            self.agenda.add_at(turn, vip);
            return;
        }
        if !self.is_checked(vip, now) {
            return;
        }
        let cause = match last {
            None if self
                .records
                .get(&vip)
                .is_none_or(|record| record.epoch == 0) =>
            {
                Cause::First
            }
            None => self.last_given_up(vip),
            Some(last) if last == self.name => Cause::Resumed,
            Some(last) => match self.peers.get(&last).map(|peer| peer.state) {
                Some(State::Down(_)) | None => Cause::Down(last),
                Some(State::Live | State::Left | State::Unmet) => Cause::GivenUp(last),
            },
        };
        let from = None;
        self.pending_claims.push(PendingClaim { vip, cause, from });
    }

    fn last_given_up(&self, vip: IpAddr) -> Cause {
        self.records
            .get(&vip)
            .and_then(|record| record.history.front())
            .map_or(Cause::First, |(name, _)| Cause::GivenUp(name.clone()))
    }

    /// Why this node cannot keep a VIP that it owns, if it cannot.
    pub(super) fn reason_to_leave(&self, vip: IpAddr) -> Option<Reason> {
        let seat = self.seats.get(&vip)?;
        if self.card.draining {
            Some(Reason::Drain)
        } else if seat.first_ip.is_some() && self.planned && !seat.has_candidate(&self.name) {
            Some(Reason::NotCandidate)
        } else {
            None
        }
    }

    fn decide_to_keep(&mut self, vip: IpAddr, now: Instant) {
        self.set_answer(vip);
        if !self.is_joined() || !self.planned || self.lease.restarting {
            return;
        }
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        if seat.first_ip.is_none() {
            // An earlier agent owned it, and the intent no longer names it.
            self.release(&[vip], Silence::NoCandidate, now);
            self.seats.remove(&vip);
            return;
        }
        seat.tried.retain(|_, until| now < *until);
        if let Mine::Offered(to, until) = &seat.mine {
            if now < *until {
                self.agenda.add_at(*until, vip);
                return;
            }
            let again = now + Timing::OFFER_AGAIN;
            seat.tried.insert(to.clone(), again);
            self.agenda.add_at(again, vip);
            seat.mine = Mine::Yes;
        }
        let follows = seat.follows.is_some();
        let must = self.reason_to_leave(vip);
        let target = match must {
            Some(why) => self.successor(vip).map(|to| (to, why)),
            None if follows => self.leaders_owner(vip).map(|to| (to, Reason::Together)),
            None => self
                .fails_back_to(vip, now)
                .map(|to| (to, Reason::Failback)),
        };
        match target {
            Some((to, why)) => match self.handed_over_until(vip, &to, why) {
                Some(until) if now < until => self.agenda.add_at(until, vip),
                Some(_) | None => self.offer(vip, to, why, now),
            },
            // It is offered again soon, and answered until then.
            None if must == Some(Reason::Drain) && self.has_successor(vip) => {}
            None if must.is_some() => self.release(&[vip], Silence::NoCandidate, now),
            None => {}
        }
    }

    /// When a VIP may be handed back to the node that handed it over for the same reason: while two
    /// nodes' intents differ, each may want the other to have it.
    fn handed_over_until(&self, vip: IpAddr, to: &NodeName, why: Reason) -> Option<Instant> {
        let origin = &self.records.get(&vip)?.origin;
        let by = to.clone();
        (origin.cause == Cause::HandedOver { by, why }).then(|| origin.since + Timing::OFFER_AGAIN)
    }

    pub(super) fn can_offer(&self, vip: IpAddr, to: &NodeName) -> bool {
        self.seats.get(&vip).is_some_and(|seat| {
            *to != self.name && !seat.tried.contains_key(to) && self.may_own(to, seat)
        })
    }

    /// Whether another node may take the VIP, even if it did not when it was last offered.
    fn has_successor(&self, vip: IpAddr) -> bool {
        self.seats.get(&vip).is_some_and(|seat| {
            let mut others = seat.order.iter().filter(|(name, _)| *name != self.name);
            others.any(|(name, _)| self.is_eligible(name))
        })
    }

    fn successor(&self, vip: IpAddr) -> Option<NodeName> {
        let seat = self.seats.get(&vip)?;
        let mut order = seat.order.iter().map(|(name, _)| name);
        let best = || order.find(|name| self.can_offer(vip, name)).cloned();
        self.leaders_owner(vip).or_else(best)
    }

    /// A better candidate that has been a member for long enough.
    fn fails_back_to(&mut self, vip: IpAddr, now: Instant) -> Option<NodeName> {
        let patience = match self.failback {
            Failback::Never => return None,
            Failback::Immediate => Duration::ZERO,
            Failback::After(patience) => patience,
        };
        if self.was_moved_here(vip) {
            return None;
        }
        let seat = self.seats.get(&vip)?;
        let mut better = seat
            .order
            .iter()
            .map(|(name, _)| name)
            .take_while(|name| **name != self.name);
        let best = better.find(|name| self.can_offer(vip, name))?.clone();
        let there = self.peers.get(&best)?.since + patience;
        if now < there {
            self.agenda.add_at(there, vip);
            return None;
        }
        Some(best)
    }
}
