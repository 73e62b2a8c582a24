//! The program on its interfaces: what keeps it off one, and the consequences.

use super::*;

fn subnet(address: &str) -> BTreeSet<(IpAddr, u8)> {
    BTreeSet::from([(address.parse().unwrap(), 24)])
}

/// A card on which VLANs cannot be told apart, and a VLAN.
fn card_and_vlan() -> [Link; 2] {
    let card = Link {
        strips_vlan_tags: true,
        addresses: subnet("10.0.0.1"),
        ..eth0()
    };
    let vlan = Link {
        index: 1,
        name: "eth0.100".into(),
        kind: Kind::Vlan {
            parent: 2,
            id: 100,
            service: false,
        },
        addresses: subnet("10.0.100.1"),
        ..eth0()
    };
    [card, vlan]
}

impl Bench {
    /// What has been attached and detached since the last call.
    fn moves(&mut self) -> Vec<String> {
        let log = std::mem::take(&mut self.log);
        let moves = log.into_iter().filter(|line| line.contains("tach "));
        moves.collect()
    }

    /// The link of this name as reported to other nodes.
    fn obstacle(&self, name: &str) -> Option<String> {
        let links = self.node.usable_links();
        let link = links.into_iter().find(|link| link.name == name);
        link.expect("it is told of").obstacle
    }
}

/// Linux refuses a program on a device while one above it runs one.
#[test]
fn a_program_on_a_vlan_makes_way_for_the_one_on_the_card() {
    let mut bench = Bench::new();
    bench.above = Some((2, 1));
    bench
        .handle(wanted(&["10.0.100.5"]))
        .handle(links(card_and_vlan()))
        .log
        .clear();
    bench.handle(wanted(&["10.0.100.5", "10.0.0.5"]));
    assert_eq!(
        bench.moves(),
        ["attach 2", "detach 1", "attach 2", "attach 1"]
    );
    assert_eq!(bench.node.live.len(), 2);
}

/// The card itself runs somebody else's program.
#[test]
fn a_program_on_a_vlan_does_not_make_way_in_vain() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.100.5"]))
        .handle(links(card_and_vlan()));
    assert_eq!(bench.moves(), ["attach 1"]);
    bench.refuses_program = true;
    bench.handle(wanted(&["10.0.100.5", "10.0.0.5"]));
    assert_eq!(bench.moves(), ["attach 2"]);
    bench.wait(5.1).wait(5.1);
    assert_eq!(bench.moves(), ["attach 2", "attach 2"]);
    assert_eq!(bench.node.live.len(), 1, "the VLAN's is answered all along");
}

/// The device above runs somebody else's program.
#[test]
fn programs_do_not_make_way_repeatedly() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.100.5"]))
        .handle(links(card_and_vlan()));
    bench.above = Some((2, 7));
    bench.running.insert(7);
    bench.log.clear();
    bench.handle(wanted(&["10.0.100.5", "10.0.0.5"]));
    assert_eq!(
        bench.moves(),
        ["attach 2", "detach 1", "attach 2", "attach 1"]
    );
    bench.wait(5.1).wait(5.1);
    assert_eq!(bench.moves(), ["attach 2", "attach 2"]);
    assert_eq!(bench.node.live.len(), 1);
    bench.running.remove(&7);
    bench.wait(5.1);
    assert_eq!(bench.node.live.len(), 2);
}

#[test]
fn the_program_runs_on_the_probed_link_even_without_vips() {
    let mut bench = Bench::new();
    let probed = Link {
        addresses: subnet("192.0.2.1"),
        ..eth0()
    };
    let vips = Link {
        index: 3,
        name: "eth1".into(),
        addresses: subnet("10.0.0.1"),
        ..eth0()
    };
    let address = "192.0.2.1".parse().unwrap();
    bench
        .handle(Input::ProbedAt(address))
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([probed, vips]))
        .expect(&[
            "set link 2",
            "set link 3",
            "reset 0",
            "put 10.0.0.5 Answer 0",
            "attach 2",
            "attach 3",
            "Announcing(10.0.0.5, \"eth1\")",
            "announce 10.0.0.5",
        ]);
    let probes = bench.node.status(bench.now).probes;
    let by_kernel = ProbeStatus {
        address,
        interface: Some("eth0".to_owned()),
        reason: None,
    };
    assert_eq!(probes, Some(by_kernel));
}

#[test]
fn probes_without_a_program_are_reported_with_the_reason() {
    let mut bench = Bench::new();
    let address = "10.0.0.1".parse().unwrap();
    bench.refuses_program = true;
    bench
        .handle(Input::ProbedAt(address))
        .handle(wanted(&[]))
        .handle(links([eth0()]));
    let reason = |bench: &Bench| bench.node.status(bench.now).probes.and_then(|it| it.reason);
    let nowhere = "no interface of this node has the address 10.0.0.1: if it has another one now, \
                   restart the agent (see --gossip-bind)";
    assert_eq!(reason(&bench).as_deref(), Some(nowhere));
    let link = Link {
        addresses: subnet("10.0.0.1"),
        ..eth0()
    };
    bench.handle(Input::Link(LinkChange::Set(link)));
    assert_eq!(reason(&bench).as_deref(), Some("refused"));
}

#[test]
fn the_loss_of_the_address_where_probes_arrive_is_told_once() {
    let mut bench = Bench::new();
    let with_address = Link {
        addresses: subnet("10.0.0.1"),
        ..eth0()
    };
    bench
        .handle(Input::ProbedAt("10.0.0.1".parse().unwrap()))
        .handle(wanted(&[]))
        .handle(links([with_address]))
        .expect(&["set link 2", "attach 2"])
        .handle(Input::Link(LinkChange::Set(eth0())))
        .expect(&[
            "remove link 2",
            "Refused(\"the kernel does not answer other nodes' liveness probes, so this node \
             counts as dead as soon as its agent stops: no interface of this node has the address \
             10.0.0.1: if it has another one now, restart the agent (see --gossip-bind)\")",
        ])
        .handle(wanted(&[]))
        .expect(&[]);
}

#[test]
fn a_link_without_the_program_is_reported_to_other_nodes_until_it_runs() {
    let mut bench = Bench::new();
    bench.refuses_program = true;
    bench.handle(wanted(&["10.0.0.5"]));
    bench.handle(links([eth0()]));
    for _ in 0..3 {
        assert_eq!(bench.obstacle("eth0").as_deref(), Some("refused"));
        bench.wait(5.1);
    }
    // Even while it is being retried.
    bench.now += Duration::from_secs(6);
    bench.node.poll(bench.now);
    assert_eq!(bench.obstacle("eth0").as_deref(), Some("refused"));
    bench.settle();
    bench.refuses_program = false;
    bench.wait(5.1);
    assert_eq!(bench.obstacle("eth0"), None);
}

/// A bond whose program runs on it, or on its member, without knowing one of the two.
#[test]
fn a_vip_is_not_announced_on_a_link_unknown_to_the_program() {
    let bond = Link {
        kind: Kind::Bond { active: None },
        ..eth0()
    };
    let member = Link {
        index: 3,
        name: "eth1".into(),
        master: Some(2),
        ..eth0()
    };
    for unknown in [2, 3] {
        let mut bench = Bench::new();
        bench.refuses_link = Some(unknown);
        bench
            .handle(wanted(&["10.0.0.5"]))
            .handle(links([bond.clone(), member.clone()]));
        for tries in 1..=3 {
            assert_eq!(bench.state(), "failed: no cell");
            assert_eq!(bench.obstacle("eth0").as_deref(), Some("no cell"));
            let log = std::mem::take(&mut bench.log);
            assert!(
                !log.iter().any(|line| line.starts_with("announce")),
                "{log:?}"
            );
            let told = log.iter().filter(|line| *line == "Refused(\"no cell\")");
            assert_eq!(told.count(), usize::from(tries == 1), "{log:?}");
            bench.wait(5.1);
        }
        bench.refuses_link = None;
        bench.log.clear();
        bench.wait(5.1).expect(&[
            "keep pins",
            "look 2",
            &format!("set link {unknown}"),
            "Announcing(10.0.0.5, \"eth0\")",
            "announce 10.0.0.5",
        ]);
        assert_eq!(bench.state(), "answering");
        assert_eq!(bench.obstacle("eth0"), None);
    }
}

#[test]
fn a_program_detached_by_somebody_else_is_reattached_and_announces() {
    let mut bench = Bench::answering("10.0.0.5");
    bench.quiet();
    bench.wait(5.1).expect(&["keep pins", "look 2"]);
    bench.handle(Input::Detached(2)).expect(&[
        "TakenOff(\"eth0\")",
        "attach 2",
        "Withdrawn(10.0.0.5, \"eth0\")",
        "put 10.0.0.5 Answer 0",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
    // Checked where it runs.
    bench.refuses_program = true;
    bench.quiet().handle(Input::Detached(2)).log.clear();
    bench.wait(5.1).wait(5.1).expect(&["attach 2", "attach 2"]);
}

#[test]
fn an_untagged_vip_is_not_announced_where_hardware_strips_tags() {
    let mut bench = Bench::new();
    bench.strips_on = true;
    bench
        .handle(wanted(&["10.0.0.5", "10.0.100.5"]))
        .handle(links(card_and_vlan()));
    let state = |bench: &Bench, vip: &str| {
        let vips = bench.node.status(bench.now).vips.into_iter();
        let mut its = vips.filter(|it| it.address == vip.parse().ok());
        let it = its.next().expect("it is wanted");
        it.reason.unwrap_or_else(|| it.places[0].describe())
    };
    let reason = "interface eth0 strips VLAN tags from received frames and carries eth0.100: \
                  VIPs of the untagged network could be answered on a VLAN (fixed). Put the VIPs \
                  on a VLAN device, or on an interface without VLANs";
    for _ in 0..3 {
        assert_eq!(state(&bench, "10.0.100.5"), "answering");
        assert_eq!(state(&bench, "10.0.0.5"), reason);
        assert!(bench.obstacle("eth0").is_some());
        assert_eq!(bench.obstacle("eth0.100"), None);
        bench.log.clear();
        bench.wait(5.1);
        let tries = bench.log.iter().filter(|line| *line == "keep tags 2");
        assert_eq!(tries.count(), 1, "{:?}", bench.log);
    }
    bench.strips_on = false;
    bench.wait(5.1);
    assert_eq!(state(&bench, "10.0.0.5"), "answering");
}
