//! VIPs that nodes share: which are answered, and how claims are reported.

use super::*;

#[test]
fn a_claim_is_reported_and_defended_once_in_ten_seconds() {
    let mut bench = Bench::answering("10.0.0.5");
    bench.quiet();
    let claim_by = |last| Input::Claimed {
        entry: entry("10.0.0.5"),
        by: [6, 0, 0, 0, 0, last],
    };
    let claim = || claim_by(6);
    // Neither is one from another MAC: a host may claim from any number of them.
    let claims = [claim(), claim_by(7), claim()];
    for claim in claims {
        bench.handle(claim);
    }
    bench.expect(&[
        "Conflict(10.0.0.5, [6, 0, 0, 0, 0, 6])",
        "announce 10.0.0.5",
    ]);
    bench.wait(10.1).log.clear();
    bench.handle(claim()).expect(&[
        "Conflict(10.0.0.5, [6, 0, 0, 0, 0, 6])",
        "announce 10.0.0.5",
    ]);
    let place = &bench.node.status(bench.now).vips[0].places[0];
    assert_eq!(place.conflicts, 4);
    assert_eq!(place.announced_ms_ago, Some(0));
    bench.wait(1.5);
    let place = &bench.node.status(bench.now).vips[0].places[0];
    assert_eq!(place.announced_ms_ago, Some(1_500));
}

#[test]
fn a_defence_against_a_member_is_one_announcement_in_ten_seconds_and_no_conflict() {
    let mut bench = Bench::answering("10.0.0.5");
    bench.quiet();
    let defend = || Input::Defend("10.0.0.5".parse().unwrap());
    bench.handle(defend()).expect(&["announce 10.0.0.5"]);
    bench.wait(9.0).log.clear();
    bench.handle(defend()).expect(&[]);
    bench.wait(1.1).log.clear();
    bench.handle(defend()).expect(&["announce 10.0.0.5"]);
    let place = &bench.node.status(bench.now).vips[0].places[0];
    assert_eq!(place.conflicts, 0);
}

#[test]
fn another_nodes_vip_is_suppressed_and_taken_over_with_one_write() {
    let mut bench = Bench::new();
    bench.give(wanted(&["fd00::5"]));
    bench.handle(links([eth0()])).expect(&[
        "set link 2",
        "join ff02::1:ff00:5 2",
        "reset 0",
        "put fd00::5 Suppress 0",
        "attach 2",
    ]);
    assert_eq!(bench.state(), "standby");
    bench.handle(answer("fd00::5", true)).expect(&[
        "put fd00::5 Answer 0",
        "Announcing(fd00::5, \"eth0\")",
        "announce fd00::5",
    ]);
    bench
        .handle(answer("fd00::5", false))
        .expect(&["put fd00::5 Suppress 0", "Withdrawn(fd00::5, \"eth0\")"]);
    bench.wait(4.9).expect(&[]);
}

#[test]
fn a_vip_is_checked_on_links_that_are_up() {
    let off = Link {
        index: 3,
        name: "eth1".into(),
        admin_up: false,
        ..eth0()
    };
    let mut bench = Bench::new();
    bench
        .handle(wanted(&["10.0.0.5"]))
        .handle(links([eth0(), off]));
    let places = bench.node.places(vip("10.0.0.5")).into_iter();
    let links: Vec<u32> = places.map(|(place, _)| place.link).collect();
    assert_eq!(links, [2]);
}

#[test]
fn a_lost_vip_is_silenced_whatever_waits() {
    let mut bench = Bench::new();
    bench.handle(wanted(&["10.0.0.5"])).handle(links([eth0()]));
    let many: Vec<String> = (1..=9).map(|n| format!("10.0.0.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    bench.give(wanted(&many));
    bench.node.poll(bench.now);
    bench.log.clear();
    bench.give(answer("10.0.0.5", false));
    bench.expect(&["put 10.0.0.5 Suppress 0"]);
}

#[test]
fn a_delayed_write_uses_the_current_owner() {
    let mut bench = Bench::new();
    bench.give(answer("10.0.0.5", true));
    bench.give(wanted(&["10.0.0.5"]));
    bench.give(links([eth0()]));
    bench.node.poll(bench.now);
    bench.give(answer("10.0.0.5", false));
    bench.settle();
    let puts: Vec<&str> = bench.log.iter().map(String::as_str).collect();
    assert!(!puts.contains(&"put 10.0.0.5 Answer 0"), "{puts:?}");
    assert_eq!(bench.state(), "standby");
}

#[test]
fn adopted_vips_can_be_given_up_before_the_intent_is_known() {
    let mut bench = Bench::new();
    bench.give(answer("10.0.0.5", true));
    bench
        .handle(adopted("10.0.0.5", true))
        .handle(answer("10.0.0.5", false))
        .expect(&["put 10.0.0.5 Suppress 4"]);
}

#[test]
fn only_answered_vips_are_announced_on_request() {
    let mut bench = Bench::answering("10.0.0.5");
    bench.quiet();
    let announce = || Input::Announce(vip("10.0.0.5"));
    bench
        .handle(announce())
        .expect(&["put 10.0.0.5 Answer 0", "announce 10.0.0.5"]);
    bench.quiet().handle(answer("10.0.0.5", false)).log.clear();
    bench.handle(announce()).expect(&[]);
}
