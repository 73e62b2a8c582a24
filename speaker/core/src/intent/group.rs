//! Which VIPs belong together.

use std::{collections::BTreeMap, net::IpAddr};

/// VIPs that should have one owner: the addresses of one Service, those of Services that share one
/// of them, and so on. The smallest address identifies the group, so that all nodes agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub IpAddr);

/// A union-find over addresses.
#[derive(Default)]
pub(super) struct Groups {
    /// The parent of each address but the smallest of a group: a smaller one.
    parents: BTreeMap<IpAddr, IpAddr>,
}

impl Groups {
    /// Puts the addresses of one Service together.
    pub(super) fn join(&mut self, addresses: &[IpAddr]) {
        for pair in addresses.windows(2) {
            let (a, b) = (self.smallest(pair[0]), self.smallest(pair[1]));
            if a != b {
                self.parents.insert(a.max(b), a.min(b));
            }
        }
    }

    pub(super) fn group(&mut self, address: IpAddr) -> Group {
        Group(self.smallest(address))
    }

    fn smallest(&mut self, address: IpAddr) -> IpAddr {
        let mut smallest = address;
        while let Some(&parent) = self.parents.get(&smallest) {
            smallest = parent;
        }
        // Path compression.
        let mut at = address;
        while at != smallest {
            at = self.parents.insert(at, smallest).unwrap_or(smallest);
        }
        smallest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    proptest! {
        /// Compares with the definition: whatever a walk along shared Services reaches.
        #[test]
        fn shared_services_connect_vips_into_groups(
            services in vec(vec(0..30_u8, 1..4), 0..20),
        ) {
            let mut groups = Groups::default();
            for service in &services {
                let addresses: Vec<_> = service.iter().copied().map(address).collect();
                groups.join(&addresses);
            }
            for start in 0..30 {
                let mut reached = BTreeSet::from([start]);
                loop {
                    let before = reached.len();
                    for service in &services {
                        if service.iter().any(|n| reached.contains(n)) {
                            reached.extend(service);
                        }
                    }
                    if reached.len() == before {
                        break;
                    }
                }
                let smallest = *reached.first().unwrap();
                prop_assert_eq!(groups.group(address(start)), Group(address(smallest)));
            }
        }
    }
}
