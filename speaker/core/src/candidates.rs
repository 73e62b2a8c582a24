//! Which nodes may own which VIPs: a pure function of what each node is asked for and of the links
//! that each has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    cluster::{self, LinkInfo, NodeName},
    intent::{Group, Interfaces, Wanted},
    links::same_subnet,
};

/// A node, as far as VIPs can be on it.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// What the configuration asks of it.
    pub wanted: &'a Wanted,
    /// The links that it can answer on.
    pub links: &'a [LinkInfo],
}

/// The groups of all VIPs, each with the nodes that may own it.
///
/// A node may own a VIP if the configuration asks it of the node and the node has a link for it;
/// if any such node has a link with carrier, only those that have, and if any such link is in the
/// VIP's subnet, only those with one there. It may own a group if it
/// may own all its VIPs; where no node may, as many of them as any node may.
pub fn candidates(hosts: &[Host<'_>]) -> BTreeMap<Group, cluster::Group> {
    let mut reach: BTreeMap<IpAddr, BTreeMap<&NodeName, (Reach, u32)>> = BTreeMap::new();
    let mut groups: BTreeMap<Group, (IpAddr, BTreeSet<IpAddr>)> = BTreeMap::new();
    for host in hosts {
        for (&address, vip) in &host.wanted.vips {
            let (_, addresses) = groups
                .entry(vip.group)
                .or_insert_with(|| (vip.first_ip, BTreeSet::new()));
            addresses.insert(address);
            if let Ok(interfaces) = &vip.here
                && vip.may_be_on(host.name.as_str())
                && let Some(how) = reach_of(address, interfaces, host.links)
            {
                let nodes = reach.entry(address).or_default();
                nodes.insert(host.name, (how, vip.preference));
            }
        }
    }
    groups
        .into_iter()
        .map(|(group, (first_ip, addresses))| {
            let mut vips: BTreeMap<&NodeName, (usize, u32)> = BTreeMap::new();
            for address in &addresses {
                let nodes = || reach.get(address).into_iter().flatten();
                let best = nodes().map(|(_, (how, _))| *how).max();
                for (name, (_, preference)) in nodes().filter(|(_, (how, _))| Some(*how) == best) {
                    vips.entry(name).or_insert((0, *preference)).0 += 1;
                }
            }
            let most = vips.values().map(|(count, _)| *count).max();
            let candidates = vips
                .into_iter()
                .filter(|(_, (count, _))| Some(*count) == most)
                .map(|(name, (_, preference))| (name.clone(), i64::from(preference)))
                .collect();
            (
                group,
                cluster::Group {
                    first_ip,
                    candidates,
                },
            )
        })
        .collect()
}

/// How a node's links reach the clients of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Not now: none of them has carrier.
    Down,
    /// The network must route the VIP to one of them.
    Routed,
    /// One of them is in its subnet.
    Near,
}

fn reach_of(address: IpAddr, interfaces: &Interfaces, links: &[LinkInfo]) -> Option<Reach> {
    let near = |link: &LinkInfo| {
        let mut subnets = link.subnets.iter();
        subnets.any(|&(own, prefix)| same_subnet(own, address, prefix))
    };
    links
        .iter()
        .filter(|link| interfaces.contain(&link.name))
        .map(|link| {
            if !link.up {
                Reach::Down
            } else if near(link) {
                Reach::Near
            } else {
                Reach::Routed
            }
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::{NotAnnounced, WantedVip};

    fn wanted(groups: &[&[&str]], interfaces: &Interfaces) -> Wanted {
        let mut wanted = Wanted::default();
        for group in groups {
            let addresses: Vec<IpAddr> = group.iter().map(|text| text.parse().unwrap()).collect();
            let group = Group(*addresses.iter().min().unwrap());
            for &address in &addresses {
                let vip = WantedVip {
                    services: BTreeSet::new(),
                    here: Ok(interfaces.clone()),
                    served_by: None,
                    preference: 0,
                    group,
                    first_ip: addresses[0],
                };
                wanted.vips.insert(address, vip);
            }
        }
        wanted
    }

    fn link(name: &str, subnets: &[(&str, u8)]) -> LinkInfo {
        LinkInfo {
            name: name.to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            subnets: subnets
                .iter()
                .map(|(address, prefix)| (address.parse().unwrap(), *prefix))
                .collect(),
        }
    }

    /// The candidates of the first group, as text.
    fn names(hosts: &[(&str, &Wanted, &[LinkInfo])]) -> String {
        let names: Vec<NodeName> = hosts.iter().map(|(name, ..)| (*name).into()).collect();
        let hosts: Vec<Host<'_>> = hosts
            .iter()
            .zip(&names)
            .map(|(&(_, wanted, links), name)| Host {
                name,
                wanted,
                links,
            })
            .collect();
        let groups = candidates(&hosts);
        let (_, group) = groups.first_key_value().unwrap();
        let names = group.candidates.iter().map(|(name, _)| name.as_str());
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn where_no_subnet_fits_every_node_with_a_link_may() {
        let wanted = wanted(&[&["10.9.0.1"]], &Interfaces::All);
        let links = [link("eth0", &[("10.0.0.1", 24)])];
        let hosts = [("a", &wanted, &links[..]), ("b", &wanted, &links[..])];
        assert_eq!(names(&hosts), "a b");
        assert_eq!(names(&[hosts[0], ("c", &wanted, &[])]), "a");
    }

    #[test]
    fn where_a_subnet_fits_only_the_nodes_in_it_may() {
        let wanted = wanted(&[&["10.9.0.1"]], &Interfaces::All);
        let far = [link("eth0", &[("10.0.0.1", 24)])];
        let near = [link("eth1", &[("10.0.0.1", 24), ("10.9.0.7", 16)])];
        assert_eq!(names(&[("a", &wanted, &far), ("b", &wanted, &near)]), "b");
    }

    #[test]
    fn a_node_without_carrier_may_only_where_none_has_it() {
        let wanted = wanted(&[&["10.9.0.1"]], &Interfaces::All);
        let up = [link("eth0", &[])];
        let down = [LinkInfo {
            up: false,
            ..link("eth0", &[("10.9.0.7", 16)])
        }];
        assert_eq!(names(&[("a", &wanted, &down), ("b", &wanted, &up)]), "b");
        assert_eq!(
            names(&[("a", &wanted, &down), ("b", &wanted, &down)]),
            "a b"
        );
    }

    #[test]
    fn named_interfaces_must_be_there() {
        let named = Interfaces::Named(BTreeSet::from(["eth1".to_owned()]));
        let wanted = wanted(&[&["10.9.0.1"]], &named);
        let (zero, one) = ([link("eth0", &[])], [link("eth1", &[])]);
        assert_eq!(names(&[("a", &wanted, &zero), ("b", &wanted, &one)]), "b");
    }

    #[test]
    fn what_the_configuration_does_not_ask_of_a_node_it_may_not_own() {
        let some = wanted(&[&["10.9.0.1"]], &Interfaces::All);
        let none = Wanted::default();
        let links = [link("eth0", &[])];
        assert_eq!(names(&[("a", &none, &links), ("b", &some, &links)]), "b");
    }

    #[test]
    fn every_node_knows_of_groups_that_it_may_not_own() {
        let mut refused = wanted(&[&["10.9.0.1"]], &Interfaces::All);
        for vip in refused.vips.values_mut() {
            vip.here = Err(NotAnnounced::NoEndpoint);
        }
        let links = [link("eth0", &[])];
        assert_eq!(names(&[("a", &refused, &links)]), "");
    }

    #[test]
    fn only_nodes_with_endpoints_may_where_the_service_asks_for_that() {
        let mut local = wanted(&[&["10.9.0.1"]], &Interfaces::All);
        for vip in local.vips.values_mut() {
            vip.served_by = Some(BTreeSet::from(["b".to_owned(), "c".to_owned()]));
        }
        let links = [link("eth0", &[])];
        assert_eq!(names(&[("a", &local, &links), ("b", &local, &links)]), "b");
        assert_eq!(names(&[("a", &local, &links)]), "");
    }

    #[test]
    fn a_group_goes_where_all_its_vips_can_be_or_else_most() {
        let wanted = wanted(&[&["10.9.0.1", "fd09::1"]], &Interfaces::All);
        let v4 = [link("eth0", &[("10.9.0.7", 16)])];
        let v6 = [link("eth0", &[("fd09::7", 64)])];
        let both = [link("eth0", &[("10.9.0.7", 16), ("fd09::7", 64)])];
        let hosts = [("a", &wanted, &v4[..]), ("b", &wanted, &v6[..])];
        assert_eq!(names(&hosts), "a b");
        assert_eq!(names(&[hosts[0], hosts[1], ("c", &wanted, &both)]), "c");
    }

    #[test]
    fn the_order_is_by_the_first_address_of_the_service() {
        let wanted = wanted(&[&["fd09::1", "10.9.0.1"]], &Interfaces::All);
        let name = "a".into();
        let host = Host {
            name: &name,
            wanted: &wanted,
            links: &[],
        };
        let groups = candidates(&[host]);
        let (group, owned) = groups.first_key_value().unwrap();
        assert_eq!(group.0, "10.9.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(owned.first_ip, "fd09::1".parse::<IpAddr>().unwrap());
    }
}
