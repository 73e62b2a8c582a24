//! The nodes that the configuration names, and their possible addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::io::LinkInfo;

/// Configured nodes. Each is at one of its addresses, or its name has not been resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    nodes: BTreeSet<BTreeSet<SocketAddr>>,
    /// The number of nodes whose names have not been resolved.
    unresolved: usize,
}

/// Known nodes by the address they send from, with their links.
pub(super) type Known<'a> = BTreeMap<SocketAddr, &'a [LinkInfo]>;

impl FromIterator<BTreeSet<SocketAddr>> for Configured {
    /// From the addresses of each node; no address means that its name has not been resolved.
    fn from_iter<T: IntoIterator<Item = BTreeSet<SocketAddr>>>(nodes: T) -> Self {
        let mut configured = Self::default();
        for addresses in nodes {
            if addresses.is_empty() {
                configured.unresolved += 1;
            } else {
                configured.nodes.insert(addresses);
            }
        }
        configured
    }
}

impl Configured {
    /// Nodes with one address each.
    pub fn at(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let nodes = addresses.into_iter();
        nodes.map(|address| BTreeSet::from([address])).collect()
    }

    /// Whether all names have been resolved.
    pub(super) fn is_resolved(&self) -> bool {
        self.unresolved == 0
    }

    /// Whether one of the nodes may be at this address.
    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        // Most nodes have one address.
        let only = BTreeSet::from([address]);
        self.nodes.contains(&only) || self.nodes.iter().any(|node| node.contains(&address))
    }

    /// The addresses at which there is no known node.
    pub(super) fn missing(&self, known: &Known) -> impl Iterator<Item = SocketAddr> {
        self.nodes.iter().flat_map(|node| unmet(node, known))
    }

    /// How many configured nodes are not known. A name that several nodes share counts once until
    /// one of them is known, and then once for each of the others.
    pub(super) fn unmet(&self, known: &Known) -> usize {
        let nodes = self.nodes.iter().map(|node| {
            let left = unmet(node, known).len();
            if left == node.len() { 1 } else { left }
        });
        self.unresolved + nodes.sum::<usize>()
    }
}

/// The addresses of a configured node at which there is no known node. A known node at one of them
/// also has the addresses of its links.
fn unmet(node: &BTreeSet<SocketAddr>, known: &Known) -> Vec<SocketAddr> {
    let met = node.iter().filter_map(|address| known.get(address));
    let links = met.flat_map(|links| links.iter());
    let theirs: BTreeSet<IpAddr> = links
        .flat_map(|link| link.subnets.iter().map(|(ip, _)| *ip))
        .collect();
    let mut left: Vec<SocketAddr> = node.iter().copied().collect();
    left.retain(|address| !known.contains_key(address) && !theirs.contains(&address.ip()));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 7946))
    }

    fn named(nodes: &[&[u8]]) -> Configured {
        let addresses = |hosts: &&[u8]| hosts.iter().map(|host| at(*host)).collect();
        nodes.iter().map(addresses).collect::<Configured>()
    }

    /// Which addresses no known node has, and how many nodes are not known; known ones have a link
    /// with a second address.
    fn check(configured: &Configured, known: &[u8], missing: &[u8], unmet: usize) {
        let links: Vec<_> = known
            .iter()
            .map(|host| {
                let link = LinkInfo {
                    name: "eth0".to_owned(),
                    mac: [2, 0, 0, 0, 0, *host],
                    up: true,
                    subnets: vec![(at(*host).ip(), 24), (at(100 + host).ip(), 24)],
                    obstacle: None,
                };
                (at(*host), [link])
            })
            .collect();
        let known: Known = links.iter().map(|(at, links)| (*at, &links[..])).collect();
        let expected: Vec<SocketAddr> = missing.iter().map(|host| at(*host)).collect();
        let found: Vec<SocketAddr> = configured.missing(&known).collect();
        assert_eq!((found, configured.unmet(&known)), (expected, unmet));
    }

    #[test]
    fn a_node_with_several_addresses_is_one_node() {
        let configured = named(&[&[1, 101], &[2, 102], &[3]]);
        check(&configured, &[1], &[2, 102, 3], 2);
        check(&configured, &[1, 2], &[3], 1);
        check(&configured, &[1, 2, 3], &[], 0);
    }

    #[test]
    fn nodes_sharing_a_name_are_each_looked_for() {
        let configured = named(&[&[1, 2, 3]]);
        check(&configured, &[1], &[2, 3], 2);
        check(&configured, &[1, 2], &[3], 1);
        check(&named(&[&[2, 3, 4]]), &[1], &[2, 3, 4], 1);
    }

    #[test]
    fn a_node_configured_twice_counts_once() {
        check(&named(&[&[2], &[2], &[1]]), &[1], &[2], 1);
    }

    #[test]
    fn an_unresolved_name_is_an_unmet_node() {
        let configured = named(&[&[], &[], &[2]]);
        check(&configured, &[1, 2], &[], 2);
        assert!(!configured.is_resolved());
        assert!(named(&[&[1], &[2]]).is_resolved());
    }
}
