//! Who has which counter slot.

use std::collections::BTreeSet;

use speaker_common::layout::MAX_SLOTS;

/// The free slots: those behind the highest that was ever taken, and those given back.
#[derive(Debug, Default)]
pub(super) struct Slots {
    next: u32,
    returned: BTreeSet<u32>,
}

impl Slots {
    /// Slots of which these are taken.
    pub(super) fn taken(slots: impl Iterator<Item = u32>) -> Self {
        let taken: BTreeSet<u32> = slots.collect();
        let next = taken.last().map_or(0, |last| last + 1);
        Self {
            next,
            returned: (0..next).filter(|slot| !taken.contains(slot)).collect(),
        }
    }

    /// The lowest free slot, or `None` where all are in use.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_an_earlier_agent_gave_are_not_given_again() {
        let mut slots = Slots::taken([0, 2].into_iter());
        assert_eq!([slots.take(), slots.take()], [Some(1), Some(3)]);
        slots.release(0);
        assert_eq!(slots.take(), Some(0));
    }

    #[test]
    fn all_slots_and_no_more() {
        let mut slots = Slots::taken(std::iter::once(MAX_SLOTS as u32 - 1));
        assert_eq!(std::iter::from_fn(|| slots.take()).count(), MAX_SLOTS - 1);
    }
}
