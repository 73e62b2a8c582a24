//! Claims: asking all members for consent, giving it, and owning a VIP once all have consented.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use super::{
    Cluster,
    io::{Cause, Command, Silence},
    message::{Ask, BATCH, Denial, Refusal},
    name::{Epoch, Life, NodeName},
    order::weight,
    record::{Holder, Origin},
    rounds::Round,
    seat::Mine,
    timing::Timing,
    vouching::Unmet,
};

/// A VIP that this node is about to claim.
#[derive(Debug)]
pub(super) struct PendingClaim {
    pub(super) vip: IpAddr,
    pub(super) cause: Cause,
    /// The owner that hands it over; it is asked last.
    pub(super) from: Option<NodeName>,
}

impl Cluster {
    /// Starts as few rounds as possible for claims made at the same time.
    pub(super) fn flush_claims(&mut self, now: Instant) {
        let mut batches: BTreeMap<(Cause, Option<NodeName>), BTreeMap<IpAddr, Epoch>> =
            BTreeMap::new();
        let claims = std::mem::take(&mut self.pending_claims);
        if claims.is_empty() {
            return;
        }
        let unmet = self.unmet_restarting();
        let blocked = unmet.is_none() || self.has_orphans(now);
        let unmet = unmet.unwrap_or_default();
        for PendingClaim { vip, cause, from } in claims {
            if blocked || self.may_be_owned_by_restarting(vip) {
                self.agenda.add_at(now + Timing::PATIENCE, vip);
                continue;
            }
            let epoch = self.record(vip, now).epoch + 1;
            batches.entry((cause, from)).or_default().insert(vip, epoch);
        }
        for ((cause, from), entries) in batches {
            let mut entries: Vec<(IpAddr, Epoch)> = entries.into_iter().collect();
            while !entries.is_empty() {
                let rest = entries.split_off(entries.len().min(BATCH));
                let batch: BTreeMap<IpAddr, Epoch> = entries.into_iter().collect();
                let vips: Vec<IpAddr> = batch.keys().copied().collect();
                let ask = Ask::Claim {
                    cause: cause.clone(),
                    entries: batch,
                    unmet: unmet.clone(),
                };
                let round = self.start_round(ask, from.clone(), now);
                for vip in vips {
                    if let Some(seat) = self.seats.get_mut(&vip) {
                        seat.mine = Mine::Claiming(round);
                    }
                }
                entries = rest;
            }
        }
    }

    /// A member whose agent restarts cannot be asked: it consents to every claim to a VIP that it
    /// does not own. A node that has met it knows what it may own; for others, see `vouching`.
    fn may_be_owned_by_restarting(&self, vip: IpAddr) -> bool {
        let record = self.records.get(&vip);
        let mut paused = self.live().filter(|(_, peer)| peer.paused.is_some());
        paused.any(|(name, peer)| {
            let holder = Holder {
                name: name.clone(),
                life: peer.life,
            };
            record.is_some_and(|record| record.holders.contains(&holder))
        })
    }

    /// Gives up claims that wait for the consent of a member whose agent restarts, or do not name
    /// it although this node has not met it.
    pub(super) fn abandon_claims_awaiting_restarts(&mut self, now: Instant) {
        let unmet = self
            .unmet_restarting()
            .is_none_or(|unmet| !unmet.is_empty());
        let claims: Vec<(IpAddr, u64)> = self
            .seats
            .iter()
            .filter_map(|(vip, seat)| match seat.mine {
                Mine::Claiming(round) => Some((*vip, round)),
                Mine::No | Mine::Yes | Mine::Offered(..) => None,
            })
            .filter(|(vip, _)| unmet || self.may_be_owned_by_restarting(*vip))
            .collect();
        for (vip, round) in claims {
            self.abandon(vip, round, now);
        }
    }

    /// Withdraws a claim before all have consented.
    fn abandon(&mut self, vip: IpAddr, round: u64, now: Instant) {
        if self.rounds.get(&round).is_some_and(Round::has_asked_owner) {
            // The owner may have consented, and expects this node to answer.
            self.release(&[vip], Silence::Vacant, now);
        } else {
            self.drop_from_claim(round, vip);
            if let Some(seat) = self.seats.get_mut(&vip) {
                seat.mine = Mine::No;
                seat.offered = None;
            }
        }
        self.agenda.add(vip);
    }

    pub(super) fn on_claim(
        &mut self,
        from: &NodeName,
        life: Life,
        cause: &Cause,
        entries: BTreeMap<IpAddr, Epoch>,
        unmet: &Unmet,
        now: Instant,
    ) -> Vec<Denial> {
        let mut denied = Vec::new();
        for (vip, epoch) in entries {
            let allowed = self.check_unmet(vip, unmet);
            match allowed.and_then(|()| self.consent(vip, from, epoch, now)) {
                Ok(()) => {
                    let record = self.record(vip, now);
                    let origin = Origin {
                        cause: cause.clone(),
                        since: now,
                    };
                    let owner = Holder {
                        name: from.clone(),
                        life,
                    };
                    record.set(owner, epoch, origin);
                    self.agenda.add(vip);
                }
                Err(why) => {
                    let epoch = self.record(vip, now).epoch;
                    denied.push(Denial { vip, epoch, why });
                }
            }
        }
        denied
    }

    /// Consents on behalf of this node alone: it does not own the VIP, and will not without the
    /// consent of `from`.
    fn consent(
        &mut self,
        vip: IpAddr,
        from: &NodeName,
        epoch: Epoch,
        now: Instant,
    ) -> Result<(), Refusal> {
        let record = self.records.get(&vip);
        let ours = record.map_or(0, |record| record.epoch);
        let mine = self
            .seats
            .get(&vip)
            .map_or(Mine::No, |seat| seat.mine.clone());
        match mine {
            Mine::Yes | Mine::Offered(..) => {
                let offered = matches!(&mine, Mine::Offered(to, _) if to == from);
                if epoch <= ours {
                    return Err(Refusal::Late);
                }
                if !offered && self.reason_to_leave(vip).is_none() {
                    self.reassert(vip, epoch, now);
                    return Err(Refusal::Mine);
                }
                self.lose(vip, from);
            }
            Mine::Claiming(round) => {
                let our_claim = self.claimed_epoch(round, vip).unwrap_or(ours + 1);
                if !self.yields(vip, our_claim, from, epoch) {
                    return Err(Refusal::Mine);
                }
                self.abandon(vip, round, now);
            }
            Mine::No => {
                let theirs = record.is_some_and(|record| record.is_owned_by(from));
                if epoch < ours || epoch == ours && !theirs {
                    return Err(Refusal::Late);
                }
            }
        }
        Ok(())
    }

    pub(super) fn claimed_epoch(&self, round: u64, vip: IpAddr) -> Option<Epoch> {
        match &self.rounds.get(&round)?.ask {
            Ask::Claim { entries, .. } => entries.get(&vip).copied(),
            Ask::Owned(_)
            | Ask::Release(_)
            | Ask::Lapsed { .. }
            | Ask::Retract { .. }
            | Ask::Pause
            | Ask::Leave => None,
        }
    }

    /// Whether this node yields to a rival's claim: the higher epoch wins, then the lower hash. Both
    /// must come to the same result, even if their intents name different first IPs.
    pub(super) fn yields(&self, vip: IpAddr, ours: Epoch, from: &NodeName, epoch: Epoch) -> bool {
        let better = || weight(from, vip) < weight(&self.name, vip);
        epoch > ours || epoch == ours && better()
    }

    /// Tells all members that this node still owns a VIP that another one claimed: those that
    /// consented to that claim believe the other to be the owner.
    pub(super) fn reassert(&mut self, vip: IpAddr, epoch: Epoch, now: Instant) {
        let record = self.record(vip, now);
        record.epoch = record.epoch.max(epoch) + 1;
        let entries = vec![(vip, record.epoch)];
        self.start_round(Ask::Owned(entries), None, now);
        self.set_answer(vip);
    }

    pub(super) fn on_verdict(
        &mut self,
        from: &NodeName,
        id: u64,
        denied: Vec<Denial>,
        vouched: Vec<u64>,
        now: Instant,
    ) {
        let sender = self.peers[from].number;
        let Some(round) = self.rounds.get_mut(&id) else {
            return;
        };
        for member in vouched.into_iter().chain([sender]) {
            round.vouched(member);
        }
        let Ask::Claim { entries, .. } = &round.ask else {
            return;
        };
        let mut agreed: Vec<IpAddr> = entries.keys().copied().collect();
        let life = self.peers[from].life;
        for Denial { vip, epoch, why } in denied {
            if !agreed.contains(&vip) {
                continue;
            }
            agreed.retain(|other| *other != vip);
            self.abandon(vip, id, now);
            let record = self.record(vip, now);
            match why {
                Refusal::Late => record.epoch = record.epoch.max(epoch),
                Refusal::Mine => {
                    let epoch = epoch.max(record.epoch);
                    let owner = Holder {
                        name: from.clone(),
                        life,
                    };
                    record.set(owner, epoch, Origin::met(now));
                }
                Refusal::Held { by } => self.learn_holder(vip, by, epoch, now),
            }
        }
        for vip in agreed {
            self.record(vip, now).remove_holder(from);
        }
        self.answered(from, id, now);
    }

    /// Completes the claims to which all have consented, if the kernel was just read and answers.
    pub(super) fn complete_claims(&mut self, now: Instant) {
        if !self.lease.is_valid(now) || !self.is_joined() || self.lease.restarting {
            return;
        }
        let agreed: Vec<u64> = self
            .rounds
            .iter()
            .filter(|(_, round)| matches!(round.ask, Ask::Claim { .. }) && round.is_answered())
            .map(|(id, _)| *id)
            .collect();
        if !agreed.is_empty() && !self.lease.was_read(now) {
            // A probe may have shown that the node is not alone since the kernel was last read.
            self.beat(now);
            return;
        }
        for id in agreed {
            let Some(round) = self.rounds.remove(&id) else {
                continue;
            };
            if let Ask::Claim { cause, entries, .. } = round.ask {
                self.own_vips(&cause, entries, now);
            }
        }
    }

    fn own_vips(&mut self, cause: &Cause, entries: BTreeMap<IpAddr, Epoch>, now: Instant) {
        let own = self.own_holder();
        for (vip, epoch) in &entries {
            let Some(seat) = self.seats.get_mut(vip) else {
                continue;
            };
            seat.mine = Mine::Yes;
            seat.offered = None;
            seat.vacant = None;
            seat.doubt = None;
            seat.tried.clear();
            seat.wire.forget_contests();
            let record = self.record(*vip, now);
            record.holders.clear();
            let origin = Origin {
                cause: cause.clone(),
                since: now,
            };
            record.set(own.clone(), *epoch, origin);
            self.set_answer(*vip);
            self.commands.push_back(Command::Announce(*vip));
            self.agenda.add(*vip);
        }
        self.start_round(Ask::Owned(entries.into_iter().collect()), None, now);
    }

    /// All members consented to the sender, so no other node owns these VIPs.
    pub(super) fn on_owned(
        &mut self,
        from: &NodeName,
        life: Life,
        entries: Vec<(IpAddr, Epoch)>,
        now: Instant,
    ) {
        for (vip, epoch) in entries {
            let known = self.records.get(&vip).map_or(0, |record| record.epoch);
            if epoch < known {
                continue;
            }
            self.learn_owner(vip, from, life, epoch, Origin::met(now), now);
            let record = self.record(vip, now);
            if record.is_owned_by(from) {
                record.holders.retain(|holder| holder.name == *from);
            }
        }
    }
}
