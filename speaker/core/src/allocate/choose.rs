//! Chooses addresses for a Service that has none.

use std::net::IpAddr;

use super::{
    Failure, Family, FamilyPolicy,
    failure::FamilyWanted,
    judge::{Fit, Judge},
};
use crate::intent::Pool;

impl Judge<'_> {
    pub(super) fn choose(&self) -> Result<Fit, Failure> {
        let service = &self.entry.service;
        let requested = service.requested.as_ref();
        let requested = requested.map_err(|why| Failure::Unreadable(why.clone()))?;
        let (first, second) = match service.families.as_slice() {
            [] => return Err(Failure::NoFamily),
            &[first] => (first, None),
            &[first, second, ..] => (first, Some(second)),
        };
        if !requested.is_empty() {
            return self.take(requested);
        }
        if service.policy == FamilyPolicy::RequireDualStack && second.is_none() {
            return Err(Failure::OneFamily);
        }
        let pools = self.pools.candidates(service, self.namespace)?;
        let second = second.filter(|_| service.policy != FamilyPolicy::SingleStack);
        let Some(second) = second else {
            return self
                .first_with(&pools, first)
                .ok_or_else(|| Self::exhausted(first, &pools));
        };
        let both = pools.iter().find_map(|pool| {
            let addresses = vec![self.find(pool, first)?, self.find(pool, second)?];
            Some(Self::of_pool(pool, addresses, None))
        });
        if let Some(both) = both {
            return Ok(both);
        }
        if service.policy == FamilyPolicy::PreferDualStack {
            for (family, missing) in [(first, second), (second, first)] {
                if let Some(fit) = self.first_with(&pools, family) {
                    let missing = Some(Self::exhausted(missing, &pools));
                    return Ok(Fit { missing, ..fit });
                }
            }
        }
        Err(Failure::Exhausted {
            family: match service.policy {
                FamilyPolicy::PreferDualStack => FamilyWanted::Any,
                _ => FamilyWanted::Both,
            },
            pools: pools.iter().map(|it| it.name().clone()).collect(),
        })
    }

    /// The addresses that the Service asks for.
    fn take(&self, requested: &[IpAddr]) -> Result<Fit, Failure> {
        self.check_families(requested)?;
        self.check_count(requested)?;
        let pool = self.check_pool(requested)?;
        for &address in requested {
            self.check_free(address)?;
        }
        Ok(Self::of_pool(pool, requested.to_vec(), None))
    }

    fn first_with(&self, pools: &[&Pool], family: Family) -> Option<Fit> {
        pools.iter().find_map(|pool| {
            let address = self.find(pool, family)?;
            Some(Self::of_pool(pool, vec![address], None))
        })
    }

    /// The lowest address of the pool, in the order of its ranges, that the Service may have; an
    /// address already being assigned to it comes first.
    pub(super) fn find(&self, pool: &Pool, family: Family) -> Option<IpAddr> {
        let may_have = |address: &IpAddr| {
            Family::of(*address) == family
                && !pool.avoids(*address)
                && self.check_free(*address).is_ok()
        };
        let is_in_pool = |address: &&IpAddr| {
            let holding = self.pools.holding(**address);
            holding.is_some_and(|it| it.name() == pool.name())
        };
        let mut own = self.entry.held.iter().filter(is_in_pool);
        if let Some(&own) = own.find(|it| may_have(it)) {
            return Some(own);
        }
        let keyed = self.keyed.get(&self.entry.service.sharing.key);
        let ranges = pool.addresses().iter();
        let mut of_family = ranges.filter(|it| Family::of(it.first()) == family);
        of_family.find_map(|range| {
            let free = self.used.lowest_free(*range, |it| pool.avoids(it));
            let shared = keyed.and_then(|addresses| {
                let within = addresses.range(range.first()..=range.last());
                within.map(|(it, _)| *it).find(may_have)
            });
            match (free, shared) {
                (Some(free), Some(shared)) => Some(free.min(shared)),
                (free, shared) => free.or(shared),
            }
        })
    }

    pub(super) fn exhausted(family: Family, pools: &[&Pool]) -> Failure {
        Failure::Exhausted {
            family: FamilyWanted::One(family),
            pools: pools.iter().map(|it| it.name().clone()).collect(),
        }
    }

    fn of_pool(pool: &Pool, addresses: Vec<IpAddr>, missing: Option<Failure>) -> Fit {
        Fit {
            addresses,
            pool: Some(pool.name().name.clone()),
            missing,
        }
    }
}
