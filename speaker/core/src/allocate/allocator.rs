//! The index of Services and pools.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
};

use super::{
    Outcome, Service, Usage,
    judge::{Judge, Keyed, may_share},
    pools::{self, Pools},
    used::Used,
};
use crate::intent::{
    Labels, ObjectName, Pool,
    admission::{Admission, Conflict},
};

/// All objects, and the outcome of each Service.
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    services: BTreeMap<ObjectName, Entry>,
    namespaces: BTreeMap<String, Labels>,
    admission: Admission<ObjectName, Pool>,
    conflicts: BTreeMap<ObjectName, Conflict<ObjectName>>,
    /// Pools that are invalid in themselves, with the reason.
    refused: BTreeMap<ObjectName, String>,
    pools: Pools,
    /// There is a pool, or there was one. Until then, nothing is taken away: another allocator may
    /// have assigned it, and pools that contain it may be created next.
    has_had_pools: bool,
    holdings: Holdings,
    /// Services that changes since the last [`Self::settle`] may affect.
    touched: BTreeSet<Rank>,
    /// Services that lack addresses, and get them as soon as there are more.
    waiting: BTreeSet<Rank>,
    /// Some address may have become available.
    is_freed: bool,
    are_pools_new: bool,
    changed: BTreeSet<ObjectName>,
}

/// Services are served in the order of creation.
pub(super) type Rank = (i64, ObjectName);

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) service: Service,
    /// Addresses that pending writes may still put into the status.
    pub(super) pending: Vec<Vec<IpAddr>>,
    pub(super) outcome: Outcome,
    /// All addresses that it has, may get from pending writes, or has been assigned.
    pub(super) held: BTreeSet<IpAddr>,
}

impl Entry {
    pub(super) fn rank(&self) -> Rank {
        (self.service.created, self.service.name.clone())
    }
}

impl Allocator {
    /// Adds or changes a Service.
    pub fn apply(&mut self, service: Service) {
        let name = service.name.clone();
        self.changed.insert(name.clone());
        let old = self.services.get_mut(&name);
        if let Some(old) = old
            && old.service.wants_the_same(&service)
        {
            old.service = service;
            return;
        }
        let (pending, outcome) = match self.remove(&name) {
            Some(old) if old.service.uid == service.uid && service.is_ours => {
                (old.pending, old.outcome)
            }
            _ => (Vec::new(), Outcome::default()),
        };
        let entry = Entry {
            service,
            pending,
            outcome,
            held: BTreeSet::new(),
        };
        self.insert(entry);
    }

    /// Removes a Service that is gone or no longer of type `LoadBalancer`.
    pub fn delete(&mut self, name: &ObjectName) {
        self.remove(name);
        self.changed.insert(name.clone());
    }

    /// Reserves the addresses that pending writes may still put into a Service's status: no other
    /// Service gets them.
    pub fn hold(&mut self, name: &ObjectName, pending: Vec<Vec<IpAddr>>) {
        if let Some(entry) = self.services.get_mut(name)
            && entry.pending != pending
        {
            self.touched.insert(entry.rank());
            let is_less = self.holdings.change(entry, |it| it.pending = pending);
            self.is_freed |= is_less;
        }
    }

    /// Adds or changes a pool.
    pub fn apply_pool(&mut self, pool: Pool) {
        let name = pool.name();
        let was_refused = self.refused.remove(name).is_some();
        let is_same = |(it, old): (&ObjectName, &Pool)| it == name && *old == pool;
        let is_known = self.admission.in_force().any(is_same);
        if !is_known || was_refused || !self.conflicts.is_empty() {
            self.admission.offer(name.clone(), pool);
            self.are_pools_new = true;
        }
    }

    /// A pool has become invalid, for this reason. Its last valid version stays in force; if it had
    /// none, no Service loses an address for lack of a pool that contains it.
    pub fn refuse_pool(&mut self, name: ObjectName, why: String) {
        self.admission.retract(&name);
        self.refused.insert(name, why);
        self.are_pools_new = true;
    }

    /// Removes a pool.
    pub fn delete_pool(&mut self, name: &ObjectName) {
        self.admission.withdraw(name);
        self.refused.remove(name);
        self.are_pools_new = true;
    }

    /// Adds or changes the labels of a namespace.
    pub fn apply_namespace(&mut self, name: String, labels: Labels) {
        if self.namespaces.get(&name) != Some(&labels) {
            self.touch_namespace(&name);
            self.namespaces.insert(name, labels);
        }
    }

    /// Removes a namespace.
    pub fn delete_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.touch_namespace(name);
        }
    }

    /// Decides about all affected Services.
    pub fn settle(&mut self) {
        if mem::take(&mut self.are_pools_new) {
            self.settle_pools();
        }
        loop {
            while let Some((_, name)) = self.touched.pop_first() {
                self.decide(&name);
            }
            if !mem::take(&mut self.is_freed) {
                return;
            }
            for (_, name) in self.waiting.clone() {
                self.decide(&name);
            }
        }
    }

    /// The Services that changed, or whose outcome did, since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<ObjectName> {
        mem::take(&mut self.changed)
    }

    /// A Service and its outcome.
    pub fn service(&self, name: &ObjectName) -> Option<(&Service, &Outcome)> {
        let entry = self.services.get(name)?;
        Some((&entry.service, &entry.outcome))
    }

    /// All Services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|entry| &entry.service)
    }

    /// The names of all Services.
    pub fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.services.keys()
    }

    /// How much of each pool in force is in use.
    pub fn usage(&self) -> impl Iterator<Item = (&ObjectName, Usage)> {
        let pools = self.pools.iter();
        pools.map(|pool| (pool.name(), pools::usage(pool, &self.holdings.used)))
    }

    /// Whether the newest version of some pool is not in force.
    pub fn is_stale(&self) -> bool {
        !self.conflicts.is_empty() || !self.refused.is_empty()
    }

    /// Why the newest versions of some pools are not in force.
    pub fn refused(&self) -> impl Iterator<Item = String> {
        let conflicts = self.conflicts.values().map(ToString::to_string);
        self.refused.values().cloned().chain(conflicts)
    }

    fn decide(&mut self, name: &ObjectName) {
        let Some(entry) = self.services.get(name).filter(|it| it.service.is_ours) else {
            return;
        };
        let outcome = if self.has_had_pools || entry.service.shown.is_empty() {
            self.judge(entry)
        } else {
            Outcome::unchanged(&entry.service)
        };
        let rank = entry.rank();
        if outcome.missing.is_some() {
            self.waiting.insert(rank);
        } else {
            self.waiting.remove(&rank);
        }
        if outcome != entry.outcome {
            let entry = self.services.get_mut(name).expect("it is there");
            let is_less = self.holdings.change(entry, |it| it.outcome = outcome);
            self.is_freed |= is_less;
            self.changed.insert(name.clone());
        }
        self.touch_losers(name);
    }

    fn judge(&self, entry: &Entry) -> Outcome {
        let no_labels = Labels::new();
        let namespace = self.namespaces.get(&entry.service.name.namespace);
        let judge = Judge {
            pools: &self.pools,
            is_doubtful: self.is_stale(),
            used: &self.holdings.used,
            keyed: &self.holdings.keyed,
            services: &self.services,
            namespace: namespace.unwrap_or(&no_labels),
            entry,
        };
        judge.outcome()
    }

    /// Marks Services that share an address with this one and may not keep it.
    fn touch_losers(&mut self, name: &ObjectName) {
        let entry = &self.services[name];
        let rank = entry.rank();
        for &address in &entry.outcome.addresses {
            for holder in self.holdings.used.holders(address).filter(|it| *it != name) {
                let other = &self.services[holder];
                if other.outcome.addresses.contains(&address)
                    && other.rank() > rank
                    && may_share(&entry.service, &other.service).is_err()
                {
                    self.touched.insert(other.rank());
                }
            }
        }
    }

    fn insert(&mut self, mut entry: Entry) {
        self.touched.insert(entry.rank());
        self.holdings.hold(&mut entry);
        self.touch_holders(&entry);
        self.services.insert(entry.service.name.clone(), entry);
    }

    fn remove(&mut self, name: &ObjectName) -> Option<Entry> {
        let entry = self.services.remove(name)?;
        self.waiting.remove(&entry.rank());
        self.touched.remove(&entry.rank());
        self.is_freed |= !entry.held.is_empty();
        self.holdings.release(&entry);
        self.touch_holders(&entry);
        Some(entry)
    }

    fn touch_holders(&mut self, entry: &Entry) {
        for &address in &entry.held {
            for holder in self.holdings.used.holders(address) {
                if let Some(other) = self.services.get(holder) {
                    self.touched.insert(other.rank());
                }
            }
        }
    }

    fn touch_namespace(&mut self, namespace: &str) {
        let first = ObjectName::new(namespace, "");
        let of_namespace = self.services.range(first..);
        for (_, entry) in of_namespace.take_while(|(name, _)| name.namespace == namespace) {
            self.touched.insert(entry.rank());
        }
    }

    fn settle_pools(&mut self) {
        self.conflicts = self.admission.settle();
        self.pools = Pools::new(self.admission.in_force().map(|(_, pool)| pool));
        self.has_had_pools |= !self.pools.is_empty();
        self.is_freed = true;
        self.touched.extend(self.services.values().map(Entry::rank));
    }
}

/// Which Services hold which addresses.
#[derive(Clone, Debug, Default)]
struct Holdings {
    used: Used,
    keyed: Keyed,
}

impl Holdings {
    /// Records all addresses that the Service has, may get from pending writes, or has been
    /// assigned.
    fn hold(&mut self, entry: &mut Entry) {
        let Entry {
            service,
            pending,
            outcome,
            held,
        } = entry;
        let all = service.shown.iter().chain(pending.iter().flatten());
        *held = all.chain(&outcome.addresses).copied().collect();
        for &address in &*held {
            self.used.hold(address, &service.name);
            if !service.sharing.key.is_empty() {
                let key = self.keyed.entry(service.sharing.key.clone()).or_default();
                *key.entry(address).or_default() += 1;
            }
        }
    }

    fn release(&mut self, entry: &Entry) {
        let Entry { service, held, .. } = entry;
        for &address in held {
            self.used.release(address, &service.name);
            let key = self.keyed.get_mut(&service.sharing.key);
            if let Some(key) = key
                && let Some(count) = key.get_mut(&address)
            {
                *count -= 1;
                if *count == 0 {
                    key.remove(&address);
                }
                if key.is_empty() {
                    self.keyed.remove(&service.sharing.key);
                }
            }
        }
    }

    /// Changes a Service, and updates the addresses it holds. Returns whether it gives one up.
    fn change(&mut self, entry: &mut Entry, change: impl FnOnce(&mut Entry)) -> bool {
        self.release(entry);
        change(entry);
        let before = mem::take(&mut entry.held);
        self.hold(entry);
        !before.is_subset(&entry.held)
    }
}

#[cfg(test)]
#[path = "allocator_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "model_tests.rs"]
mod model;
