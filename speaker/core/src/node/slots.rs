//! Which counter slots are taken, and how many more entries fit into the maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use speaker_common::layout::{MAX_SLOTS, MAX_VIPS, Vip};

use crate::plan::Entry;

/// The free slots: those above the highest ever taken, and those returned.
#[derive(Debug, Default)]
pub(super) struct Slots {
    next: u32,
    returned: BTreeSet<u32>,
}

impl Slots {
    /// All slots but these are free.
    pub(super) fn taken(slots: impl Iterator<Item = u32>) -> Self {
        let taken: BTreeSet<u32> = slots.collect();
        let next = taken.last().map_or(0, |last| last + 1);
        Self {
            next,
            returned: (0..next).filter(|slot| !taken.contains(slot)).collect(),
        }
    }

    /// Takes the lowest free slot; `None` if all are in use.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.returned.pop_first().or_else(|| {
            let slot = self.next;
            (slot < MAX_SLOTS as u32).then(|| {
                self.next += 1;
                slot
            })
        })
    }

    pub(super) fn release(&mut self, slot: u32) {
        self.returned.insert(slot);
    }
}

/// How many more entries of each family fit. An entry that does not fit is not attempted: it would
/// hold a slot that the other family may need.
pub(super) struct Room {
    v4: usize,
    v6: usize,
}

impl Room {
    /// The room that these entries leave.
    pub(super) fn beside(held: &BTreeMap<Entry, Vip>) -> Self {
        let v4 = held.keys().filter(|it| it.address.is_ipv4()).count();
        let v6 = held.len() - v4;
        Self {
            v4: MAX_VIPS.saturating_sub(v4),
            v6: MAX_VIPS.saturating_sub(v6),
        }
    }

    /// Takes room for an entry, if there is any.
    pub(super) const fn take(&mut self, address: IpAddr) -> bool {
        let room = match address {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        };
        let fits = *room > 0;
        *room = room.saturating_sub(1);
        fits
    }

    /// Why an entry does not fit.
    pub(super) fn lacking(address: IpAddr) -> String {
        let map = match address {
            IpAddr::V4(_) => "vips_v4",
            IpAddr::V6(_) => "vips_v6",
        };
        format!("the map {map} is full: it has room for {MAX_VIPS}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_an_earlier_agent_are_not_reused() {
        let mut slots = Slots::taken([0, 2].into_iter());
        assert_eq!([slots.take(), slots.take()], [Some(1), Some(3)]);
        slots.release(0);
        assert_eq!(slots.take(), Some(0));
    }

    #[test]
    fn all_slots_can_be_taken() {
        let mut slots = Slots::taken(std::iter::once(MAX_SLOTS as u32 - 1));
        assert_eq!(std::iter::from_fn(|| slots.take()).count(), MAX_SLOTS - 1);
    }
}
