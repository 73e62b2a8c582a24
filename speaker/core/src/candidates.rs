//! Which nodes may own which VIPs: a pure function of what each node is asked for and of the links
//! that each has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    cluster::{self, LinkInfo, NodeName},
    intent::{Group, Interfaces, Wanted, WantedVip},
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
    let mut names: Vec<&NodeName> = hosts.iter().map(|host| host.name).collect();
    names.sort_unstable();
    let kinds = kinds(hosts, &names);
    let mut reach: BTreeMap<IpAddr, Vec<(&Kind<'_>, Reach, &WantedVip)>> = BTreeMap::new();
    let mut groups: BTreeMap<Group, (IpAddr, BTreeSet<IpAddr>)> = BTreeMap::new();
    for kind in &kinds {
        for (&address, vip) in &kind.wanted.vips {
            let (_, addresses) = groups
                .entry(vip.group)
                .or_insert_with(|| (vip.first_ip, BTreeSet::new()));
            addresses.insert(address);
            if let Ok(interfaces) = &vip.here
                && let Some(how) = reach_of(address, interfaces, kind.links)
            {
                reach.entry(address).or_default().push((kind, how, vip));
            }
        }
    }
    groups
        .into_iter()
        .map(|(group, (first_ip, addresses))| {
            // Of each node, in the order of names.
            let mut vips: Vec<(usize, u32)> = vec![(0, 0); names.len()];
            for address in &addresses {
                let nodes = || {
                    let kinds = reach.get(address).into_iter().flatten();
                    kinds.flat_map(|&(kind, how, vip)| {
                        let places = kind.places.iter().copied();
                        let may = |place: &usize| vip.may_be_on(names[*place].as_str());
                        places.filter(may).map(move |place| (place, how, vip))
                    })
                };
                let best = nodes().map(|(_, how, _)| how).max();
                for (place, _, vip) in nodes().filter(|(_, how, _)| Some(*how) == best) {
                    let (count, preference) = &mut vips[place];
                    if *count == 0 {
                        *preference = vip.preference;
                    }
                    *count += 1;
                }
            }
            let counts = vips.iter().map(|(count, _)| *count);
            let most = counts.max().filter(|most| *most > 0);
            let candidates = names
                .iter()
                .zip(vips)
                .filter(|(_, (count, _))| Some(*count) == most)
                .map(|(name, (_, preference))| ((*name).clone(), i64::from(preference)))
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

/// Nodes that are asked for the same and have links in the same subnets. A cluster of hundreds has
/// a few kinds, and what takes long is done once for each.
struct Kind<'a> {
    wanted: &'a Wanted,
    /// Of one of them.
    links: &'a [LinkInfo],
    /// Their places in the order of names.
    places: Vec<usize>,
}

fn kinds<'a>(hosts: &[Host<'a>], names: &[&NodeName]) -> Vec<Kind<'a>> {
    let mut kinds: Vec<Kind<'a>> = Vec::new();
    for host in hosts {
        let place = names.binary_search(&host.name);
        let place = place.expect("the names are those of the hosts");
        let alike = |kind: &&mut Kind<'_>| {
            std::ptr::eq(kind.wanted, host.wanted) && are_alike(kind.links, host.links)
        };
        match kinds.iter_mut().find(alike) {
            Some(kind) => kind.places.push(place),
            None => kinds.push(Kind {
                wanted: host.wanted,
                links: host.links,
                places: vec![place],
            }),
        }
    }
    kinds
}

/// Whether [`reach_of`] is the same for both, whatever the VIP.
fn are_alike(some: &[LinkInfo], others: &[LinkInfo]) -> bool {
    let subnet = |(one, other): (&(IpAddr, u8), &(IpAddr, u8))| {
        one.1 == other.1 && same_subnet(one.0, other.0, one.1)
    };
    let link = |(one, other): (&LinkInfo, &LinkInfo)| {
        one.name == other.name
            && one.up == other.up
            && one.subnets.len() == other.subnets.len()
            && one.subnets.iter().zip(&other.subnets).all(subnet)
    };
    some.len() == others.len() && some.iter().zip(others).all(link)
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
    use proptest::prelude::*;

    use super::*;
    use crate::intent::NotAnnounced;

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

    /// A few interfaces, up or down, in a few subnets.
    fn links() -> impl Strategy<Value = Vec<LinkInfo>> {
        let subnet = (0..2_u8, 1..9_u8).prop_map(|(net, host)| {
            let address = format!("10.{net}.0.{host}");
            (address.parse().unwrap(), 16)
        });
        let subnets = prop::collection::vec(subnet, 0..2);
        let link = (0..2, any::<bool>(), subnets).prop_map(|(number, up, subnets)| LinkInfo {
            name: format!("eth{number}"),
            mac: [2, 0, 0, 0, 0, 1],
            up,
            subnets,
        });
        prop::collection::vec(link, 0..3)
    }

    /// Two VIPs of a group and one of another, asked of some nodes.
    fn wishes() -> impl Strategy<Value = Wanted> {
        let served = prop::option::of(prop::collection::btree_set("[a-e]", 0..4));
        let names = prop::collection::btree_set("eth[01]", 0..2).prop_map(Interfaces::Named);
        let interfaces = prop_oneof![Just(Interfaces::All), names];
        let vip = (interfaces, served, 0..2_u32, any::<bool>());
        prop::collection::vec(vip, 3).prop_map(|vips| {
            let mut wanted = wanted(
                &[&["10.0.1.1", "10.1.1.1"], &["10.1.1.2"]],
                &Interfaces::All,
            );
            for (vip, (interfaces, served_by, preference, here)) in
                wanted.vips.values_mut().zip(vips)
            {
                vip.here = here.then_some(interfaces).ok_or(NotAnnounced::NoEndpoint);
                vip.served_by = served_by;
                vip.preference = preference;
            }
            wanted
        })
    }

    proptest! {
        /// Each node that is alone in what it is asked for is a kind of its own.
        #[test]
        fn nodes_that_are_alike_have_the_candidates_that_each_would_have(
            wishes in prop::collection::vec(wishes(), 1..3),
            nodes in prop::collection::vec((0..2_usize, links()), 1..6),
        ) {
            let names: Vec<NodeName> = ["c", "a", "e", "b", "d"].map(NodeName::from).into();
            let own: Vec<Wanted> = nodes
                .iter()
                .map(|(wish, _)| wishes[wish % wishes.len()].clone())
                .collect();
            let shared = |at: usize| &wishes[nodes[at].0 % wishes.len()];
            let of = |wanted: &[&Wanted]| {
                let hosts: Vec<Host<'_>> = names
                    .iter()
                    .zip(wanted)
                    .zip(&nodes)
                    .map(|((name, wanted), (_, links))| Host { name, wanted, links })
                    .collect();
                candidates(&hosts)
            };
            let together: Vec<&Wanted> = (0..nodes.len()).map(shared).collect();
            let apart: Vec<&Wanted> = own.iter().collect();
            prop_assert_eq!(of(&together), of(&apart));
        }
    }
}
