//! Whether a Service may get an address, and may keep it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    Failure, Family, FamilyPolicy, Outcome, Service, Taken,
    allocator::Entry,
    pools::{Pools, admits},
    used::Used,
};
use crate::intent::{Labels, ObjectName, Pool};

/// Everything that determines the outcome of one Service.
pub(super) struct Judge<'a> {
    pub(super) pools: &'a Pools,
    /// Some pool is invalid and so not in force: an address without a pool may belong to it.
    pub(super) is_doubtful: bool,
    pub(super) used: &'a Used,
    pub(super) keyed: &'a Keyed,
    pub(super) services: &'a BTreeMap<ObjectName, Entry>,
    pub(super) namespace: &'a Labels,
    pub(super) entry: &'a Entry,
}

/// The addresses of Services with a sharing key, by that key.
pub(super) type Keyed = BTreeMap<String, BTreeMap<IpAddr, usize>>;

/// Addresses that a Service may have.
pub(super) struct Fit {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) pool: Option<String>,
    pub(super) missing: Option<Failure>,
}

impl<'a> Judge<'a> {
    /// The outcome of the Service.
    pub(super) fn outcome(&self) -> Outcome {
        let Entry {
            service,
            pending,
            outcome,
            ..
        } = self.entry;
        let mut lost = None;
        // The last decision comes first, so that changes do not lead to another one.
        let had = pending.iter().rev().chain([&service.shown]);
        for had in had.chain([&outcome.addresses]).filter(|it| !it.is_empty()) {
            let parts = had.iter().map(std::slice::from_ref);
            let parts = parts.take(if had.len() > 1 { had.len() } else { 0 });
            for part in [had.as_slice()].into_iter().chain(parts) {
                match self.keep(part) {
                    Ok(fit) => return self.settled(fit, lost),
                    Err(failure) => lost.get_or_insert(failure),
                };
            }
        }
        match self.choose() {
            Ok(fit) => self.settled(fit, lost),
            Err(missing) => Outcome {
                missing: Some(missing),
                lost: lost.filter(|_| !service.shown.is_empty()),
                ..Outcome::default()
            },
        }
    }

    fn settled(&self, fit: Fit, lost: Option<Failure>) -> Outcome {
        let shown = &self.entry.service.shown;
        let is_lost = shown.iter().any(|it| !fit.addresses.contains(it));
        Outcome {
            addresses: fit.addresses,
            pool: fit.pool,
            missing: fit.missing,
            lost: lost.filter(|_| is_lost),
        }
    }

    /// Keeps addresses that the Service has, and adds those that it lacks.
    fn keep(&self, addresses: &[IpAddr]) -> Result<Fit, Failure> {
        let service = &self.entry.service;
        let requested = match &service.requested {
            Ok(requested) => requested.as_slice(),
            // An unreadable request takes no address away.
            Err(_) => &[],
        };
        if !requested.is_empty() && !same_addresses(requested, addresses) {
            return Err(Failure::NotRequested {
                had: addresses.to_vec(),
                requested: requested.to_vec(),
            });
        }
        self.check_families(addresses)?;
        let pool = match self.check_pool(addresses) {
            Err(Failure::NoPool(_)) if self.is_doubtful => None,
            Err(_) if self.is_doubtful && self.is_pool_lacking() => None,
            checked => Some(checked?),
        };
        for &address in addresses {
            // An address that is not in the status yet can still be replaced by another.
            if service.shown.contains(&address) {
                self.check_contest(address)?;
            } else {
                self.check_free(address)?;
            }
        }
        let mut fit = Fit {
            addresses: addresses.to_vec(),
            pool: match pool {
                Some(pool) => Some(pool.name().name.clone()),
                None => service.shown_pool.clone(),
            },
            missing: match &service.requested {
                Ok(_) => None,
                Err(why) => Some(Failure::Unreadable(why.clone())),
            },
        };
        if let (Some(family), Some(pool)) = (self.other_family(&fit.addresses), pool)
            && requested.is_empty()
        {
            match self.find(pool, family) {
                Some(address) => fit.addresses.push(address),
                None => fit.missing = fit.missing.or(Some(Self::exhausted(family, &[pool]))),
            }
        }
        self.check_count(&fit.addresses)?;
        Ok(fit)
    }

    /// Whether the pool that the addresses came from is not in force, and the Service asks for no
    /// other.
    fn is_pool_lacking(&self) -> bool {
        let service = &self.entry.service;
        service.shown_pool.as_ref().is_some_and(|from| {
            !self.pools.contain(from) && service.pool.as_ref().is_none_or(|wanted| wanted == from)
        })
    }

    /// The family missing from these addresses of a dual-stack Service.
    fn other_family(&self, addresses: &[IpAddr]) -> Option<Family> {
        let service = &self.entry.service;
        let [address] = addresses else { return None };
        let is_dual = service.policy != FamilyPolicy::SingleStack && service.families.len() > 1;
        let other = service
            .families
            .iter()
            .find(|it| **it != Family::of(*address));
        other.copied().filter(|_| is_dual)
    }

    /// Whether the addresses have the families of the Service, if these are known.
    pub(super) fn check_families(&self, addresses: &[IpAddr]) -> Result<(), Failure> {
        let service = &self.entry.service;
        let families = match service.policy {
            FamilyPolicy::SingleStack => service.families.get(..1).unwrap_or_default(),
            FamilyPolicy::PreferDualStack | FamilyPolicy::RequireDualStack => &service.families,
        };
        if service.families.is_empty() {
            return Ok(());
        }
        if service.policy == FamilyPolicy::RequireDualStack && families.len() < 2 {
            return Err(Failure::OneFamily);
        }
        let mut seen = BTreeSet::new();
        for &address in addresses {
            let family = Family::of(address);
            if !families.contains(&family) {
                return Err(Failure::WrongFamily(address));
            }
            if !seen.insert(family) {
                return Err(Failure::WrongCount("one address of a family"));
            }
        }
        Ok(())
    }

    /// Whether there are as many addresses as the Service needs.
    pub(super) fn check_count(&self, addresses: &[IpAddr]) -> Result<(), Failure> {
        let needs_two = self.entry.service.policy == FamilyPolicy::RequireDualStack;
        if needs_two && addresses.len() < 2 {
            return Err(Failure::WrongCount("an address of each family"));
        }
        Ok(())
    }

    /// The pool that contains all of the addresses, if the Service may have them.
    pub(super) fn check_pool(&self, addresses: &[IpAddr]) -> Result<&'a Pool, Failure> {
        let service = &self.entry.service;
        let mut all: Option<(&Pool, IpAddr)> = None;
        for &address in addresses {
            let pool = self.pools.holding(address);
            let pool = pool.ok_or(Failure::NoPool(address))?;
            if let Some((first, of_first)) = all
                && first.name() != pool.name()
            {
                return Err(Failure::TwoPools(of_first, address));
            }
            if pool.avoids(address) {
                let pool = pool.name().clone();
                return Err(Failure::Avoided { address, pool });
            }
            all = Some((pool, address));
        }
        let (pool, address) = all.expect("there is an address");
        if let Some(wanted) = &service.pool
            && *wanted != pool.name().name
        {
            return Err(Failure::OtherPool {
                address,
                pool: pool.name().clone(),
                wanted: wanted.clone(),
            });
        }
        if !admits(pool, service, self.namespace) {
            return Err(Failure::NotForService(pool.name().clone()));
        }
        Ok(pool)
    }

    /// Whether the Service may share an address with all others that have it.
    pub(super) fn check_free(&self, address: IpAddr) -> Result<(), Failure> {
        for other in self.others(address) {
            self.check_sharing(address, other)?;
        }
        Ok(())
    }

    /// Whether the Service may keep an address. Among Services that may not share it, the oldest
    /// keeps it.
    fn check_contest(&self, address: IpAddr) -> Result<(), Failure> {
        let before_us = |it: &&Entry| {
            it.service.is_ours
                && it.outcome.addresses.contains(&address)
                && it.rank() < self.entry.rank()
        };
        for other in self.others(address).filter(before_us) {
            self.check_sharing(address, other)?;
        }
        Ok(())
    }

    fn others(&self, address: IpAddr) -> impl Iterator<Item = &'a Entry> {
        let us = &self.entry.service.name;
        let services = self.services;
        let holders = self.used.holders(address).filter(move |it| *it != us);
        holders.filter_map(|it| services.get(it))
    }

    fn check_sharing(&self, address: IpAddr, other: &Entry) -> Result<(), Failure> {
        may_share(&self.entry.service, &other.service).map_err(|why| Failure::InUse {
            address,
            by: other.service.name.clone(),
            why,
        })
    }
}

/// Whether two Services may have the same address.
pub(super) fn may_share(one: &Service, other: &Service) -> Result<(), Taken> {
    if !one.is_ours || !other.is_ours {
        return Err(Taken::Foreign);
    }
    let (one, other) = (&one.sharing, &other.sharing);
    if one.key.is_empty() || other.key.is_empty() {
        return Err(Taken::NoKey);
    }
    if one.key != other.key {
        return Err(Taken::OtherKey);
    }
    if one.backend != other.backend {
        return Err(Taken::OtherBackend);
    }
    match one.ports.intersection(&other.ports).next() {
        Some(port) => Err(Taken::Port(port.clone())),
        None => Ok(()),
    }
}

fn same_addresses(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.len() == other.len() && one.iter().all(|it| other.contains(it))
}
