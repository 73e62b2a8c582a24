//! Each invariant check can fail.

use speaker_sim::{Fault, Invariant, Options, Sabotage, Scenario};

use crate::{play, several};

fn broken_by(sabotage: Sabotage, scenario: Scenario) -> Invariant {
    let options = Options {
        sabotage: Some(sabotage),
        ..Options::default()
    };
    let failure = speaker_sim::play(scenario, &options).expect_err("no code can make up for that");
    failure.broken.invariant
}

#[test]
fn a_second_answer_is_detected() {
    let scenario = Scenario::quiet(1, 3);
    assert_eq!(broken_by(Sabotage::Usurper, scenario), Invariant::OneAnswer);
}

#[test]
fn a_kernel_that_ignores_its_lease_is_detected() {
    let mut scenario = several(1, 3);
    for node in 0..3 {
        scenario = scenario.with(
            10_000,
            Fault::Stop {
                node,
                after: 0,
                span: 100,
            },
        );
    }
    let stopped = Fault::Stop {
        node: 0,
        after: 0,
        span: 8_000,
    };
    let broken = broken_by(Sabotage::LeaseForgotten, scenario.with(15_000, stopped));
    assert!(matches!(broken, Invariant::OneAnswer | Invariant::Excluded));
}

#[test]
fn a_vip_without_an_owner_is_detected() {
    let scenario = Scenario::quiet(1, 3);
    assert_eq!(broken_by(Sabotage::Mute, scenario), Invariant::Settled);
}

#[test]
fn a_move_without_cause_is_detected() {
    // The moves are not over before the run is.
    let scenario = Scenario::quiet(1, 3).with(12_000, Fault::Rebalance { asked: 0 });
    assert_eq!(
        broken_by(Sabotage::Restless, scenario),
        Invariant::CausedMove
    );
}

/// Two VIPs that belong together; the first is moved.
fn two_together() -> Scenario {
    let mut scenario = Scenario::quiet(1, 3);
    scenario.vips = 2;
    scenario.candidates = vec![vec![Some(0); 3]; 2];
    scenario.follows = [(1, 0)].into();
    for (at, to) in [(10_000, 2), (11_000, 1), (12_000, 0)] {
        let asked = 0;
        scenario = scenario.with(at, Fault::Move { asked, vip: 0, to });
    }
    scenario
}

#[test]
fn separated_groups_are_detected() {
    play(two_together());
    let broken = broken_by(Sabotage::Apart, two_together());
    assert_eq!(broken, Invariant::Together);
}

#[test]
fn a_missing_announcement_is_detected() {
    let scenario = Scenario::quiet(1, 3);
    assert_eq!(
        broken_by(Sabotage::Unannounced, scenario),
        Invariant::Announced
    );
}

#[test]
fn an_answer_from_a_drained_node_is_detected() {
    let mut scenario = several(1, 3);
    for node in 0..3 {
        scenario = scenario.with(10_000, Fault::Drain { node, span: 30_000 });
    }
    let broken = broken_by(Sabotage::DrainIgnored, scenario);
    assert!(matches!(broken, Invariant::Excluded | Invariant::OneAnswer));
}
