//! Hosts that are lost, and how fast others take their VIPs over.

use std::time::Duration;

use speaker_core::cluster::{Partition, Settings, Timing};
use speaker_sim::{
    Fault, Scenario,
    measure::{FailOver, MassFailOver},
};

use crate::{gap, play, several};

#[test]
fn a_dead_hosts_vips_are_answered_elsewhere_within_the_bound() {
    let timing = Timing::new(Settings::new(Partition::Available)).unwrap();
    // The model's slowest packet that is not late.
    let bound = timing.fail_over(Duration::from_micros(400));
    for nodes in [2, 3, 5] {
        for node in 0..nodes {
            let fault = Fault::Crash { node, back: None };
            let seed = (10 * nodes + node) as u64;
            let tally = play(several(seed, nodes).with(10_000 + 37 * seed, fault));
            assert!(gap(tally) < bound, "{nodes} nodes: {:?}", gap(tally));
            assert!(
                gap(tally) > Duration::from_millis(200),
                "{nodes} nodes: {:?}",
                gap(tally)
            );
        }
    }
}

#[test]
fn fail_over_takes_less_than_half_a_second() {
    for nodes in [3, 5] {
        let measured = FailOver::measure(nodes, 100).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(
            measured.quantile(1.0) < Duration::from_millis(500),
            "{measured}"
        );
    }
}

#[test]
fn several_of_five_hosts_that_die_at_once_are_replaced_within_the_bound() {
    let timing = Timing::new(Settings::new(Partition::Available)).unwrap();
    let bound = timing.fail_over(Duration::from_micros(400));
    for lost in 2..5 {
        for first in 0..5 {
            let mut scenario = several(first as u64, 5);
            for node in (first..first + lost).map(|node| node % 5) {
                let at = 10_000 + 37 * first as u64;
                scenario = scenario.with(at, Fault::Crash { node, back: None });
            }
            let gap = gap(play(scenario));
            assert!(gap < bound, "{lost} from {first} on: {gap:?}");
        }
    }
}

#[test]
fn ten_thousand_vips_of_a_dead_host_are_claimed_in_batches() {
    let mass = MassFailOver::measure(3, 10_000).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(mass.moved, 10_000);
    assert!(mass.took < Duration::from_millis(500), "{mass}");
    assert!(mass.messages < 10_000 / 4, "{mass}");
}

/// Each of the others has to agree that the host is dead.
#[test]
fn a_briefly_frozen_agent_delays_a_fail_over_little() {
    for node in 0..3 {
        for still in (150..350).step_by(20) {
            let crash = Fault::Crash { node, back: None };
            let stop = Fault::Stop {
                node: (node + 1) % 3,
                after: 0,
                span: 80,
            };
            let scenario = several(node as u64, 3).with(10_000, crash);
            let gap = gap(play(scenario.with(10_000 + still, stop)));
            assert!(gap < Duration::from_millis(500), "{still} ms: {gap:?}");
        }
    }
}

/// Nobody else renews its lease, or can tell it that the host is dead.
#[test]
fn a_briefly_frozen_agent_of_the_last_host_delays_a_fail_over_little() {
    let crash = Fault::Crash {
        node: 0,
        back: None,
    };
    for (seed, frozen) in (0..350).step_by(10).enumerate() {
        let at = 10_000 + 37 * seed as u64;
        let stop = Fault::Stop {
            node: 1,
            after: 0,
            span: 60,
        };
        let scenario = several(seed as u64, 2).with(at, crash.clone());
        let gap = gap(play(scenario.with(at + frozen, stop)));
        assert!(gap < Duration::from_millis(700), "{frozen} ms: {gap:?}");
    }
}

#[test]
fn a_node_that_dies_before_all_have_met_it_delays_nothing() {
    // It is back after a moment, and one of the others does not hear of its second life.
    let crash = |back| Fault::Crash { node: 0, back };
    for again in (15_000..15_300).step_by(20) {
        let (ways, span) = (vec![(0, 2)], 1_000);
        let scenario = several(1, 4)
            .with(14_800, crash(Some(200)))
            .with(14_990, Fault::Holes { ways, span })
            .with(again, crash(None));
        play(scenario);
    }
}

/// All other nodes die at the same moment.
fn only(left: &[usize], nodes: usize) -> Scenario {
    let mut scenario = several(1, nodes);
    for node in (0..nodes).filter(|node| !left.contains(node)) {
        scenario = scenario.with(20_000, Fault::Crash { node, back: None });
    }
    scenario
}

/// Those that are left watch each other, but not one of the lost. Each has stalled since all met.
#[test]
fn nodes_that_die_along_with_their_watchers_are_replaced_in_less_than_a_second() {
    for left in [[0, 6], [4, 6]] {
        let mut scenario = only(&left, 7);
        for node in left {
            let (after, span) = (0, 100);
            scenario = scenario.with(15_000, Fault::Stop { node, after, span });
        }
        let gap = gap(play(scenario));
        assert!(gap < Duration::from_millis(800), "{left:?}: {gap:?}");
    }
}

#[test]
fn the_last_of_many_nodes_takes_over_all_vips_in_less_than_a_second() {
    // The first of 40 nodes watches none of the others.
    for (nodes, left) in [(6, 0), (6, 1), (6, 2), (6, 3), (6, 4), (6, 5), (40, 0)] {
        let gap = gap(play(only(&[left], nodes)));
        assert!(
            gap < Duration::from_millis(700),
            "{left} of {nodes}: {gap:?}"
        );
    }
}

/// For a moment, only two other agents run. They watch each other, and neither watches the node nor
/// is watched by it. When the rest are back, the node's host is paused.
#[test]
fn a_node_asks_all_members_before_it_believes_itself_alone() {
    for pause in (240..400).step_by(20) {
        let mut scenario = several(1, 8);
        for node in [1, 4, 5, 6, 7] {
            let (after, back) = (0, 600);
            scenario = scenario.with(20_000, Fault::Kill { node, after, back });
        }
        let (node, span) = (0, 2_000);
        play(scenario.with(20_000 + pause, Fault::Freeze { node, span }));
    }
}
