//! VIPs that were withdrawn recently.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::vip::Past;

/// Past announcements of withdrawn VIPs, kept while they would limit those after another take-over.
/// Bounded: entries stay for seconds, and come no faster than announcements are sent.
#[derive(Debug)]
pub(super) struct Withdrawn<K> {
    pasts: BTreeMap<K, (Instant, Past)>,
    expiries: BTreeSet<(Instant, K)>,
}

impl<K: Copy + Ord> Withdrawn<K> {
    pub(super) const fn new() -> Self {
        Self {
            pasts: BTreeMap::new(),
            expiries: BTreeSet::new(),
        }
    }

    /// Remembers `past` of a key that is not remembered yet.
    pub(super) fn insert(&mut self, key: K, past: Past) {
        if let Some(expiry) = past.matters_until() {
            self.pasts.insert(key, (expiry, past));
            self.expiries.insert((expiry, key));
        }
    }

    /// Removes and returns what is remembered of `key`.
    pub(super) fn take(&mut self, key: &K) -> Option<Past> {
        let (expiry, past) = self.pasts.remove(key)?;
        self.expiries.remove(&(expiry, *key));
        Some(past)
    }

    /// Forgets announcements that no longer limit anything.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((expiry, key)) = self.expiries.first().copied()
            && expiry <= now
        {
            self.expiries.pop_first();
            self.pasts.remove(&key);
        }
    }
}

#[cfg(test)]
impl<K: Copy + Ord> Withdrawn<K> {
    pub(super) fn is_empty(&self) -> bool {
        self.pasts.is_empty() && self.expiries.is_empty()
    }
}
