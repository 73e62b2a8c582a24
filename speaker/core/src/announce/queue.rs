//! The queue of announcements.

use std::{collections::BTreeSet, time::Duration, time::Instant};

/// The urgency of an announcement, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The first announcement after a change: until then, hosts may send to the wrong MAC.
    First,
    /// A repetition, for hosts that missed the first.
    Repeat,
    /// Nothing has changed.
    Refresh,
}

/// A key that is this late may go before more urgent ones.
const PATIENCE: Duration = Duration::from_secs(10);
/// One turn in this many goes to the key that has waited longest, if that is longer than
/// [`PATIENCE`]. Otherwise lanes would starve if changes came faster than they can be sent.
const SHARE: usize = 8;

/// Keys by lane and due time. Every operation takes O(log n).
#[derive(Debug)]
pub(super) struct Queue<K> {
    lanes: [BTreeSet<(Instant, K)>; 3],
    turn: usize,
}

impl<K: Copy + Ord> Queue<K> {
    pub(super) const fn new() -> Self {
        Self {
            lanes: [const { BTreeSet::new() }; 3],
            turn: 0,
        }
    }

    pub(super) fn insert(&mut self, lane: Lane, due: Instant, key: K) {
        self.lanes[lane as usize].insert((due, key));
    }

    pub(super) fn remove(&mut self, lane: Lane, due: Instant, key: K) {
        self.lanes[lane as usize].remove(&(due, key));
    }

    /// When the next key is due.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.heads().map(|(due, _)| due).min()
    }

    /// The due key whose turn it is.
    pub(super) fn due(&self, now: Instant) -> Option<K> {
        let waited_longest = || {
            self.heads()
                .filter(|(due, _)| *due + PATIENCE <= now)
                .min_by_key(|(due, _)| *due)
        };
        let most_urgent = || self.heads().find(|(due, _)| *due <= now);
        let share = if self.turn == 0 {
            waited_longest()
        } else {
            None
        };
        share.or_else(most_urgent).map(|(_, key)| key)
    }

    /// Ends a turn.
    pub(super) const fn end_turn(&mut self) {
        self.turn = (self.turn + 1) % SHARE;
    }

    /// The first key of each lane, the most urgent lane first.
    fn heads(&self) -> impl Iterator<Item = (Instant, K)> {
        self.lanes.iter().filter_map(|lane| lane.first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::at, *};

    #[test]
    fn changes_go_first_and_nothing_before_its_time() {
        let mut queue = Queue::new();
        queue.insert(Lane::Refresh, at(0), 'r');
        queue.insert(Lane::Repeat, at(1_000), 'a');
        queue.insert(Lane::First, at(2_000), 'f');
        assert_eq!(queue.earliest(), Some(at(0)));
        assert_eq!(queue.due(at(0)), Some('r'));
        assert_eq!(queue.due(at(1_500)), Some('a'));
        assert_eq!(queue.due(at(2_500)), Some('f'));
        queue.remove(Lane::First, at(2_000), 'f');
        assert_eq!(queue.due(at(2_500)), Some('a'));
    }

    #[test]
    fn one_turn_in_eight_goes_to_keys_ten_seconds_late() {
        let mut queue = Queue::new();
        queue.insert(Lane::Refresh, at(0), 'r');
        queue.insert(Lane::First, at(5_000), 'f');
        let mut turns = |now| -> String {
            (0..16)
                .filter_map(|_| {
                    let key = queue.due(now);
                    queue.end_turn();
                    key
                })
                .collect()
        };
        assert_eq!(turns(at(9_999)), "ffffffffffffffff");
        assert_eq!(turns(at(10_000)), "rfffffffrfffffff");
    }
}
