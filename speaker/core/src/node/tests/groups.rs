//! The groups of IPv6 VIPs: joined while a VIP needs them, whatever the kernel does meanwhile.

use std::net::Ipv6Addr;

use super::*;

const GROUP: Membership = Membership {
    link: 2,
    group: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 5),
};

fn changed(link: Link) -> Input {
    Input::Link(LinkChange::Set(link))
}

fn joins(bench: &mut Bench) -> Vec<String> {
    let mut log = std::mem::take(&mut bench.log);
    log.retain(|line| line.starts_with("join") || line.starts_with("leave"));
    log
}

#[test]
fn vips_with_the_same_low_24_bits_share_a_group() {
    let mut bench = Bench::new();
    bench
        .handle(links([eth0()]))
        .handle(wanted(&["fd00::5", "fd00:1::5"]));
    assert_eq!(joins(&mut bench), ["join ff02::1:ff00:5 2"]);
    bench.handle(wanted(&["fd00:1::5"]));
    assert_eq!(joins(&mut bench), [""; 0]);
    bench.handle(wanted(&[]));
    assert_eq!(joins(&mut bench), ["leave ff02::1:ff00:5 2"]);
}

#[test]
fn wanted_groups_of_an_earlier_agent_are_kept_and_the_rest_left() {
    let mut bench = Bench::new();
    let stale = Membership { link: 7, ..GROUP };
    bench.handle(Input::Adopted(Adopted {
        joined: BTreeSet::from([GROUP, stale]),
        ..Adopted::default()
    }));
    bench.handle(links([eth0()])).expect(&[]);
    bench.handle(wanted(&["fd00::5"]));
    assert_eq!(joins(&mut bench), ["leave ff02::1:ff00:5 7"]);
}

/// The kernel has left the groups of a link whose MTU was too small for IPv6, for however short a
/// time.
#[test]
fn groups_lost_to_a_small_mtu_are_rejoined() {
    let with_mtu = |mtu| Input::Link(LinkChange::Set(Link { mtu, ..eth0() }));
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5", "fd00::5"]))
        .handle(links([eth0()]))
        .quiet();
    bench.handle(with_mtu(1279)).expect(&[
        "remove fd00::5",
        "Withdrawn(fd00::5, \"eth0\")",
        "NotAnnounced(fd00::5, \"interface eth0 has an MTU of 1279 bytes, and IPv6 needs 1280: \
         raise it, or use another interface\")",
    ]);
    bench.handle(with_mtu(1280)).expect(&[
        "join ff02::1:ff00:5 2",
        "reset 1",
        "put fd00::5 Answer 1",
        "Announcing(fd00::5, \"eth0\")",
        "announce fd00::5",
    ]);
    bench.quiet();
    for mtu in [576, 9000] {
        bench.node.handle(with_mtu(mtu), bench.now);
    }
    bench.settle();
    bench.expect(&["join ff02::1:ff00:5 2"]);
}

#[test]
fn groups_of_a_link_that_was_down_are_rejoined() {
    let mut bench = Bench::new();
    bench.handle(wanted(&["fd00::5"])).handle(links([eth0()]));
    for down in [
        Link {
            carrier: false,
            ..eth0()
        },
        Link {
            admin_up: false,
            ..eth0()
        },
    ] {
        joins(&mut bench);
        bench.handle(changed(down));
        assert_eq!(
            joins(&mut bench),
            [""; 0],
            "the kernel is about to forget them"
        );
        bench.handle(changed(eth0()));
        assert_eq!(joins(&mut bench), ["join ff02::1:ff00:5 2"]);
    }
}

#[test]
fn groups_are_rejoined_after_ipv6_was_off() {
    let addresses = BTreeSet::from([("fe80::1".parse().unwrap(), 64)]);
    let with_ipv6 = Link {
        addresses,
        ..eth0()
    };
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["fd00::5"]))
        .handle(links([with_ipv6.clone()]));
    joins(&mut bench);
    bench.handle(changed(eth0()));
    assert_eq!(joins(&mut bench), ["join ff02::1:ff00:5 2"]);
    bench.handle(changed(with_ipv6));
    assert_eq!(joins(&mut bench), [""; 0]);
}

/// A link may have gone down and come up again: the kernel has left its groups, and a switch has
/// forgotten its MAC.
#[test]
fn lost_messages_rejoin_groups_and_announce_vips() {
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["fd00::5"]))
        .handle(links([eth0()]))
        .quiet();
    bench
        .handle(Input::Link(LinkChange::Missed))
        .expect(&["join ff02::1:ff00:5 2", "announce fd00::5"]);
}

#[test]
fn a_link_with_a_reused_index_starts_without_groups() {
    let mut bench = Bench::new();
    bench.handle(wanted(&["fd00::5"])).handle(links([eth0()]));
    joins(&mut bench);
    let gone = Input::Link(LinkChange::Gone(2));
    bench.node.handle(gone, bench.now);
    bench.handle(changed(eth0()));
    assert_eq!(joins(&mut bench), ["join ff02::1:ff00:5 2"]);
}

/// The program moves, the link stays.
#[test]
fn a_program_that_makes_way_keeps_its_links_groups() {
    let subnet = |address: &str| BTreeSet::from([(address.parse().unwrap(), 64)]);
    let card = Link {
        addresses: subnet("fd00::1"),
        ..eth0()
    };
    let above = Link {
        index: 3,
        name: "mv0".into(),
        kind: Kind::Macvlan { parent: 2 },
        addresses: subnet("fd00:100::1"),
        ..eth0()
    };
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["fd00:100::6"]))
        .handle(links([card, above]));
    joins(&mut bench);
    bench.above = Some((2, 3));
    bench.handle(wanted(&["fd00:100::6", "fd00::5"]));
    assert!(
        bench.log.contains(&"detach 3".to_owned()),
        "{:?}",
        bench.log
    );
    assert_eq!(joins(&mut bench), ["join ff02::1:ff00:5 2"]);
}

#[test]
fn a_failed_group_join_is_reported_and_retried() {
    let mut bench = Bench::new();
    bench.refuses_group = true;
    bench.handle(wanted(&["fd00::5"])).handle(links([eth0()]));
    let told = |bench: &Bench| {
        let vip = vip("fd00::5");
        let answered = bench.node.answered().count();
        (bench.state(), bench.node.obstacle(vip), answered)
    };
    let refused = (
        "failed: no group".to_owned(),
        Some("no group".to_owned()),
        0,
    );
    assert_eq!(told(&bench), refused);
    let notices = |bench: &mut Bench| {
        let mut log = std::mem::take(&mut bench.log);
        log.retain(|line| line.starts_with("Refused"));
        log.len()
    };
    assert_eq!(notices(&mut bench), 1);
    bench.wait(5.1);
    assert_eq!(told(&bench), refused);
    assert_eq!(notices(&mut bench), 0, "the same again is no news");

    bench.refuses_group = false;
    let edition = bench.node.edition();
    bench.wait(5.1);
    assert_eq!(joins(&mut bench), ["join ff02::1:ff00:5 2"]);
    assert_eq!(told(&bench), ("answering".to_owned(), None, 1));
    assert!(
        bench.node.edition() > edition,
        "whoever publishes must hear of it"
    );
}
