//! What the kernel refuses: all of it is tried again together, and each told once.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use super::Membership;
use crate::plan::Entry;

/// A step that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// To write an entry of the VIP maps.
    Put(Entry),
    /// To find room for an entry in its map. That is tried whenever anything changes.
    Fit(Entry),
    /// To run the program on an interface.
    Attach(u32),
    /// To let VLAN tags stay in the frames of an interface.
    KeepTags(u32),
    /// To join a group of VIPs on a link.
    Join(Membership),
}

/// What was refused, and why.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Since everything was tried again.
    now: BTreeMap<Step, String>,
    /// The time before.
    before: BTreeMap<Step, String>,
}

impl Failures {
    /// A step has failed. Whether that is news.
    pub(super) fn note(&mut self, step: Step, reason: String) -> bool {
        let known = [&self.now, &self.before];
        let is_news = known.iter().all(|it| it.get(&step) != Some(&reason));
        self.now.insert(step, reason);
        is_news
    }

    /// Why a step failed, until it is tried again.
    pub(super) fn of(&self, step: &Step) -> Option<&str> {
        self.now.get(step).map(String::as_str)
    }

    /// A step is not wanted any more, or has been done.
    pub(super) fn forget(&mut self, step: &Step) {
        self.now.remove(step);
        self.before.remove(step);
    }

    /// All steps are tried again: what fails for the same reason is no news.
    pub(super) fn try_again(&mut self) {
        self.before = mem::take(&mut self.now);
    }

    /// Forgets entries that are not planned any more.
    pub(super) fn retain_entries(&mut self, planned: &BTreeSet<Entry>) {
        for steps in [&mut self.now, &mut self.before] {
            steps.retain(|step, _| match step {
                Step::Put(entry) | Step::Fit(entry) => planned.contains(entry),
                Step::Attach(_) | Step::KeepTags(_) | Step::Join(_) => true,
            });
        }
    }
}
