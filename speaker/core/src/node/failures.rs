//! Steps that the kernel refused: all are retried together, and each is reported once.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use super::Membership;
use crate::plan::Entry;

/// A step that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Write an entry of the VIP maps.
    Put(Entry),
    /// Find room for an entry in its map. Retried whenever anything changes.
    Fit(Entry),
    /// Write an entry of `links`.
    SetLink(u32),
    /// Attach the program to an interface.
    Attach(u32),
    /// Keep VLAN tags in the frames of an interface.
    KeepTags(u32),
    /// Join a group of VIPs on a link.
    Join(Membership),
}

/// Refused steps, each with the reason.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Refused since the last retry.
    now: BTreeMap<Step, String>,
    /// Refused before that.
    before: BTreeMap<Step, String>,
}

impl Failures {
    /// Notes that a step failed. Returns whether that, or its reason, is new.
    pub(super) fn note(&mut self, step: Step, reason: String) -> bool {
        let known = [&self.now, &self.before];
        let is_news = known.iter().all(|it| it.get(&step) != Some(&reason));
        self.now.insert(step, reason);
        is_news
    }

    /// Why a step failed, until it is retried.
    pub(super) fn of(&self, step: &Step) -> Option<&str> {
        self.now.get(step).map(String::as_str)
    }

    /// Why a step failed, even while it is being retried. Only for steps whose success is reported
    /// too.
    pub(super) fn last(&self, step: &Step) -> Option<&str> {
        let reason = self.now.get(step).or_else(|| self.before.get(step));
        reason.map(String::as_str)
    }

    /// Forgets a step that has succeeded or is no longer wanted.
    pub(super) fn forget(&mut self, step: &Step) {
        self.now.remove(step);
        self.before.remove(step);
    }

    /// Has all steps retried. One that fails for the same reason as before is not new.
    pub(super) fn try_again(&mut self) {
        self.before = mem::take(&mut self.now);
    }

    /// Forgets entries that are no longer planned.
    pub(super) fn retain_entries(&mut self, planned: &BTreeSet<Entry>) {
        for steps in [&mut self.now, &mut self.before] {
            steps.retain(|step, _| match step {
                Step::Put(entry) | Step::Fit(entry) => planned.contains(entry),
                Step::SetLink(_) | Step::Attach(_) | Step::KeepTags(_) | Step::Join(_) => true,
            });
        }
    }
}
