//! The API server: its state, and how it handles each request.

use std::collections::BTreeMap;

use super::{
    super::{Change, Input, Lease, PoolWrite, StatusWrite, Term},
    world::Sabotage,
};
use crate::{
    allocate::{Service, Usage, judge::may_share},
    intent::{ObjectName, Pool},
};

pub(super) struct Server {
    pub(super) sabotage: Sabotage,
    clock: u64,
    pub(super) lease: Option<Lease>,
    pub(super) services: BTreeMap<ObjectName, Service>,
    pub(super) pools: BTreeMap<ObjectName, (Pool, Option<Usage>)>,
    /// The log of changes to Services and pools: a watch is a position in it.
    log: Vec<Change>,
}

impl Server {
    pub(super) const fn new(sabotage: Sabotage) -> Self {
        Self {
            sabotage,
            clock: 0,
            lease: None,
            services: BTreeMap::new(),
            pools: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// What follows this position in the log.
    pub(super) fn after(&self, at: usize) -> Option<&Change> {
        self.log.get(at)
    }

    pub(super) fn apply(&mut self, service: Service) {
        self.log.push(Change::Service(Box::new(service.clone())));
        self.services.insert(service.name.clone(), service);
    }

    pub(super) fn delete(&mut self, name: &ObjectName) {
        self.services.remove(name);
        self.log.push(Change::ServiceGone(name.clone()));
    }

    pub(super) fn apply_pool(&mut self, pool: Pool) {
        let name = pool.name().clone();
        let shown = self.pools.get(&name).and_then(|(_, shown)| *shown);
        self.log.push(Change::Pool(pool.clone(), shown));
        self.pools.insert(name, (pool, shown));
    }

    /// The version of the next change.
    pub(super) fn tick(&mut self) -> String {
        self.clock += 1;
        self.clock.to_string()
    }

    pub(super) fn swap(&mut self, mut lease: Lease) -> Input {
        let version = self.lease.as_ref().and_then(|it| it.version.clone());
        if version != lease.version && self.sabotage != Sabotage::LeaseIgnoresVersion {
            return Input::NotSwapped;
        }
        if self.sabotage == Sabotage::LeaseForgetsEntries {
            lease.pending.clear();
        }
        let version = self.tick();
        lease.version = Some(version.clone());
        self.lease = Some(lease);
        Input::Swapped(version)
    }

    pub(super) fn write(&mut self, write: StatusWrite) -> Result<Input, String> {
        let StatusWrite {
            term,
            id,
            pending,
            pool,
        } = write;
        let over = Input::Wrote(term, id, true);
        let version = self.tick();
        let Some(service) = self.services.get_mut(&pending.name) else {
            return Ok(over);
        };
        let is_same =
            service.version == pending.version || self.sabotage == Sabotage::StatusIgnoresVersion;
        if service.uid != pending.uid || !is_same {
            return Ok(over);
        }
        if (&service.shown, &service.shown_pool) == (&pending.addresses, &pool) {
            return Ok(over);
        }
        service.version = version;
        service.shown = pending.addresses;
        service.shown_pool = pool;
        self.log.push(Change::Service(Box::new(service.clone())));
        self.check()?;
        Ok(over)
    }

    pub(super) fn write_pool(&mut self, write: PoolWrite) -> Input {
        let PoolWrite { term, name, usage } = write;
        let Some((pool, shown)) = self.pools.get_mut(&name) else {
            return Input::WrotePool(term, name, false);
        };
        if *shown != Some(usage) {
            *shown = Some(usage);
            self.log.push(Change::Pool(pool.clone(), *shown));
        }
        Input::WrotePool(term, name, true)
    }

    /// The end of the log.
    pub(super) const fn now(&self) -> usize {
        self.log.len()
    }

    /// All objects as of a position in the log.
    pub(super) fn list(&self, term: Term, at: usize) -> Vec<Input> {
        let mut objects = BTreeMap::new();
        for change in &self.log[..at] {
            let (is_there, key) = match change {
                Change::Service(it) => (true, (0, it.name.clone())),
                Change::ServiceGone(name) => (false, (0, name.clone())),
                Change::Pool(it, _) => (true, (1, it.name().clone())),
                _ => unreachable!("there are no others"),
            };
            if is_there {
                objects.insert(key, change.clone());
            } else {
                objects.remove(&key);
            }
        }
        let objects = objects.into_values();
        objects.map(|it| Input::Changed(term, it)).collect()
    }

    /// The invariant.
    pub(super) fn check(&self) -> Result<(), String> {
        for (index, one) in self.services.values().enumerate() {
            for other in self.services.values().skip(index + 1) {
                let both = one.shown.iter().find(|it| other.shown.contains(it));
                if let Some(address) = both
                    && may_share(one, other).is_err()
                {
                    return Err(format!(
                        "{} and {} have both {address}",
                        one.name, other.name
                    ));
                }
            }
        }
        Ok(())
    }
}
