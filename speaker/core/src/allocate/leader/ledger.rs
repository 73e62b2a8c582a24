//! The entries of the Lease, and the progress of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::Pending;
use crate::intent::ObjectName;

/// The most entries in the Lease, so that it stays well below the maximum size of an object.
pub(super) const CAPACITY: usize = 500;

/// The longest wait before a failed write is retried.
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pending: Pending,
    /// It is in the Lease.
    pub(super) is_granted: bool,
    /// It was in the Lease when this controller became the leader: another controller may have
    /// begun the write.
    is_inherited: bool,
    pub(super) attempt: Attempt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// This controller has not begun the write.
    None,
    UnderWay {
        id: u64,
        backoff: Duration,
    },
    /// It is unknown whether the write took place.
    Unknown {
        retry_at: Instant,
        backoff: Duration,
    },
    /// The same, and it is time for the next attempt.
    Due {
        backoff: Duration,
    },
    /// The write is over, but its result has not been seen yet.
    Over,
}

/// The entries by Service.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<ObjectName, Vec<Entry>>);

impl Ledger {
    /// The entries that an earlier leader left.
    pub(super) fn inherited(pending: Vec<Pending>) -> Self {
        let mut ledger = Self::default();
        for pending in pending {
            ledger.push(pending, true);
        }
        ledger
    }

    /// Adds an entry to be written into the Lease.
    pub(super) fn propose(&mut self, pending: Pending) {
        self.push(pending, false);
    }

    /// All proposed entries are in the Lease now.
    pub(super) fn grant(&mut self) {
        self.entries_mut().for_each(|it| it.is_granted = true);
    }

    /// The entries to write into the Lease.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let entries = self.0.values().flatten();
        entries.map(|it| it.pending.clone()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// The Services that have entries.
    pub(super) fn names(&self) -> Vec<ObjectName> {
        self.0.keys().cloned().collect()
    }

    /// The addresses of each of a Service's entries, the latest last.
    pub(super) fn addresses(&self, name: &ObjectName) -> Vec<Vec<IpAddr>> {
        let entries = self.0.get(name).into_iter().flatten();
        entries.map(|it| it.pending.addresses.clone()).collect()
    }

    /// The Service is seen to have this UID and version, or to be gone: drops all other entries.
    pub(super) fn see(&mut self, name: &ObjectName, seen: Option<(&str, &str)>) {
        self.retain(name, |it| {
            Some((it.pending.uid.as_str(), it.pending.version.as_str())) == seen
        });
    }

    /// Drops unwanted entries of a Service that this controller made and whose writes it has not
    /// begun. Returns whether there were any.
    pub(super) fn withdraw(&mut self, name: &ObjectName, wanted: Option<&[IpAddr]>) -> bool {
        self.retain(name, |it| {
            it.is_inherited
                || !it.is_granted
                || it.attempt != Attempt::None
                || Some(it.pending.addresses.as_slice()) == wanted
        })
    }

    /// The entry to act on: that of the wanted write, or else one whose write may take place
    /// although it is no longer wanted.
    pub(super) fn find(
        &mut self,
        name: &ObjectName,
        wanted: Option<&[IpAddr]>,
    ) -> Option<&mut Entry> {
        let entries = self.0.get_mut(name)?;
        let is_wanted = |it: &Entry| Some(it.pending.addresses.as_slice()) == wanted;
        let at = entries.iter().position(is_wanted);
        let at = at.or_else(|| entries.iter().position(|it| it.is_granted))?;
        entries.get_mut(at)
    }

    /// The write with this number has ended.
    pub(super) fn end(&mut self, id: u64, is_known: bool, now: Instant) {
        let is_it =
            |it: &&mut Entry| matches!(it.attempt, Attempt::UnderWay { id: of, .. } if of == id);
        if let Some(entry) = self.entries_mut().find(is_it)
            && let Attempt::UnderWay { backoff, .. } = entry.attempt
        {
            entry.attempt = if is_known {
                Attempt::Over
            } else {
                Attempt::Unknown {
                    retry_at: now + backoff,
                    backoff: (backoff * 2).min(LONGEST),
                }
            };
        }
    }

    /// The Services whose next attempts are due.
    pub(super) fn due(&mut self, now: Instant) -> BTreeSet<ObjectName> {
        let mut names = BTreeSet::new();
        for entry in self.entries_mut() {
            if let Attempt::Unknown { retry_at, backoff } = entry.attempt
                && retry_at <= now
            {
                entry.attempt = Attempt::Due { backoff };
                names.insert(entry.pending.name.clone());
            }
        }
        names
    }

    /// When the next retry is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        let entries = self.0.values().flatten();
        let times = entries.filter_map(|it| match it.attempt {
            Attempt::Unknown { retry_at, .. } => Some(retry_at),
            _ => None,
        });
        times.min()
    }

    fn push(&mut self, pending: Pending, is_inherited: bool) {
        let entries = self.0.entry(pending.name.clone()).or_default();
        entries.push(Entry {
            pending,
            is_granted: is_inherited,
            is_inherited,
            attempt: Attempt::None,
        });
    }

    fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.values_mut().flatten()
    }

    fn retain(&mut self, name: &ObjectName, keep: impl FnMut(&Entry) -> bool) -> bool {
        let Some(entries) = self.0.get_mut(name) else {
            return false;
        };
        let before = entries.len();
        entries.retain(keep);
        let is_changed = entries.len() < before;
        if entries.is_empty() {
            self.0.remove(name);
        }
        is_changed
    }
}
