//! Packets that are lost: splits, cuts and one-way paths.

use std::time::Duration;

use speaker_sim::Fault;

use crate::{gap, play, several};

#[test]
fn a_total_partition_heals_within_seconds() {
    for minutes in [1, 30] {
        let mut scenario = several(1, 5);
        for one in 0..5 {
            for other in 0..one {
                let span = minutes * 60_000;
                scenario = scenario.with(10_000, Fault::Cut { one, other, span });
            }
        }
        let tally = play(scenario);
        let healed = Duration::from_nanos(tally.settled);
        assert!(
            healed < Duration::from_secs(7),
            "{minutes} minutes: {healed:?}"
        );
        assert_eq!(tally.takeovers, 5 * 15, "each had taken all");
    }
}

#[test]
fn one_cut_between_two_of_three_moves_nothing() {
    let fault = Fault::Cut {
        one: 0,
        other: 1,
        span: 20_000,
    };
    let tally = play(several(1, 3).with(10_000, fault));
    assert_eq!((tally.takeovers, tally.longest_gap), (9, 0));
}

#[test]
fn pairs_that_cannot_hear_each_other_move_nothing() {
    // Packets from each to its predecessor are lost.
    let ways = (0..10).map(|from| (from, (from + 9) % 10)).collect();
    let span = 20_000;
    let tally = play(several(1, 10).with(10_000, Fault::Holes { ways, span }));
    assert_eq!((tally.takeovers, tally.longest_gap), (30, 0));
}

/// The larger side has taken its VIPs over. On the smaller one, nodes that begin new lives tell each
/// other that it is a member, which keeps its kernel answering.
#[test]
fn a_node_whose_agent_restarts_on_the_smaller_side_of_a_split_stops_answering() {
    for small in 2..=4 {
        let leave = Fault::Leave {
            node: 1,
            back: Some(800),
        };
        let restart = Fault::Restart {
            node: 0,
            away: 60_000,
        };
        let split = Fault::Split {
            side: (small..9).collect(),
            span: 2_000,
        };
        let scenario = several(1, 9);
        play(
            scenario
                .with(9_900, leave)
                .with(10_000, restart)
                .with(10_300, split),
        );
    }
}

/// It announces what it owns when it believes itself alone, and answers nobody.
#[test]
fn a_node_that_hears_nothing_takes_no_vips() {
    for nodes in [2, 3, 5] {
        for at in (10_000..10_100).step_by(20) {
            let (node, span) = (0, 20_000);
            let mut scenario = several(1, nodes).with(at, Fault::Deaf { node, span });
            scenario.wired = true;
            let tally = play(scenario);
            let most = Duration::from_millis(500);
            assert!(
                gap(tally) < most,
                "{nodes} nodes, {at} ms: {:?}",
                gap(tally)
            );
        }
    }
}

#[test]
fn a_node_that_gets_no_replies_but_is_heard_takes_nothing() {
    for nodes in [3, 5] {
        let fault = Fault::Choke {
            node: 0,
            span: 20_000,
        };
        let once = play(several(1, nodes)).takeovers;
        let tally = play(several(1, nodes).with(10_000, fault));
        assert_eq!((tally.takeovers, tally.longest_gap), (once, 0), "{nodes}");
    }
}

/// It was given up while it was frozen, and has replied since; its acknowledgement of that is lost.
#[test]
fn a_node_that_replies_is_not_down_for_one_that_begins_a_new_life() {
    for node in [0, 1] {
        for span in (8_000..8_200).step_by(20) {
            let choke = Fault::Choke { node, span };
            let freeze = Fault::Freeze { node, span: 2_000 };
            let mut scenario = several(1, 2).with(10_000, choke).with(10_800, freeze);
            scenario.wired = true;
            play(scenario);
        }
    }
}

#[test]
fn blocked_probes_move_nothing() {
    let tally = play(several(1, 3).with(10_000, Fault::NoProbes { span: 20_000 }));
    assert_eq!((tally.takeovers, tally.longest_gap), (9, 0));
}
