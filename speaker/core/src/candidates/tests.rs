use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::intent::Interfaces;

fn wanted(groups: &[&[&str]], interfaces: &Interfaces) -> Wanted {
    let mut wanted = Wanted::default();
    for group in groups {
        let addresses: Vec<IpAddr> = group.iter().map(|text| text.parse().unwrap()).collect();
        let group = Group(*addresses.iter().min().unwrap());
        for &address in &addresses {
            let vip = WantedVip {
                services: BTreeSet::new(),
                alike: Ok(interfaces.clone()),
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
        obstacle: None,
    }
}

type Given<'a> = (&'a str, &'a Wanted, &'a [LinkInfo]);

fn of<R>(given: &[Given<'_>], ask: impl FnOnce(&[Host<'_>]) -> R) -> R {
    let names: Vec<NodeName> = given.iter().map(|(name, ..)| (*name).into()).collect();
    let hosts = given
        .iter()
        .zip(&names)
        .map(|(&(_, wanted, links), name)| Host {
            name,
            address: links.first().and_then(|it| Some(it.subnets.first()?.0)),
            wanted,
            links,
        });
    ask(&hosts.collect::<Vec<_>>())
}

/// The candidates of the first VIP, as text.
fn names(hosts: &[Given<'_>]) -> String {
    let vips = of(hosts, candidates);
    let (_, vip) = vips.first_key_value().unwrap();
    let names = vip.candidates.iter().map(|(name, _)| name.as_str());
    names.collect::<Vec<_>>().join(" ")
}

/// The nodes that may not own a VIP, each with the reason.
fn reasons(hosts: &[Given<'_>], vip: &str) -> String {
    let excluded = of(hosts, |hosts| excluded(hosts, vip.parse().unwrap()));
    let lines = excluded
        .iter()
        .map(|(node, why)| format!("{node}: {why}\n"));
    lines.collect()
}

#[test]
fn without_a_matching_subnet_every_node_with_a_link_is_a_candidate() {
    let wanted = wanted(&[&["10.9.0.1"]], &Interfaces::All);
    let links = [link("eth0", &[("10.0.0.1", 24)])];
    let hosts = [("a", &wanted, &links[..]), ("b", &wanted, &links[..])];
    assert_eq!(names(&hosts), "a b");
    assert_eq!(names(&[hosts[0], ("c", &wanted, &[])]), "a");
}

#[test]
fn with_a_matching_subnet_only_nodes_in_it_are_candidates() {
    let wanted = wanted(&[&["10.9.0.1"]], &Interfaces::All);
    let far = [link("eth0", &[("10.0.0.1", 24)])];
    let near = [link("eth1", &[("10.0.0.1", 24), ("10.9.0.7", 16)])];
    assert_eq!(names(&[("a", &wanted, &far), ("b", &wanted, &near)]), "b");
}

#[test]
fn a_node_without_carrier_is_a_candidate_only_if_none_has_carrier() {
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
fn named_interfaces_must_exist() {
    let named = Interfaces::Named(BTreeSet::from(["eth1".to_owned()]));
    let wanted = wanted(&[&["10.9.0.1"]], &named);
    let (zero, one) = ([link("eth0", &[])], [link("eth1", &[])]);
    assert_eq!(names(&[("a", &wanted, &zero), ("b", &wanted, &one)]), "b");
}

#[test]
fn a_node_may_not_own_what_its_configuration_excludes() {
    let some = wanted(&[&["10.9.0.1"]], &Interfaces::All);
    let none = Wanted::default();
    let links = [link("eth0", &[])];
    assert_eq!(names(&[("a", &none, &links), ("b", &some, &links)]), "b");
}

#[test]
fn every_node_knows_all_vips_even_those_it_may_not_own() {
    let mut refused = wanted(&[&["10.9.0.1"]], &Interfaces::All);
    for vip in refused.vips.values_mut() {
        vip.alike = Err(NotAnnounced::NoEndpoint);
    }
    let links = [link("eth0", &[])];
    assert_eq!(names(&[("a", &refused, &links)]), "");
}

#[test]
fn with_policy_local_only_nodes_with_endpoints_are_candidates() {
    let mut local = wanted(&[&["10.9.0.1"]], &Interfaces::All);
    for vip in local.vips.values_mut() {
        vip.served_by = Some(BTreeSet::from(["b".to_owned(), "c".to_owned()]));
    }
    let links = [link("eth0", &[])];
    assert_eq!(names(&[("a", &local, &links), ("b", &local, &links)]), "b");
    assert_eq!(names(&[("a", &local, &links)]), "");
}

#[test]
fn a_group_goes_to_nodes_that_may_own_all_or_else_most_of_its_vips() {
    let wanted = wanted(&[&["10.9.0.1", "fd09::1"]], &Interfaces::All);
    let v4 = [link("eth0", &[("10.9.0.7", 16)])];
    let v6 = [link("eth0", &[("fd09::7", 64)])];
    let both = [link("eth0", &[("10.9.0.7", 16), ("fd09::7", 64)])];
    let hosts = [("a", &wanted, &v4[..]), ("b", &wanted, &v6[..])];
    assert_eq!(names(&hosts), "a b");
    assert_eq!(names(&[hosts[0], hosts[1], ("c", &wanted, &both)]), "c");
}

#[test]
fn a_foreign_program_on_the_subnets_link_excludes_the_node() {
    let wanted = wanted(&[&["10.9.0.1"]], &Interfaces::All);
    let far = link("eth1", &[("192.0.2.7", 24)]);
    let occupied = LinkInfo {
        obstacle: Some("occupied".to_owned()),
        ..link("eth0", &[("10.9.0.7", 16)])
    };
    let both = [occupied, far.clone()];
    let far = [far];
    assert_eq!(names(&[("a", &wanted, &both), ("b", &wanted, &far)]), "b");
    assert_eq!(names(&[("a", &wanted, &both)]), "");
}

#[test]
fn the_services_first_address_gives_the_order_and_the_smallest_leads() {
    let wanted = wanted(&[&["fd09::1", "10.9.0.1"]], &Interfaces::All);
    let name = "a".into();
    let host = Host {
        name: &name,
        address: None,
        wanted: &wanted,
        links: &[],
    };
    let vips = candidates(&[host]);
    let [leader, follower] = ["10.9.0.1", "fd09::1"].map(|vip| &vips[&vip.parse().unwrap()]);
    assert_eq!(leader.first_ip, "fd09::1".parse::<IpAddr>().unwrap());
    assert_eq!(leader.follows, None);
    assert_eq!(follower.first_ip, leader.first_ip);
    assert_eq!(follower.follows, Some("10.9.0.1".parse().unwrap()));
}

/// It would be cut off.
#[test]
fn the_address_of_a_node_is_owned_by_none_and_its_group_by_others() {
    let wanted = wanted(&[&["10.9.0.7", "10.9.0.9"]], &Interfaces::All);
    let near = |address| [link("eth0", &[(address, 16)])];
    let (a, b) = (near("10.9.0.7"), near("10.9.0.8"));
    let hosts: [Given<'_>; 2] = [("a", &wanted, &a), ("b", &wanted, &b)];
    let vips = of(&hosts, candidates);
    let [own, vip] = ["10.9.0.7", "10.9.0.9"].map(|vip| &vips[&vip.parse().unwrap()]);
    assert_eq!((own.candidates.len(), own.follows), (0, None));
    assert_eq!((vip.candidates.len(), vip.follows), (2, None));
    expect![[r"
        a: 10.9.0.7 is the address of a itself: give the Service another one
        b: 10.9.0.7 is the address of a itself: give the Service another one
    "]]
    .assert_eq(&reasons(&hosts, "10.9.0.7"));
    assert_eq!(reasons(&hosts, "10.9.0.9"), "");
}

#[test]
fn excluded_nodes_have_reasons() {
    let asked = wanted(&[&["10.9.0.1", "fd09::1"], &["10.9.0.2"]], &Interfaces::All);
    let mut refused = asked.clone();
    for vip in refused.vips.values_mut() {
        vip.alike = Err(NotAnnounced::NodeExcluded { node: "x".into() });
    }
    let near = [link("eth0", &[("10.9.0.7", 16), ("fd09::7", 64)])];
    let v4 = [link("eth0", &[("10.9.0.8", 16)])];
    let down = [LinkInfo {
        up: false,
        ..near[0].clone()
    }];
    let occupied = [LinkInfo {
        obstacle: Some("eth0 already runs an XDP program".to_owned()),
        ..near[0].clone()
    }];
    let hosts: [Given<'_>; 6] = [
        ("a", &asked, &near),
        ("b", &asked, &v4),
        ("c", &asked, &down),
        ("d", &asked, &[]),
        ("e", &asked, &occupied),
        ("x", &refused, &near),
    ];
    expect![[r"
        b: none of its links is in the subnet of fd09::1, and other nodes have one there
        c: its link has no carrier
        d: it has no interface to answer for 10.9.0.1 on, or none that the L2Advertisement names
        e: its program cannot answer on eth0: eth0 already runs an XDP program
        x: x has the label node.kubernetes.io/exclude-from-external-load-balancers: remove it there, or start all agents with --ignore-exclude-lb
    "]]
    .assert_eq(&reasons(&hosts, "fd09::1"));
    assert_eq!(reasons(&hosts, "10.9.0.9"), "");
}

/// A few interfaces, up or down, in a few subnets.
fn links() -> impl Strategy<Value = Vec<LinkInfo>> {
    let subnet = (0..2_u8, 1..9_u8).prop_map(|(net, host)| {
        let address = format!("10.{net}.0.{host}");
        (address.parse().unwrap(), 16)
    });
    let subnets = prop::collection::vec(subnet, 0..2);
    let obstacle = prop::option::of(Just("refused".to_owned()));
    let link = (0..2, any::<bool>(), subnets, obstacle);
    let link = link.prop_map(|(number, up, subnets, obstacle)| LinkInfo {
        name: format!("eth{number}"),
        mac: [2, 0, 0, 0, 0, 1],
        up,
        subnets,
        obstacle,
    });
    prop::collection::vec(link, 0..3)
}

/// Two VIPs of one group and one of another, wanted from some nodes.
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
        for (vip, (interfaces, served_by, preference, alike)) in wanted.vips.values_mut().zip(vips)
        {
            vip.alike = alike.then_some(interfaces).ok_or(NotAnnounced::NoEndpoint);
            vip.served_by = served_by;
            vip.preference = preference;
        }
        wanted
    })
}

proptest! {
    /// Each node with a unique set of wanted VIPs is a kind of its own.
    #[test]
    fn grouping_alike_nodes_does_not_change_the_candidates(
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
                .map(|((name, wanted), (_, links))| Host {
                    name,
                    address: None,
                    wanted,
                    links,
                })
                .collect();
            candidates(&hosts)
        };
        let together: Vec<&Wanted> = (0..nodes.len()).map(shared).collect();
        let apart: Vec<&Wanted> = own.iter().collect();
        prop_assert_eq!(of(&together), of(&apart));
    }
}
