//! What this node knows of each VIP: its intent (`Seat`) and its owner (`Record`).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Cluster,
    io::{Adopted, Cause, Command, Placement, Reason, Silence, VipState},
    message::{BATCH, Cursor, Page, ROOM, Told},
    name::{Epoch, Life, NodeName},
    order::metallb_order,
    rounds::Kind,
    wire::Wire,
};

/// A VIP that this node's intent names, or that its kernel answers for.
#[derive(Debug)]
pub(super) struct Seat {
    /// None while only the kernel has named it.
    pub(super) first_ip: Option<IpAddr>,
    /// Who may own it, the best first.
    pub(super) order: Vec<(NodeName, i64)>,
    /// The VIP that it is to be with.
    pub(super) follows: Option<IpAddr>,
    pub(super) mine: Mine,
    /// What the shell was last told.
    pub(super) shown: Option<VipState>,
    /// Nobody owns it since then.
    pub(super) vacant: Option<Instant>,
    /// Somebody owns it who is no candidate, since then.
    pub(super) doubt: Option<Instant>,
    /// Its owner offered it to this node, which will claim it.
    pub(super) offered: Option<(NodeName, Reason)>,
    /// Those that were offered it and did not take it, and until when they are passed over: they may
    /// have yet to hear that they are candidates.
    pub(super) tried: BTreeMap<NodeName, Instant>,
    /// Somebody put it where it is: it does not fail back.
    pub(super) pinned: bool,
    pub(super) wire: Wire,
}

/// Whether this node owns the VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mine {
    No,
    /// Consent is being gathered, in this round.
    Claiming(u64),
    Yes,
    /// It owns it and has offered it to that node, until then.
    Offered(NodeName, Instant),
}

impl Mine {
    pub(super) fn is_owned(&self) -> bool {
        matches!(self, Self::Yes | Self::Offered(..))
    }
}

/// The last owner that this node heard of.
#[derive(Debug)]
pub(super) struct Record {
    /// None after it was given up.
    pub(super) owner: Option<(NodeName, Life)>,
    pub(super) epoch: Epoch,
    pub(super) origin: Origin,
    /// Everybody who may own it, as far as this node knows: it consented to them, or they said
    /// so, and they have not said otherwise since.
    pub(super) holders: BTreeSet<(NodeName, Life)>,
    /// The owners before, and why they were followed.
    pub(super) history: VecDeque<(NodeName, Cause)>,
}

/// Why a node owns a VIP, and since when, as far as this node knows.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) cause: Cause,
    pub(super) since: Instant,
}

impl Origin {
    pub(super) fn met(now: Instant) -> Self {
        Self {
            cause: Cause::Met,
            since: now,
        }
    }

    /// Whether it says no more than that the node owned it already.
    fn is_vague(&self) -> bool {
        matches!(self.cause, Cause::Met | Cause::Adopted)
    }

    /// Takes over what somebody else knows better.
    fn refine(&mut self, other: Self) {
        if self.is_vague() && (!other.is_vague() || other.since < self.since) {
            *self = other;
        }
    }
}

impl Told {
    pub(super) fn origin(&self, causes: &[Cause], now: Instant) -> Origin {
        let cause = causes.get(usize::from(self.cause));
        let age = Duration::from_millis(self.age_ms);
        Origin {
            cause: cause.cloned().unwrap_or(Cause::Met),
            since: now.checked_sub(age).unwrap_or(now),
        }
    }
}

impl Record {
    const HISTORY: usize = 4;

    pub(super) fn new(now: Instant) -> Self {
        Self {
            owner: None,
            epoch: 0,
            origin: Origin {
                cause: Cause::First,
                since: now,
            },
            holders: BTreeSet::new(),
            history: VecDeque::new(),
        }
    }

    pub(super) fn set(&mut self, owner: (NodeName, Life), epoch: Epoch, origin: Origin) {
        self.holders.insert(owner.clone());
        self.epoch = epoch;
        if self.owner.as_ref() == Some(&owner) {
            self.origin.refine(origin);
            return;
        }
        if let Some((last, _)) = self.owner.replace(owner) {
            self.history.truncate(Self::HISTORY - 1);
            self.history.push_front((last, origin.cause.clone()));
        }
        self.origin = origin;
    }

    pub(super) fn lets_go(&mut self, name: &NodeName) {
        self.holders.retain(|(holder, _)| holder != name);
    }
}

impl Seat {
    pub(super) fn new() -> Self {
        Self {
            first_ip: None,
            order: Vec::new(),
            follows: None,
            mine: Mine::No,
            shown: None,
            vacant: None,
            doubt: None,
            offered: None,
            tried: BTreeMap::new(),
            pinned: false,
            wire: Wire::default(),
        }
    }

    pub(super) fn has_candidate(&self, name: &NodeName) -> bool {
        self.order.iter().any(|(candidate, _)| candidate == name)
    }
}

impl Cluster {
    pub(super) fn all_dirty(&mut self) {
        self.dirty.extend(self.seats.keys());
    }

    /// Goes on with what a former agent of this node owned, or sees to it that it is not answered.
    pub(super) fn adopt(&mut self, adopted: Option<Adopted>, now: Instant) {
        let Some(Adopted { lease, vips, .. }) = adopted else {
            return;
        };
        for vip in vips {
            if lease.life != self.own.life {
                let state = VipState::Silent(Silence::Joining);
                self.commands.push_back(Command::Set { vip, state });
                continue;
            }
            let mut seat = Seat::new();
            seat.mine = Mine::Yes;
            self.seats.insert(vip, seat);
            let own = (self.name.clone(), self.own.life);
            let origin = Origin {
                cause: Cause::Adopted,
                since: now,
            };
            self.record(vip, now).set(own, 0, origin);
            self.show_owned(vip);
            // The former agent may have ended before it did.
            self.commands.push_back(Command::Announce(vip));
        }
    }

    pub(super) fn record(&mut self, vip: IpAddr, now: Instant) -> &mut Record {
        self.records.entry(vip).or_insert_with(|| Record::new(now))
    }

    pub(super) fn on_vip(&mut self, vip: IpAddr, placement: Option<Placement>, now: Instant) {
        match placement {
            Some(placement) => {
                let seat = self.seats.entry(vip).or_insert_with(Seat::new);
                seat.order = metallb_order(placement.first_ip, &placement.candidates);
                seat.first_ip = Some(placement.first_ip);
                seat.tried.clear();
                self.dirty.insert(vip);
                self.follow(vip, placement.follows);
            }
            None => {
                self.follow(vip, None);
                if self
                    .seats
                    .get(&vip)
                    .is_some_and(|seat| seat.mine != Mine::No)
                {
                    self.let_go(&[vip], Silence::NoCandidate, now);
                }
                self.seats.remove(&vip);
                self.dirty.remove(&vip);
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

    /// Tells the shell what to do for a VIP, if that is new.
    pub(super) fn show(&mut self, vip: IpAddr, state: VipState) {
        if let Some(seat) = self.seats.get_mut(&vip)
            && seat.shown.as_ref() != Some(&state)
        {
            seat.shown = Some(state.clone());
            self.commands.push_back(Command::Set { vip, state });
        }
    }

    pub(super) fn show_owned(&mut self, vip: IpAddr) {
        if let Some(record) = self.records.get(&vip) {
            let (epoch, cause) = (record.epoch, record.origin.cause.clone());
            self.show(vip, VipState::Answer { epoch, cause });
        }
    }

    /// Stops answering for VIPs, and tells everybody that nobody owns them.
    pub(super) fn let_go(&mut self, vips: &[IpAddr], silence: Silence, now: Instant) {
        let mut released = Vec::new();
        for vip in vips {
            let Some(seat) = self.seats.get_mut(vip) else {
                continue;
            };
            let was = std::mem::replace(&mut seat.mine, Mine::No);
            seat.offered = None;
            if let Mine::Claiming(round) = was {
                self.drop_from_claim(round, *vip);
            }
            self.show(*vip, VipState::Silent(silence));
            let name = self.name.clone();
            let record = self.record(*vip, now);
            record.owner = None;
            record.epoch += 1;
            record.lets_go(&name);
            released.push((*vip, record.epoch));
        }
        for entries in released.chunks(BATCH) {
            self.start_round(Kind::Release(entries.to_vec()), None, now);
        }
    }

    /// The end of a life: nothing is owned, and nobody need be told, since they know or will.
    pub(super) fn give_up_everything(&mut self) {
        let vips: Vec<IpAddr> = self.seats.keys().copied().collect();
        for vip in vips {
            if let Some(seat) = self.seats.get_mut(&vip) {
                seat.mine = Mine::No;
                seat.offered = None;
                seat.vacant = None;
                seat.tried.clear();
            }
            self.show(vip, VipState::Silent(Silence::Joining));
        }
        self.rounds.clear();
        self.wishes.clear();
        self.offers.clear();
        self.all_dirty();
    }

    /// Forgets the owners of VIPs that neither this node's intent names nor anybody owns.
    pub(super) fn forget_records(&mut self) {
        let seats = &self.seats;
        let peers = &self.peers;
        self.records.retain(|vip, record| {
            let held = |(name, life): &(NodeName, Life)| {
                peers
                    .get(name)
                    .is_some_and(|peer| peer.is_live() && peer.life == *life)
            };
            seats.contains_key(vip) || record.holders.iter().any(held)
        });
    }

    pub(super) fn on_release(
        &mut self,
        from: &NodeName,
        round: u64,
        entries: Vec<(IpAddr, Epoch)>,
        now: Instant,
    ) {
        for (vip, epoch) in entries {
            let record = self.record(vip, now);
            let owned = record
                .owner
                .as_ref()
                .is_some_and(|(owner, _)| owner == from);
            // What was said before the last claim says nothing of it.
            if owned && epoch <= record.epoch {
                continue;
            }
            record.lets_go(from);
            if owned {
                record.owner = None;
                record.epoch = epoch;
                record.origin.since = now;
                record.history.truncate(Record::HISTORY - 1);
                record
                    .history
                    .push_front((from.clone(), Cause::GivenUp(from.clone())));
            }
            self.dirty.insert(vip);
        }
        self.reply(from, super::Body::Ack { round });
    }

    /// What this node owns and what it holds the reader to own, in the order of addresses.
    pub(super) fn fill_page(
        &self,
        reader: &NodeName,
        after: Option<IpAddr>,
        page: &mut Page,
        now: Instant,
    ) {
        let from = (Self::after_vip(after), std::ops::Bound::Unbounded);
        let mut last = after;
        let mut room = ROOM;
        for (vip, record) in self.records.range(from) {
            let owned = self.seats.get(vip).is_some_and(|seat| seat.mine.is_owned());
            let readers = record
                .owner
                .as_ref()
                .is_some_and(|(owner, _)| owner == reader);
            let list = match (owned, readers) {
                (true, _) => &mut page.mine,
                (false, true) => &mut page.yours,
                (false, false) => continue,
            };
            let Origin { cause, since } = &record.origin;
            let known = page.causes.iter().position(|known| known == cause);
            let size = Told::LENGTH + known.map_or_else(|| cause.length(), |_| 0);
            if size > room {
                page.next = Some(Cursor::Vips(last));
                return;
            }
            room -= size;
            last = Some(*vip);
            let cause = known.unwrap_or_else(|| {
                page.causes.push(cause.clone());
                page.causes.len() - 1
            });
            list.push(Told {
                vip: *vip,
                epoch: record.epoch,
                cause: cause as u8,
                age_ms: now.saturating_duration_since(*since).as_millis() as u64,
            });
        }
    }

    /// A member says that it owns a VIP. If this node does too, the higher epoch stays.
    pub(super) fn learn_owner(
        &mut self,
        vip: IpAddr,
        from: &NodeName,
        life: Life,
        epoch: Epoch,
        origin: Origin,
        now: Instant,
    ) {
        let seat = self.seats.get(&vip);
        let owned = seat.is_some_and(|seat| seat.mine.is_owned());
        // Where it conceded the VIP on the wire, both the epoch and who would stay were guesses.
        let guessed = seat.is_some_and(|seat| seat.wire.conceded);
        let ours = self.records.get(&vip).map_or(0, |record| record.epoch);
        if owned && !self.yields(vip, ours, from, epoch) {
            self.reassert(vip, epoch, now);
            return;
        }
        let record = self.record(vip, now);
        if epoch < record.epoch {
            let owner = (from.clone(), life);
            record.holders.insert(owner.clone());
            // What was heard of it is of a former life.
            if guessed || record.owner.as_ref().is_some_and(|(name, _)| name == from) {
                record.owner = Some(owner);
                self.dirty.insert(vip);
            }
            return;
        }
        record.set((from.clone(), life), epoch, origin);
        if owned {
            self.lose(vip, from);
        }
        self.dirty.insert(vip);
    }

    /// A member holds this node to own a VIP at this epoch, and may know better why.
    pub(super) fn learn_own(&mut self, vip: IpAddr, epoch: Epoch, origin: Origin) {
        let owned = self
            .seats
            .get(&vip)
            .is_some_and(|seat| seat.mine.is_owned());
        if let Some(record) = self.records.get_mut(&vip).filter(|_| owned) {
            record.epoch = record.epoch.max(epoch);
            record.origin.refine(origin);
        }
    }

    /// Stops answering for a VIP that another node owns.
    pub(super) fn lose(&mut self, vip: IpAddr, owner: &NodeName) {
        let name = self.name.clone();
        if let Some(record) = self.records.get_mut(&vip) {
            record.lets_go(&name);
        }
        if let Some(seat) = self.seats.get_mut(&vip) {
            seat.mine = Mine::No;
            seat.offered = None;
            seat.tried.clear();
            seat.vacant = None;
        }
        let owner = owner.clone();
        self.show(vip, VipState::Suppress { owner });
        self.dirty.insert(vip);
    }
}
