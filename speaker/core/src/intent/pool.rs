//! Pools of addresses.

use serde::{Deserialize, Serialize};

use super::{AddressRange, Labels, ObjectName};

/// An `IPAddressPool`, as far as announcing its addresses is concerned. Its ranges are disjoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    name: ObjectName,
    labels: Labels,
    addresses: Vec<AddressRange>,
}

/// Why these ranges are no pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It holds nothing.
    #[error(
        "the pool has no addresses: list CIDR prefixes such as 10.0.0.0/24 or start-end ranges"
    )]
    Empty,
    /// Two ranges of the pool have an address in common.
    #[error("{range} overlaps {with}, which the pool lists as well: remove one")]
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
    /// The pool that holds these addresses.
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
        })
    }

    /// Its name.
    pub const fn name(&self) -> &ObjectName {
        &self.name
    }

    /// Its labels, for the `ipAddressPoolSelectors` of advertisements.
    pub const fn labels(&self) -> &Labels {
        &self.labels
    }

    /// What it holds, in listed order.
    pub fn addresses(&self) -> &[AddressRange] {
        &self.addresses
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
            Err("10.0.0.255/32 overlaps 10.0.0.0/24, which the pool lists as well: remove one"),
        );
        check(
            "",
            Err(
                "the pool has no addresses: list CIDR prefixes such as 10.0.0.0/24 or start-end ranges",
            ),
        );
    }
}
