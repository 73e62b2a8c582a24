//! What this node does for each VIP.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use super::{
    Cluster,
    io::{Adopted, Cause, Command, Placement, Reason, Silence, VipState},
    message::{Ask, BATCH},
    name::NodeName,
    order::metallb_order,
    record::{Holder, Origin},
    wire::Wire,
};

/// A VIP that this node's intent names, or that its kernel answers for.
#[derive(Debug)]
pub(super) struct Seat {
    /// `None` while the intent does not name the VIP.
    pub(super) first_ip: Option<IpAddr>,
    /// The candidates with their preferences, best first.
    pub(super) order: Vec<(NodeName, i64)>,
    /// The VIP that it should share an owner with.
    pub(super) follows: Option<IpAddr>,
    pub(super) mine: Mine,
    /// The state that the shell was last given.
    pub(super) state: Option<VipState>,
    /// Since when it has had no owner.
    pub(super) vacant: Option<Instant>,
    /// Since when its owner has been drained, or no candidate by this node's intent.
    pub(super) doubt: Option<Instant>,
    /// The owner that offered it to this node, which will claim it.
    pub(super) offered: Option<(NodeName, Reason)>,
    /// Nodes that did not take it when offered, and until when to skip them: they may not have
    /// learned yet that they are candidates.
    pub(super) tried: BTreeMap<NodeName, Instant>,
    pub(super) wire: Wire,
}

/// Whether this node owns the VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mine {
    No,
    /// It collects consent in this round.
    Claiming(u64),
    Yes,
    /// It owns the VIP and has offered it to this node until then.
    Offered(NodeName, Instant),
}

impl Mine {
    pub(super) fn is_owned(&self) -> bool {
        matches!(self, Self::Yes | Self::Offered(..))
    }
}

impl Seat {
    pub(super) fn new() -> Self {
        Self {
            first_ip: None,
            order: Vec::new(),
            follows: None,
            mine: Mine::No,
            state: None,
            vacant: None,
            doubt: None,
            offered: None,
            tried: BTreeMap::new(),
            wire: Wire::default(),
        }
    }

    pub(super) fn has_candidate(&self, name: &NodeName) -> bool {
        self.order.iter().any(|(candidate, _)| candidate == name)
    }
}

impl Cluster {
    /// This node in its current life.
    pub(super) fn own_holder(&self) -> Holder {
        Holder {
            name: self.name.clone(),
            life: self.lease.life,
        }
    }

    /// Keeps what an earlier agent of this node owned if its lease is still valid; otherwise
    /// silences it.
    pub(super) fn adopt(&mut self, adopted: Option<Adopted>, now: Instant) {
        let Some(Adopted { lease, vips, .. }) = adopted else {
            return;
        };
        let same_life = lease.life == self.lease.life;
        if same_life {
            self.joining.skip_listening(now);
        }
        for vip in vips {
            if !same_life {
                let state = VipState::Silent(Silence::Joining);
                self.commands.push_back(Command::Set { vip, state });
                continue;
            }
            let mut seat = Seat::new();
            seat.mine = Mine::Yes;
            self.seats.insert(vip, seat);
            let own = self.own_holder();
            let origin = Origin {
                cause: Cause::Adopted,
                since: now,
            };
            self.record(vip, now).set(own, 0, origin);
            self.set_answer(vip);
        }
    }

    pub(super) fn on_vip(&mut self, vip: IpAddr, placement: Option<Placement>, now: Instant) {
        match placement {
            Some(placement) => {
                let seat = self.seats.entry(vip).or_insert_with(Seat::new);
                seat.order = metallb_order(placement.first_ip, &placement.candidates);
                seat.first_ip = Some(placement.first_ip);
                seat.tried.clear();
                self.agenda.add(vip);
                self.follow(vip, placement.follows);
            }
            None => {
                self.follow(vip, None);
                if self
                    .seats
                    .get(&vip)
                    .is_some_and(|seat| seat.mine != Mine::No)
                {
                    self.release(&[vip], Silence::NoCandidate, now);
                }
                self.seats.remove(&vip);
                self.agenda.cancel(vip);
                self.commands.push_back(Command::Set {
                    vip,
                    state: VipState::Silent(Silence::NoCandidate),
                });
            }
        }
    }

    fn follow(&mut self, vip: IpAddr, leader: Option<IpAddr>) {
        let Some(seat) = self.seats.get_mut(&vip) else {
            return;
        };
        let before = std::mem::replace(&mut seat.follows, leader);
        if before == leader {
            return;
        }
        if let Some(before) = before
            && let Some(followers) = self.followers.get_mut(&before)
        {
            followers.remove(&vip);
            if followers.is_empty() {
                self.followers.remove(&before);
            }
        }
        if let Some(leader) = leader {
            self.followers.entry(leader).or_default().insert(vip);
        }
    }

    /// Tells the shell the state of a VIP, if it has changed.
    pub(super) fn set_state(&mut self, vip: IpAddr, state: VipState) {
        if let Some(seat) = self.seats.get_mut(&vip)
            && seat.state.as_ref() != Some(&state)
        {
            seat.state = Some(state.clone());
            self.commands.push_back(Command::Set { vip, state });
        }
    }

    pub(super) fn set_answer(&mut self, vip: IpAddr) {
        if let Some(record) = self.records.get(&vip) {
            let (epoch, cause) = (record.epoch, record.origin.cause.clone());
            self.set_state(vip, VipState::Answer { epoch, cause });
        }
    }

    /// Stops answering for VIPs, and tells all members that nobody owns them.
    pub(super) fn release(&mut self, vips: &[IpAddr], silence: Silence, now: Instant) {
        let mut released = Vec::new();
        for vip in vips {
            let Some(seat) = self.seats.get_mut(vip) else {
                continue;
            };
            let was = std::mem::replace(&mut seat.mine, Mine::No);
            seat.offered = None;
            // Members that have consented to a claim consider this node the owner at its epoch.
            let mut claimed = 0;
            if let Mine::Claiming(round) = was {
                claimed = self.claimed_epoch(round, *vip).unwrap_or(0);
                self.drop_from_claim(round, *vip);
            }
            self.set_state(*vip, VipState::Silent(silence));
            let name = self.name.clone();
            let record = self.record(*vip, now);
            record.owner = None;
            record.epoch = record.epoch.max(claimed) + 1;
            record.remove_holder(&name);
            released.push((*vip, record.epoch));
        }
        for entries in released.chunks(BATCH) {
            self.start_round(Ask::Release(entries.to_vec()), None, now);
        }
    }

    /// Drops all VIPs and rounds at the end of a life. Members need not be told: they know that it
    /// is over, or will learn so.
    pub(super) fn drop_everything(&mut self) {
        let vips: Vec<IpAddr> = self.seats.keys().copied().collect();
        for vip in vips {
            if let Some(seat) = self.seats.get_mut(&vip) {
                seat.mine = Mine::No;
                seat.offered = None;
                seat.vacant = None;
                seat.tried.clear();
            }
            self.set_state(vip, VipState::Silent(Silence::Joining));
        }
        self.rounds.clear();
        self.pending_claims.clear();
        self.pending_offers.clear();
        self.decide_all();
    }

    /// Stops answering for a VIP that another node owns.
    pub(super) fn lose(&mut self, vip: IpAddr, owner: &NodeName) {
        let name = self.name.clone();
        if let Some(record) = self.records.get_mut(&vip) {
            record.remove_holder(&name);
        }
        if let Some(seat) = self.seats.get_mut(&vip) {
            seat.mine = Mine::No;
            seat.offered = None;
            seat.tried.clear();
            seat.vacant = None;
        }
        let owner = owner.clone();
        self.set_state(vip, VipState::Suppress { owner });
        self.agenda.add(vip);
    }
}
