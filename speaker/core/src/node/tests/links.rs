//! Links that change while VIPs are on them.

use super::*;

fn unplugged() -> Link {
    Link {
        carrier: false,
        ..eth0()
    }
}

#[test]
fn link_up_and_mac_changes_announce_again() {
    let mut bench = Bench::answering("10.0.0.5");
    bench.quiet();
    bench
        .handle(Input::Link(LinkChange::Set(unplugged())))
        .expect(&[]);
    assert_eq!(bench.state(), "no carrier");
    bench
        .handle(Input::Link(LinkChange::Set(eth0())))
        .expect(&["announce 10.0.0.5"]);
    let mac = Link {
        mac: [2, 0, 0, 0, 0, 7],
        ..eth0()
    };
    bench.quiet();
    bench.handle(Input::Link(LinkChange::Set(mac))).expect(&[
        "put 10.0.0.5 Answer 0",
        "set link 2",
        "announce 10.0.0.5",
    ]);
}

#[test]
fn a_brief_link_loss_is_announced_even_if_noticed_late() {
    let mut bench = Bench::answering("10.0.0.5");
    bench.quiet();
    for change in [unplugged(), eth0()] {
        let change = Input::Link(LinkChange::Set(change));
        bench.node.handle(change, bench.now);
    }
    bench.settle();
    bench.expect(&["announce 10.0.0.5"]).quiet();

    for change in [LinkChange::Gone(2), LinkChange::Set(eth0())] {
        bench.node.handle(Input::Link(change), bench.now);
    }
    bench.settle();
    assert!(
        bench.log.contains(&"attach 2".to_owned()),
        "{:?}",
        bench.log
    );
}

#[test]
fn a_bond_failover_announces_again() {
    let bond = |active| Link {
        kind: Kind::Bond {
            active: Some(active),
        },
        ..eth0()
    };
    let member = |index, stands_by| Link {
        index,
        name: format!("member{index}"),
        master: Some(eth0().index),
        stands_by,
        addresses: BTreeSet::new(),
        ..eth0()
    };
    let mut bench = Bench::new();
    // Also where the operator names the members.
    let named = ["eth0", "member3", "member4"].map(str::to_owned);
    bench.node.site.choice = Choice::Named(BTreeSet::from(named));
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([bond(3), member(3, false), member(4, true)]))
        .quiet();
    // In the order of the kernel's messages.
    bench
        .handle(Input::Link(LinkChange::Set(bond(3))))
        .expect(&[]);
    bench
        .handle(Input::Link(LinkChange::Set(member(3, true))))
        .expect(&["remove link 3"]);
    bench
        .handle(Input::Link(LinkChange::Set(member(4, false))))
        .expect(&["set link 4"]);
    bench
        .handle(Input::Link(LinkChange::Set(bond(4))))
        .expect(&["announce 10.0.0.5"]);
}

/// The switch has learned the port of the bond's MAC in each VLAN.
#[test]
fn a_bond_failover_announces_the_vips_of_its_vlans() {
    let subnet = |address: &str| BTreeSet::from([(vip(address), 24)]);
    let bond = |active| Link {
        kind: Kind::Bond {
            active: Some(active),
        },
        addresses: subnet("10.0.0.1"),
        ..eth0()
    };
    let vlan = Link {
        index: 5,
        name: "eth0.100".into(),
        kind: Kind::Vlan {
            parent: eth0().index,
            id: 100,
            service: false,
        },
        addresses: subnet("10.0.100.1"),
        ..eth0()
    };
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5", "10.0.100.5"]))
        .handle(links([bond(3), vlan]))
        .quiet();
    bench
        .handle(Input::Link(LinkChange::Set(bond(4))))
        .log
        .retain(|line| line.starts_with("announce"));
    bench.expect(&["announce 10.0.0.5", "announce 10.0.100.5"]);
}

#[test]
fn a_link_may_return_with_another_index() {
    let mut bench = Bench::answering("10.0.0.5");
    bench.handle(Input::Link(LinkChange::Gone(2))).expect(&[
        "remove 10.0.0.5",
        "detach 2",
        "remove link 2",
        "Withdrawn(10.0.0.5, \"interface 2\")",
        "NotAnnounced(10.0.0.5, \"this node has no interface to answer on (see --interface)\")",
    ]);
    let again = Link { index: 9, ..eth0() };
    bench.handle(Input::Link(LinkChange::Set(again))).expect(&[
        "set link 9",
        "reset 0",
        "put 10.0.0.5 Answer 0",
        "attach 9",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
}
