//! Which addresses are in use, and by which Services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::intent::{AddressRange, ObjectName};

/// The addresses in use. Free ones are never enumerated: finding the lowest free address of a range
/// takes as long in a /64 as in a /32.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    holders: BTreeMap<IpAddr, BTreeSet<ObjectName>>,
    /// The maximal runs of addresses in use: the last address by the first.
    runs: BTreeMap<IpAddr, IpAddr>,
}

impl Used {
    pub(super) fn hold(&mut self, address: IpAddr, by: &ObjectName) {
        let holders = self.holders.entry(address).or_default();
        if !holders.insert(by.clone()) || holders.len() > 1 {
            return;
        }
        let mut last = address;
        if let Some(following) = next(address).and_then(|it| self.runs.remove(&it)) {
            last = following;
        }
        let before = self.runs.range_mut(..address).next_back();
        match before.filter(|(_, end)| next(**end) == Some(address)) {
            Some((_, end)) => *end = last,
            None => {
                self.runs.insert(address, last);
            }
        }
    }

    pub(super) fn release(&mut self, address: IpAddr, by: &ObjectName) {
        let Some(holders) = self.holders.get_mut(&address) else {
            return;
        };
        if !holders.remove(by) || !holders.is_empty() {
            return;
        }
        self.holders.remove(&address);
        let (&first, &last) = self
            .runs
            .range(..=address)
            .next_back()
            .expect("an address in use is in a run");
        self.runs.remove(&first);
        if first < address {
            self.runs
                .insert(first, previous(address).expect("it is not the first"));
        }
        if address < last {
            self.runs
                .insert(next(address).expect("it is not the last"), last);
        }
    }

    /// The Services that have the address.
    pub(super) fn holders(&self, address: IpAddr) -> impl Iterator<Item = &ObjectName> {
        self.holders.get(&address).into_iter().flatten()
    }

    /// The lowest address of the range that is neither in use nor avoided.
    pub(super) fn lowest_free(
        &self,
        range: AddressRange,
        is_avoided: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let mut at = range.first();
        while at <= range.last() {
            let run = self.runs.range(..=at).next_back();
            if let Some((_, &last)) = run.filter(|&(_, &last)| at <= last) {
                at = next(last)?;
            } else if is_avoided(at) {
                at = next(at)?;
            } else {
                return Some(at);
            }
        }
        None
    }

    /// How many addresses of the range are in use.
    pub(super) fn count(&self, range: AddressRange) -> u64 {
        self.holders.range(range.first()..=range.last()).count() as u64
    }
}

/// The next address of the family.
fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(it) => Ipv4Addr::from_bits(it.to_bits().checked_add(1)?).into(),
        IpAddr::V6(it) => Ipv6Addr::from_bits(it.to_bits().checked_add(1)?).into(),
    })
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(it) => Ipv4Addr::from_bits(it.to_bits().checked_sub(1)?).into(),
        IpAddr::V6(it) => Ipv6Addr::from_bits(it.to_bits().checked_sub(1)?).into(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn address(n: u8) -> IpAddr {
        // The end of the family is within reach.
        IpAddr::from([255, 255, 255, 224 + n])
    }

    proptest! {
        /// Compares with a plain set.
        #[test]
        fn the_lowest_free_address_is_not_in_use(
            steps in vec((0..32_u8, 0..3_u8, any::<bool>()), 0..80),
            (first, length) in (0..32_u8, 0..32_u8),
        ) {
            let mut used = Used::default();
            let mut naive = BTreeSet::new();
            for (n, by, is_held) in steps {
                let name = ObjectName::new("ns", by.to_string());
                if is_held {
                    used.hold(address(n), &name);
                    naive.insert((n, by));
                } else {
                    used.release(address(n), &name);
                    naive.remove(&(n, by));
                }
            }
            let last = (first + length).min(31);
            let range: AddressRange =
                format!("{}-{}", address(first), address(last)).parse().unwrap();
            let is_avoided = |it: IpAddr| it == address(5) || it == address(31);
            let is_used = |n: u8| naive.iter().any(|&(used, _)| used == n);
            let expected = (first..=last).map(|n| (n, address(n)))
                .find(|&(n, it)| !is_used(n) && !is_avoided(it));
            prop_assert_eq!(used.lowest_free(range, is_avoided), expected.map(|(_, it)| it));
            let count = (first..=last).filter(|&n| is_used(n)).count();
            prop_assert_eq!(used.count(range), count as u64);
        }
    }

    #[test]
    fn families_do_not_overlap() {
        let mut used = Used::default();
        let by = ObjectName::new("ns", "a");
        used.hold("255.255.255.255".parse().unwrap(), &by);
        used.hold("::".parse().unwrap(), &by);
        let lowest = |range: &str| used.lowest_free(range.parse().unwrap(), |_| false);
        assert_eq!(lowest("255.255.255.255/32"), None);
        assert_eq!(lowest("::/0"), Some("::1".parse().unwrap()));
    }
}
