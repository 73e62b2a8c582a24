//! The links of the node, by interface index.

use std::{collections::BTreeMap, iter::successors, net::IpAddr};

use crate::link::{Kind, Link, LinkChange};

/// All current links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links(BTreeMap<u32, Link>);

impl Links {
    /// Applies a change. Returns whether anything is different.
    pub fn apply(&mut self, change: LinkChange) -> bool {
        match change {
            LinkChange::Set(link) => {
                let index = link.index;
                let before = self.0.insert(index, link);
                before.as_ref() != self.0.get(&index)
            }
            LinkChange::Gone(index) => self.0.remove(&index).is_some(),
            LinkChange::Missed => false,
        }
    }

    /// The link of this index.
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.0.get(&index)
    }

    /// The link of this name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.iter().find(|link| link.name == name)
    }

    /// The links below a VLAN or macvlan, the nearest first.
    pub fn below(&self, index: u32) -> impl Iterator<Item = &Link> {
        let parent = |link: &Link| match link.kind {
            Kind::Vlan { parent, .. } | Kind::Macvlan { parent } => self.get(parent),
            _ => None,
        };
        // The kernel has no cycles, but its reports may be from different times.
        successors(self.get(index), move |link| parent(link))
            .skip(1)
            .take(self.0.len())
    }

    /// The links by index.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.values()
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Self {
        Self(links.into_iter().map(|link| (link.index, link)).collect())
    }
}

impl Link {
    /// Whether the link has an address whose subnet contains this one.
    pub fn has_subnet_of(&self, address: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|&(own, prefix)| same_subnet(own, address, prefix))
    }
}

/// Whether two addresses have the same prefix of this length.
pub(crate) fn same_subnet(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let (a, b, bits) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let differing: u128 = a ^ b;
    let host_bits = bits - u32::from(prefix).min(bits);
    // A shift by the full width would overflow.
    differing.checked_shr(host_bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        let check = |a: &str, b: &str, prefix, expect| {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(same_subnet(a, b, prefix), expect, "{a}/{prefix} and {b}");
        };
        check("10.0.0.1", "10.0.0.254", 24, true);
        check("10.0.0.1", "10.0.1.1", 24, false);
        check("10.0.0.1", "10.0.0.2", 32, false);
        check("10.0.0.1", "192.0.2.1", 0, true);
        check("fd00::1", "fd00::ffff:1", 64, true);
        check("fd00::1", "fd00:0:0:1::1", 64, false);
        check("fd00::1", "2001:db8::1", 0, true);
        check("fd00::1", "10.0.0.1", 0, false);
    }
}
