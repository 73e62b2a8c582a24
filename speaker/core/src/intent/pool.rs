//! Pools of addresses.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{AddressRange, Labels, ObjectName, Selector};

/// An `IPAddressPool`. Its ranges are disjoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    name: ObjectName,
    labels: Labels,
    addresses: Vec<AddressRange>,
    allocation: Allocation,
    created: i64,
}

/// Which of a pool's addresses are assigned to which Services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Whether Services that do not request the pool may get addresses from it.
    pub auto_assign: bool,
    /// Whether IPv4 addresses that end in .0 or .255 are skipped.
    pub avoid_buggy: bool,
    /// The Services that the pool is for; `None`: all.
    pub rule: Option<AllocationRule>,
}

/// `serviceAllocation`: the Services that a pool is for, before pools that are for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationRule {
    /// Pools of lower priority are used first, and those of priority 0 last.
    pub priority: i64,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by labels, in addition. If none is named or selected, all are.
    pub namespace_selectors: Vec<Selector>,
    /// Services by labels, any of these; all Services if empty.
    pub service_selectors: Vec<Selector>,
}

impl Default for Allocation {
    fn default() -> Self {
        Self {
            auto_assign: true,
            avoid_buggy: false,
            rule: None,
        }
    }
}

impl AllocationRule {
    /// Whether the pool is for a Service with these labels, in the namespace of this name and
    /// these labels.
    pub fn admits(&self, namespace: &str, of_namespace: &Labels, of_service: &Labels) -> bool {
        let any = |selectors: &[Selector], labels| selectors.iter().any(|it| it.matches(labels));
        let is_any_namespace = self.namespaces.is_empty() && self.namespace_selectors.is_empty();
        (is_any_namespace
            || self.namespaces.contains(namespace)
            || any(&self.namespace_selectors, of_namespace))
            && (self.service_selectors.is_empty() || any(&self.service_selectors, of_service))
    }

    /// The rank among the pools with a rule: the lowest is used first.
    pub const fn rank(&self) -> (bool, i64) {
        (self.priority == 0, self.priority)
    }
}

/// Why ranges do not form a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It holds nothing.
    #[error(
        "the pool has no addresses: list CIDR prefixes such as 10.0.0.0/24 or start-end ranges"
    )]
    Empty,
    /// Two ranges of the pool have an address in common.
    #[error("{range} overlaps {with}, which the pool also lists: remove one")]
    Overlap {
        /// The index of the later one.
        index: usize,
        /// The later one.
        range: AddressRange,
        /// The earlier one.
        with: AddressRange,
    },
}

impl Pool {
    /// The pool that holds these addresses, for all Services.
    pub fn new(
        name: ObjectName,
        labels: Labels,
        addresses: Vec<AddressRange>,
    ) -> Result<Self, PoolError> {
        if addresses.is_empty() {
            return Err(PoolError::Empty);
        }
        for (index, &range) in addresses.iter().enumerate() {
            if let Some(&with) = addresses[..index].iter().find(|it| it.overlaps(&range)) {
                return Err(PoolError::Overlap { index, range, with });
            }
        }
        Ok(Self {
            name,
            labels,
            addresses,
            allocation: Allocation::default(),
            created: 0,
        })
    }

    /// The same pool, assigned to Services in this way.
    #[must_use]
    pub fn with_allocation(self, allocation: Allocation) -> Self {
        Self { allocation, ..self }
    }

    /// The same pool, created at this Unix time in seconds.
    #[must_use]
    pub const fn with_created(mut self, created: i64) -> Self {
        self.created = created;
        self
    }

    /// Its name.
    pub const fn name(&self) -> &ObjectName {
        &self.name
    }

    /// Its labels, for the `ipAddressPoolSelectors` of advertisements.
    pub const fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Its ranges, in listed order.
    pub fn addresses(&self) -> &[AddressRange] {
        &self.addresses
    }

    /// How its addresses are assigned to Services.
    pub const fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// When it was created, as Unix time in seconds; 0 if unknown.
    pub const fn created(&self) -> i64 {
        self.created
    }

    /// Whether it does not assign this address although it contains it.
    pub const fn avoids(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                self.allocation.avoid_buggy && matches!(address.octets()[3], 0 | 255)
            }
            IpAddr::V6(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &str, expect: Result<usize, &str>) {
        let addresses = addresses
            .split_terminator(',')
            .map(|it| it.parse().unwrap());
        let pool = Pool::new(
            ObjectName::new("ns", "p"),
            Labels::new(),
            addresses.collect(),
        );
        let found = pool.map(|pool| pool.addresses().len());
        assert_eq!(
            found.map_err(|error| error.to_string()),
            expect.map_err(str::to_owned)
        );
    }

    #[test]
    fn the_ranges_of_a_pool_are_disjoint() {
        check("10.0.0.0/24,10.0.1.0-10.0.1.9,10.0.1.10/32,::/0", Ok(4));
        check(
            "10.0.0.0/24,10.0.1.0/24,10.0.0.255-10.0.0.255",
            Err("10.0.0.255/32 overlaps 10.0.0.0/24, which the pool also lists: remove one"),
        );
        check(
            "",
            Err(
                "the pool has no addresses: list CIDR prefixes such as 10.0.0.0/24 or start-end ranges",
            ),
        );
    }
}
