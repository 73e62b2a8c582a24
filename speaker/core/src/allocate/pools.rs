//! The pools in force: which one contains an address, and the order in which they are tried.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{Failure, Service, used::Used};
use crate::intent::{AddressRange, Labels, Pool};

/// How much of a pool is in use. Counts saturate at the API's largest number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// IPv4 addresses that Services have.
    pub assigned_v4: i64,
    /// IPv6 addresses that Services have.
    pub assigned_v6: i64,
    /// IPv4 addresses that are free.
    pub available_v4: i64,
    /// IPv6 addresses that are free.
    pub available_v6: i64,
}

/// The pools in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools {
    /// In the order in which they are tried: those with a rule by priority, then those without,
    /// each by name.
    ordered: Vec<Arc<Pool>>,
    by_name: BTreeMap<String, Arc<Pool>>,
    /// Disjoint ranges by their first address.
    ranges: BTreeMap<IpAddr, (AddressRange, Arc<Pool>)>,
}

impl Pools {
    pub(super) fn new<'a>(pools: impl Iterator<Item = &'a Pool>) -> Self {
        let mut ordered: Vec<_> = pools.cloned().map(Arc::new).collect();
        ordered.sort_by_cached_key(|pool| {
            let rule = pool.allocation().rule.as_ref();
            (
                rule.is_none(),
                rule.map(|it| it.rank()),
                pool.name().clone(),
            )
        });
        let mut all = Self::default();
        for pool in &ordered {
            all.by_name
                .insert(pool.name().name.clone(), Arc::clone(pool));
            for &range in pool.addresses() {
                all.ranges.insert(range.first(), (range, Arc::clone(pool)));
            }
        }
        Self { ordered, ..all }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    /// Whether some version of the pool of this name is in force.
    pub(super) fn contain(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.ordered.iter().map(|it| &**it)
    }

    /// The pool that contains the address.
    pub(super) fn holding(&self, address: IpAddr) -> Option<&Pool> {
        let (_, (range, pool)) = self.ranges.range(..=address).next_back()?;
        (address <= range.last()).then_some(&**pool)
    }

    /// The pools from which the Service may get addresses, in the order in which they are tried.
    pub(super) fn candidates(
        &self,
        service: &Service,
        namespace: &Labels,
    ) -> Result<Vec<&Pool>, Failure> {
        if let Some(name) = &service.pool {
            let pool = self.by_name.get(name);
            let pool = pool.ok_or_else(|| Failure::UnknownPool(name.clone()))?;
            return if admits(pool, service, namespace) {
                Ok(vec![pool])
            } else {
                Err(Failure::NotForService(pool.name().clone()))
            };
        }
        if self.is_empty() {
            return Err(Failure::NoPools);
        }
        let of_service =
            |pool: &&Pool| pool.allocation().auto_assign && admits(pool, service, namespace);
        let candidates: Vec<_> = self.iter().filter(of_service).collect();
        if candidates.is_empty() {
            return Err(Failure::NoneForService);
        }
        Ok(candidates)
    }
}

/// Whether the pool is for the Service.
pub(super) fn admits(pool: &Pool, service: &Service, namespace: &Labels) -> bool {
    let rule = pool.allocation().rule.as_ref();
    rule.is_none_or(|it| it.admits(&service.name.namespace, namespace, &service.labels))
}

/// How much of the pool is in use.
pub(super) fn usage(pool: &Pool, used: &Used) -> Usage {
    let mut usage = Usage::default();
    for &range in pool.addresses() {
        let size = size(range, pool.allocation().avoid_buggy);
        let count = used.count(range);
        let available = i64::try_from(size.saturating_sub(count.into())).unwrap_or(i64::MAX);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let (assigned, free) = if range.first().is_ipv4() {
            (&mut usage.assigned_v4, &mut usage.available_v4)
        } else {
            (&mut usage.assigned_v6, &mut usage.available_v6)
        };
        *assigned = assigned.saturating_add(count);
        *free = free.saturating_add(available);
    }
    usage
}

/// How many addresses of a range can be assigned.
fn size(range: AddressRange, avoids_buggy: bool) -> u128 {
    match (range.first(), range.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (u64::from(first.to_bits()), u64::from(last.to_bits()));
            // How many addresses below this one end in .0 or .255.
            let buggy = |end: u64| end.div_ceil(256) + end / 256;
            let left_out = if avoids_buggy {
                buggy(last + 1) - buggy(first)
            } else {
                0
            };
            u128::from(last - first + 1 - left_out)
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            (last.to_bits() - first.to_bits()).saturating_add(1)
        }
        _ => unreachable!("the ends of a range are of one family"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(range: &str, avoids_buggy: bool, expect: u128) {
        let range: AddressRange = range.parse().unwrap();
        assert_eq!(size(range, avoids_buggy), expect);
        if let (IpAddr::V4(first), IpAddr::V4(last)) = (range.first(), range.last()) {
            let is_left_out = |it: u32| avoids_buggy && matches!(it & 0xff, 0 | 255);
            let each = (first.to_bits()..=last.to_bits()).filter(|&it| !is_left_out(it));
            assert_eq!(each.count() as u128, expect);
        }
    }

    #[test]
    fn avoided_addresses_are_not_available() {
        check("10.0.0.0/24", false, 256);
        check("10.0.0.0/24", true, 254);
        check("10.0.0.0/22", true, 1016);
        check("10.0.0.255-10.0.1.0", true, 0);
        check("10.0.0.1-10.0.0.254", true, 254);
        check("10.0.0.200-10.0.2.3", true, 55 + 254 + 3);
        check("fd00::/64", true, 1 << 64);
        check("::/0", false, u128::MAX);
    }
}
