//! The links as of the last message, and what each message changes in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use speaker_core::link::{Link, LinkChange};

/// An address and the length of its prefix.
type Address = (IpAddr, u8);

/// All links. Every method returns what it changed, if anything.
#[derive(Default)]
pub(super) struct Table {
    links: BTreeMap<u32, Link>,
    /// By link, including links that are not in the table yet.
    addresses: BTreeMap<u32, BTreeSet<Address>>,
}

/// Everything: a dump of the links and one of the addresses.
#[derive(Default)]
pub(super) struct Dump {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<(u32, Address)>,
}

impl Table {
    /// The links as they are now.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Sets a link, except for its addresses.
    pub(super) fn set(&mut self, mut link: Link) -> Option<LinkChange> {
        link.addresses = self.addresses.get(&link.index).cloned().unwrap_or_default();
        if self.links.get(&link.index) == Some(&link) {
            return None;
        }
        self.links.insert(link.index, link.clone());
        Some(LinkChange::Set(link))
    }

    /// Removes a link and its addresses.
    pub(super) fn remove(&mut self, index: u32) -> Option<LinkChange> {
        self.addresses.remove(&index);
        self.links.remove(&index).map(|_| LinkChange::Gone(index))
    }

    pub(super) fn add_address(&mut self, index: u32, address: Address) -> Option<LinkChange> {
        self.addresses.entry(index).or_default().insert(address);
        self.refresh(index)
    }

    /// Removes an address. If it is not in the table, it existed all the same, and is first
    /// reported as added: the kernel reports a tentative address (RFC 4862 §5.4) only when it goes.
    pub(super) fn remove_address(&mut self, index: u32, address: Address) -> Vec<LinkChange> {
        let added = self.add_address(index, address);
        self.addresses.entry(index).or_default().remove(&address);
        added.into_iter().chain(self.refresh(index)).collect()
    }

    /// Replaces everything, after messages were lost.
    pub(super) fn replace(&mut self, dump: Dump) -> Vec<LinkChange> {
        self.addresses.clear();
        for (index, address) in dump.addresses {
            self.addresses.entry(index).or_default().insert(address);
        }
        let present: BTreeSet<u32> = dump.links.iter().map(|link| link.index).collect();
        let gone: Vec<u32> = self
            .links
            .keys()
            .filter(|index| !present.contains(index))
            .copied()
            .collect();
        self.links.retain(|index, _| present.contains(index));
        gone.into_iter()
            .map(LinkChange::Gone)
            .chain(dump.links.into_iter().filter_map(|link| self.set(link)))
            .collect()
    }

    fn refresh(&mut self, index: u32) -> Option<LinkChange> {
        let link = self.links.get(&index)?.clone();
        self.set(link)
    }
}

#[cfg(test)]
mod tests {
    use speaker_core::link::Kind;

    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: [2, 0, 0, 0, 0, index as u8],
            admin_up: true,
            carrier: true,
            mtu: 1500,
            kind: Kind::Plain,
            master: None,
            stands_by: false,
            addresses: BTreeSet::new(),
            strips_vlan_tags: false,
            xdp: None,
        }
    }

    fn address(last: u8) -> Address {
        (IpAddr::from([192, 0, 2, last]), 24)
    }

    fn with(mut link: Link, addresses: &[Address]) -> LinkChange {
        link.addresses = addresses.iter().copied().collect();
        LinkChange::Set(link)
    }

    #[test]
    fn a_message_that_changes_nothing_is_silent() {
        let mut table = Table::default();
        assert_eq!(
            table.set(link(1, "eth0")),
            Some(LinkChange::Set(link(1, "eth0")))
        );
        assert_eq!(table.set(link(1, "eth0")), None);
        assert_eq!(table.remove(2), None);
    }

    #[test]
    fn an_unknown_address_is_added_before_it_is_removed() {
        let mut table = Table::default();
        table.set(link(1, "eth0"));
        let there_and_gone = [
            with(link(1, "eth0"), &[address(1)]),
            with(link(1, "eth0"), &[]),
        ];
        assert_eq!(table.remove_address(1, address(1)), there_and_gone);
        table.add_address(1, address(1));
        assert_eq!(table.remove_address(1, address(1)), there_and_gone[1..]);
    }

    #[test]
    fn an_address_may_arrive_before_its_link() {
        let mut table = Table::default();
        assert_eq!(table.add_address(1, address(1)), None);
        assert_eq!(
            table.set(link(1, "eth0")),
            Some(with(link(1, "eth0"), &[address(1)]))
        );
    }

    #[test]
    fn a_message_about_a_link_keeps_its_addresses() {
        let mut table = Table::default();
        table.set(link(1, "eth0"));
        assert_eq!(
            table.add_address(1, address(1)),
            Some(with(link(1, "eth0"), &[address(1)]))
        );
        assert_eq!(
            table.set(link(1, "lan0")),
            Some(with(link(1, "lan0"), &[address(1)]))
        );
    }

    #[test]
    fn a_link_with_a_reused_index_gets_no_old_addresses() {
        let mut table = Table::default();
        table.set(link(1, "eth0"));
        table.add_address(1, address(1));
        assert_eq!(table.remove(1), Some(LinkChange::Gone(1)));
        assert_eq!(
            table.set(link(1, "eth1")),
            Some(LinkChange::Set(link(1, "eth1")))
        );
    }

    #[test]
    fn a_dump_after_lost_messages_reports_only_differences() {
        let mut table = Table::default();
        table.set(link(1, "eth0"));
        table.set(link(2, "eth1"));
        table.set(link(3, "eth2"));
        table.add_address(3, address(3));
        let changes = table.replace(Dump {
            links: vec![link(1, "eth0"), link(3, "eth2"), link(4, "eth3")],
            addresses: vec![(4, address(4))],
        });
        assert_eq!(
            changes,
            [
                LinkChange::Gone(2),
                with(link(3, "eth2"), &[]),
                with(link(4, "eth3"), &[address(4)]),
            ]
        );
    }
}
