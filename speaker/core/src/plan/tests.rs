use super::*;
use crate::{
    intent::{Group, WantedVip},
    link::{Kind, LinkChange},
};

const MAC: Mac = [2, 0, 0, 0, 0, 1];

fn link(index: u32, name: &str, kind: Kind) -> Link {
    Link {
        index,
        name: name.into(),
        mac: MAC,
        admin_up: true,
        carrier: true,
        mtu: 1500,
        kind,
        master: None,
        stands_by: false,
        addresses: BTreeSet::new(),
        strips_vlan_tags: false,
        xdp: None,
    }
}

fn with_address(link: Link, address: &str, prefix: u8) -> Link {
    Link {
        addresses: BTreeSet::from([(address.parse().unwrap(), prefix)]),
        ..link
    }
}

fn vlan(index: u32, name: &str, parent: u32, id: u16) -> Link {
    let kind = Kind::Vlan {
        parent,
        id,
        service: false,
    };
    link(index, name, kind)
}

fn wanted(vip: IpAddr, interfaces: Interfaces) -> Wanted {
    let wanted = WantedVip {
        services: BTreeSet::new(),
        alike: Ok(interfaces),
        served_by: None,
        preference: 0,
        group: Group(vip),
        first_ip: vip,
    };
    Wanted {
        vips: BTreeMap::from([(vip, wanted)]),
        ..Wanted::default()
    }
}

/// Where 10.0.0.5 is answered, as `link@interface.vlan`, or why nowhere.
#[track_caller]
fn check(links: &[Link], choice: &Choice, interfaces: &[&str], expect: &str) -> Plan {
    let vip = "10.0.0.5".parse().unwrap();
    let interfaces = match interfaces {
        [] => Interfaces::All,
        names => Interfaces::Named(names.iter().map(ToString::to_string).collect()),
    };
    let wanted = wanted(vip, interfaces);
    let links: Links = links.iter().cloned().collect();
    let name = |index| links.get(index).unwrap().name.clone();
    let site = Site {
        choice: choice.clone(),
        ..Site::default()
    };
    let plan = Plan::new(&wanted, &links, &site);
    let found = match plan.absent.get(&vip) {
        Some(reason) => reason.to_string(),
        None => plan
            .places
            .iter()
            .map(|(place, placed)| {
                let layout::Vlan { id, service } = placed.entry.vlan;
                let interface = name(placed.attached);
                format!("{}@{interface}.{service}.{id}", name(place.link))
            })
            .collect::<Vec<_>>()
            .join(" "),
    };
    assert_eq!(found, expect);
    plan
}

#[test]
fn the_link_with_the_subnet_is_preferred_and_without_one_all_serve() {
    let far = with_address(link(2, "eth0", Kind::Plain), "192.0.2.1", 24);
    let near = with_address(link(3, "eth1", Kind::Plain), "10.0.0.1", 24);
    check(
        &[far.clone(), near.clone()],
        &Choice::Usual,
        &[],
        "eth1@eth1.0.0",
    );
    let farther = with_address(near, "10.1.0.1", 24);
    check(
        &[far, farther],
        &Choice::Usual,
        &[],
        "eth0@eth0.0.0 eth1@eth1.0.0",
    );
}

#[test]
fn an_advertisement_uses_the_interfaces_it_names() {
    let links = [link(2, "eth0", Kind::Plain), link(3, "eth1", Kind::Plain)];
    let usual = Choice::Usual;
    check(&links, &usual, &["eth1"], "eth1@eth1.0.0");
    check(
        &links,
        &usual,
        &["eth0", "eth1"],
        "eth0@eth0.0.0 eth1@eth1.0.0",
    );
    check(&links, &usual, &["eth7"], "no interface eth7 on this node");
    check(&links, &usual, &["eth1", "eth7"], "eth1@eth1.0.0");
}

#[test]
fn interfaces_of_network_plugins_are_excluded_as_by_metallb() {
    for name in [
        "docker0",
        "cbr0",
        "dummy0",
        "virbr0",
        "lxcbr0",
        "veth1",
        "cali1",
        "tunl0",
        "flannel.1",
        "kube-ipvs0",
        "cni0",
        "nodelocaldns",
        "lxc1",
        // MetalLB does not.
        "cilium_host",
    ] {
        let links = [link(2, name, Kind::Plain), link(3, "eth0", Kind::Plain)];
        check(&links, &Choice::Usual, &[], "eth0@eth0.0.0");
    }
}

#[test]
fn container_interfaces_are_excluded_unless_chosen() {
    let links = [
        link(2, "cali1234", Kind::Plain),
        link(3, "eth0", Kind::Plain),
    ];
    check(&links, &Choice::Usual, &[], "eth0@eth0.0.0");
    let chosen = Choice::Named(BTreeSet::from(["cali1234".to_owned()]));
    check(&links, &chosen, &[], "cali1234@cali1234.0.0");
    check(
        &links,
        &chosen,
        &["eth0"],
        "interface eth0 is not one that the agent may use (--interface)",
    );
    check(
        &links[..1],
        &Choice::Usual,
        &[],
        "this node has no interface to answer on (see --interface)",
    );
}

#[test]
fn an_interface_of_a_vrf_is_used_like_any_other() {
    let member = |kind| {
        let port = Link {
            master: Some(3),
            ..link(2, "eth0", Kind::Plain)
        };
        [port, link(3, "zone", kind)]
    };
    check(
        &member(Kind::Vrf),
        &Choice::Usual,
        &["eth0"],
        "eth0@eth0.0.0",
    );
    let team = member(Kind::Other("team".into()));
    let left_out = "interface eth0 is not one that the agent may use (--interface)";
    check(&team, &Choice::Usual, &["eth0"], left_out);
}

#[test]
fn a_bond_answers_for_its_members_with_its_own_mac() {
    let member = |index, name| Link {
        master: Some(4),
        ..link(index, name, Kind::Plain)
    };
    let bond = Link {
        mac: [2, 0, 0, 0, 0, 9],
        ..link(4, "bond0", Kind::Bond { active: None })
    };
    let links = [member(2, "eth0"), member(3, "eth1"), bond];
    let plan = check(&links, &Choice::Usual, &[], "bond0@bond0.0.0");
    let map_link = layout::Link::new([2, 0, 0, 0, 0, 9], 4);
    assert_eq!(
        plan.links,
        BTreeMap::from([2, 3, 4].map(|index| (index, map_link)))
    );
    assert_eq!(plan.attach, BTreeSet::from([4]));

    let chosen = Choice::Named(BTreeSet::from(["eth0".to_owned()]));
    let refusal = "interface eth0 belongs to bond0: use bond0 instead";
    check(&links, &chosen, &["eth0"], refusal);
}

/// A bond of two members, with one or both in use.
fn bond_of(active: Option<u32>, member: impl Fn(u32, &str) -> Link) -> [Link; 3] {
    let member = |index, name| Link {
        master: Some(4),
        stands_by: active.is_some_and(|active| active != index),
        ..member(index, name)
    };
    let bond = Link {
        // It strips no tags: only its members do.
        strips_vlan_tags: true,
        ..link(4, "bond0", Kind::Bond { active })
    };
    [member(2, "eth0"), member(3, "eth1"), bond]
}

#[test]
fn a_standby_member_does_not_answer() {
    let links = bond_of(Some(3), |index, name| link(index, name, Kind::Plain));
    let plan = check(&links, &Choice::Usual, &[], "bond0@bond0.0.0");
    assert_eq!(
        plan.links.into_keys().collect::<Vec<_>>(),
        [3, 4],
        "the one in use, and the bond for generic mode"
    );
}

/// Of 802.3ad, and a bond with no member in use.
#[test]
fn members_of_an_inactive_aggregator_do_not_answer() {
    let mut links = bond_of(None, |index, name| link(index, name, Kind::Plain));
    links[0].stands_by = true;
    let plan = check(&links, &Choice::Usual, &[], "bond0@bond0.0.0");
    assert_eq!(plan.links.into_keys().collect::<Vec<_>>(), [3, 4]);
    links[1].stands_by = true;
    let plan = check(&links, &Choice::Usual, &[], "bond0@bond0.0.0");
    assert_eq!(plan.links.into_keys().collect::<Vec<_>>(), [4]);
}

#[test]
fn a_vlan_of_a_bond_is_answered_on_the_bond_if_no_member_strips_tags() {
    let only = |name: &str| Choice::Named(BTreeSet::from([name.to_owned()]));
    let with_vlan = |bond: [Link; 3]| [bond.as_slice(), &[vlan(5, "bond0.100", 4, 100)]].concat();
    let vlan_alone = only("bond0.100");

    let leaving = with_vlan(bond_of(Some(2), |index, name| {
        link(index, name, Kind::Plain)
    }));
    check(&leaving, &vlan_alone, &[], "bond0.100@bond0.0.100");
    let plan = check(&leaving, &only("bond0"), &[], "bond0@bond0.0.0");
    assert_eq!(plan.keep_tags, BTreeSet::new());

    let stripping = with_vlan(bond_of(Some(2), |index, name| Link {
        strips_vlan_tags: true,
        ..link(index, name, Kind::Plain)
    }));
    check(&stripping, &vlan_alone, &[], "bond0.100@bond0.100.0.0");
    let plan = check(&stripping, &only("bond0"), &[], "bond0@bond0.0.0");
    assert_eq!(plan.keep_tags, BTreeSet::from([2, 3]));

    let hiding = with_vlan(bond_of(Some(2), |index, name| {
        link(index, name, Kind::Veth)
    }));
    check(&hiding, &vlan_alone, &[], "bond0.100@bond0.100.0.0");
    check(
        &hiding,
        &only("bond0"),
        &["bond0"],
        "interface bond0 hides VLAN tags from the program and carries bond0.100: VIPs of the \
         untagged network could be answered on a VLAN. Put the VIPs on a VLAN device, or on an \
         interface without VLANs",
    );
}

#[test]
fn a_vlan_is_answered_on_its_parent_if_tags_are_visible_there() {
    let eth0 = link(2, "eth0", Kind::Plain);
    let eth0_100 = vlan(3, "eth0.100", 2, 100);
    let only = |name: &str| Choice::Named(BTreeSet::from([name.to_owned()]));
    let links = [eth0.clone(), eth0_100.clone()];
    check(&links, &only("eth0.100"), &[], "eth0.100@eth0.0.100");

    let stripping = Link {
        strips_vlan_tags: true,
        ..eth0.clone()
    };
    let links = [stripping, eth0_100.clone()];
    check(&links, &only("eth0.100"), &[], "eth0.100@eth0.100.0.0");
    let plan = check(&links, &only("eth0"), &[], "eth0@eth0.0.0");
    assert_eq!(
        plan.keep_tags,
        BTreeSet::from([2]),
        "or eth0.100's requests look untagged"
    );

    let other_mac = Link {
        mac: [2, 0, 0, 0, 0, 7],
        ..eth0_100.clone()
    };
    check(
        &[eth0.clone(), other_mac],
        &only("eth0.100"),
        &[],
        "eth0.100@eth0.100.0.0",
    );

    let service = Link {
        kind: Kind::Vlan {
            parent: 2,
            id: 200,
            service: true,
        },
        ..link(3, "eth0.200", Kind::Plain)
    };
    let inner = vlan(4, "eth0.200.100", 3, 100);
    let links = [eth0, service, inner];
    check(
        &links,
        &only("eth0.200.100"),
        &[],
        "eth0.200.100@eth0.200.100",
    );
    check(&links, &only("eth0.200"), &[], "eth0.200@eth0.200.0.0");
}

#[test]
fn a_link_with_vlans_that_hides_tags_is_refused() {
    let hidden = "interface br0 hides VLAN tags from the program and carries br0.100: VIPs of the \
                  untagged network could be answered on a VLAN. Put the VIPs on a VLAN device, or \
                  on an interface without VLANs";
    for kind in [Kind::Veth, Kind::Bridge, Kind::Macvlan { parent: 0 }] {
        let links = [link(2, "br0", kind), vlan(3, "br0.100", 2, 100)];
        check(&links, &Choice::Usual, &["br0.100"], "br0.100@br0.100.0.0");
        check(&links, &Choice::Usual, &["br0"], hidden);
        check(&links[..1], &Choice::Usual, &[], "br0@br0.0.0");

        // Nobody asks for an address of the untagged network in the VLAN.
        let [untagged, tagged] = links;
        let links = [
            with_address(untagged, "10.0.0.1", 24),
            with_address(tagged, "10.0.100.1", 24),
        ];
        check(&links, &Choice::Usual, &[], hidden);
    }
}

#[test]
fn a_link_that_cannot_carry_vips_says_why() {
    let member_of = |kind| {
        let port = Link {
            master: Some(3),
            ..link(2, "eth0", Kind::Plain)
        };
        [port, link(3, "master0", kind)]
    };
    let no_mac = Link {
        mac: [0; 6],
        ..link(2, "eth0", Kind::Other("wireguard".into()))
    };
    let other = |kind: &str| Kind::Other(kind.into());
    let alone = |kind| vec![link(2, "eth0", kind)];
    let refused = [
        (
            member_of(Kind::Bridge).to_vec(),
            "belongs to master0: use master0 instead",
        ),
        (
            member_of(Kind::Bond { active: None }).to_vec(),
            "belongs to master0: use master0 instead",
        ),
        (
            member_of(other("team")).to_vec(),
            "belongs to master0, which is of kind team and cannot carry VIPs: use another interface",
        ),
        (
            member_of(other("openvswitch")).to_vec(),
            "belongs to master0, which is of kind openvswitch and cannot carry VIPs: use another \
             interface",
        ),
        (
            vec![no_mac],
            "has no MAC address, so hosts cannot resolve addresses on it",
        ),
        (
            alone(Kind::Vrf),
            "is of kind vrf, which cannot answer ARP and Neighbor Discovery for VIPs",
        ),
        (
            alone(other("vxlan")),
            "is of kind vxlan, which cannot answer ARP and Neighbor Discovery for VIPs",
        ),
    ];
    let eth0 = Choice::Named(BTreeSet::from(["eth0".to_owned()]));
    for (links, reason) in refused {
        check(
            &links,
            &eth0,
            &["eth0"],
            &format!("interface eth0 {reason}"),
        );
    }
    check(&member_of(Kind::Vrf), &eth0, &["eth0"], "eth0@eth0.0.0");
}

/// Requests for it are for the node's own kernel to answer.
#[test]
fn the_address_at_which_other_nodes_reach_this_one_has_no_entry() {
    let own = "10.0.0.5".parse().unwrap();
    let links = [with_address(link(2, "eth0", Kind::Plain), "10.0.0.5", 24)];
    let site = Site {
        probed: Some(own),
        ..Site::default()
    };
    let links: Links = links.into_iter().collect();
    let plan = Plan::new(&wanted(own, Interfaces::All), &links, &site);
    assert_eq!(plan.entries().count(), 0);
    assert_eq!(plan.absent, BTreeMap::from([(own, Absent::Own)]));
    assert_eq!(plan.probed, Some(Ok(2)));
}

#[test]
fn a_removed_link_removes_its_places() {
    let mut links: Links = [link(2, "eth0", Kind::Plain)].into_iter().collect();
    assert!(!links.apply(LinkChange::Set(link(2, "eth0", Kind::Plain))));
    assert!(links.apply(LinkChange::Set(link(2, "lan0", Kind::Plain))));
    assert!(links.named("lan0").is_some());
    assert!(links.apply(LinkChange::Gone(2)));
    assert!(!links.apply(LinkChange::Gone(2)));
}
