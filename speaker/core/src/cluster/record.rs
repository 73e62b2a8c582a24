//! Who owns each VIP, as far as this node knows.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Cluster,
    io::{Cause, Command, Reason},
    message::{Ask, Told},
    name::{Epoch, Life, NodeName},
    seat::Mine,
};

/// A node in the life in which it owns a VIP, or may.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    pub(super) name: NodeName,
    pub(super) life: Life,
}

/// What this node has heard about a VIP's owner.
#[derive(Debug)]
pub(super) struct Record {
    /// The last owner; `None` after it released the VIP.
    pub(super) owner: Option<Holder>,
    pub(super) epoch: Epoch,
    pub(super) origin: Origin,
    /// All nodes that may own it: this node consented to their claims, or they said that they own
    /// it, and they have not said otherwise since.
    pub(super) holders: BTreeSet<Holder>,
    /// Former owners, most recent first, each with the reason why the next one followed.
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

    /// Whether it only says that the node owned the VIP already.
    fn is_vague(&self) -> bool {
        matches!(self.cause, Cause::Met | Cause::Adopted)
    }

    /// Adopts another node's better knowledge.
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

    pub(super) fn set(&mut self, owner: Holder, epoch: Epoch, origin: Origin) {
        self.holders.insert(owner.clone());
        self.epoch = epoch;
        if self.owner.as_ref() == Some(&owner) {
            self.origin.refine(origin);
            return;
        }
        if let Some(last) = self.owner.replace(owner) {
            self.note_former_owner(last.name, origin.cause.clone());
        }
        self.origin = origin;
    }

    fn note_former_owner(&mut self, name: NodeName, followed_for: Cause) {
        self.history.truncate(Self::HISTORY - 1);
        self.history.push_front((name, followed_for));
    }

    /// Whether the node is the last known owner, in any life.
    pub(super) fn is_owned_by(&self, name: &NodeName) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.name == *name)
    }

    pub(super) fn remove_holder(&mut self, name: &NodeName) {
        self.holders.retain(|holder| holder.name != *name);
    }
}

impl Cluster {
    pub(super) fn record(&mut self, vip: IpAddr, now: Instant) -> &mut Record {
        self.records.entry(vip).or_insert_with(|| Record::new(now))
    }

    /// Forgets VIPs that this node's intent does not name and no member may own.
    pub(super) fn forget_records(&mut self) {
        let seats = &self.seats;
        let peers = &self.peers;
        self.records.retain(|vip, record| {
            let is_live = |holder: &Holder| {
                peers
                    .get(&holder.name)
                    .is_some_and(|peer| peer.is_live() && peer.life == holder.life)
            };
            seats.contains_key(vip) || record.holders.iter().any(is_live)
        });
    }

    pub(super) fn on_release(
        &mut self,
        from: &NodeName,
        entries: Vec<(IpAddr, Epoch)>,
        now: Instant,
    ) {
        for (vip, epoch) in entries {
            let record = self.record(vip, now);
            let owned = record.is_owned_by(from);
            // Sent before the node's last claim, and late.
            if owned && epoch <= record.epoch {
                continue;
            }
            record.remove_holder(from);
            // A claim that comes after its withdrawal is late.
            record.epoch = record.epoch.max(epoch);
            if owned {
                record.owner = None;
                record.origin.since = now;
                record.note_former_owner(from.clone(), Cause::GivenUp(from.clone()));
            }
            self.agenda.add(vip);
        }
    }

    /// A member says that it owns a VIP. If this node owns it too, the higher epoch wins.
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
        // A node that conceded the VIP on the wire inferred both the epoch and the owner.
        let guessed = seat.is_some_and(|seat| seat.wire.conceded);
        let ours = self.records.get(&vip).map_or(0, |record| record.epoch);
        if owned && !self.yields(vip, ours, from, epoch) {
            self.reassert(vip, epoch, now);
            self.commands.push_back(Command::Announce(vip));
            return;
        }
        let record = self.record(vip, now);
        let owner = Holder {
            name: from.clone(),
            life,
        };
        if epoch < record.epoch {
            record.holders.insert(owner.clone());
            // The record is of a former life of that node.
            if guessed || record.is_owned_by(from) {
                record.owner = Some(owner);
                self.agenda.add(vip);
            }
            return;
        }
        record.set(owner, epoch, origin);
        if owned {
            self.lose(vip, from);
        }
        self.agenda.add(vip);
    }

    /// A member believes that this node owns a VIP at this epoch, and may know better why. If this
    /// node does not own it, tells all members.
    pub(super) fn learn_own(&mut self, vip: IpAddr, epoch: Epoch, origin: Origin, now: Instant) {
        let mine = self.seats.get(&vip).map_or(&Mine::No, |seat| &seat.mine);
        let (owned, claims) = (mine.is_owned(), matches!(mine, Mine::Claiming(_)));
        let record = self.record(vip, now);
        let is_news = epoch > record.epoch;
        record.epoch = record.epoch.max(epoch);
        if owned {
            record.origin.refine(origin);
        } else if is_news && !claims {
            record.epoch += 1;
            let released = vec![(vip, record.epoch)];
            self.start_round(Ask::Release(released), None, now);
        }
    }

    /// It was moved to this node on request, and does not fail back.
    pub(super) fn was_moved_here(&self, vip: IpAddr) -> bool {
        self.records.get(&vip).is_some_and(|record| {
            matches!(
                record.origin.cause,
                Cause::HandedOver {
                    why: Reason::Move | Reason::Rebalance,
                    ..
                }
            )
        })
    }
}
