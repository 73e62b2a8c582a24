//! Agents that die, restart or stall on hosts that live.

use std::time::Duration;

use speaker_core::cluster::{Partition, Settings};
use speaker_sim::{Fault, NEVER};

use crate::{gap, play, several};

#[test]
fn an_agents_short_death_is_a_non_event() {
    for nodes in [1, 2, 3, 5] {
        let once = play(several(1, nodes)).takeovers;
        let faults = [
            Fault::Kill {
                node: 0,
                after: 0,
                back: 2_500,
            },
            Fault::Stop {
                node: 0,
                after: 0,
                span: 2_500,
            },
            Fault::Restart {
                node: 0,
                away: 30_000,
            },
        ];
        for fault in faults {
            let tally = play(several(1, nodes).with(10_000, fault.clone()));
            assert_eq!(tally.takeovers, once, "{nodes} nodes, {fault}");
            assert!(
                gap(tally) < Duration::from_millis(3),
                "{nodes} nodes, {fault}: {:?}",
                gap(tally)
            );
        }
    }
}

#[test]
fn an_agents_long_death_moves_its_vips_after_the_grace() {
    let fault = Fault::Kill {
        node: 0,
        after: 0,
        back: 8_000,
    };
    let tally = play(several(1, 3).with(10_000, fault));
    assert!(tally.takeovers > 9);
    // The kernel stops three seconds after the last heartbeat, and is soon asked.
    assert!(gap(tally) < Duration::from_millis(200), "{:?}", gap(tally));
}

#[test]
fn a_rolling_upgrade_moves_nothing() {
    let mut scenario = several(1, 5);
    for node in 0..5 {
        let at = 10_000 + 3_000 * node as u64;
        scenario = scenario.with(at, Fault::Restart { node, away: 2_000 });
    }
    let tally = play(scenario);
    assert_eq!(tally.takeovers, 15);
    assert_eq!(tally.longest_gap, 0);
}

#[test]
fn an_overdue_restart_is_taken_over() {
    let (node, away) = (0, 20_000);
    let mut scenario = several(1, 3).with(10_000, Fault::Restart { node, away });
    let restart_grace = Duration::from_secs(5);
    let settings = Settings {
        restart_grace,
        ..Settings::new(Partition::Available)
    };
    scenario.settings.insert(node, settings);
    let tally = play(scenario);
    assert!(tally.takeovers > 9);
    let taken_over = Duration::from_nanos(tally.taken_over);
    assert!(taken_over > restart_grace, "{taken_over:?}");
    assert!(gap(tally) < Duration::from_millis(200), "{:?}", gap(tally));
}

#[test]
fn busy_cpus_move_nothing() {
    for seed in 0..4 {
        let fault = Fault::Busy {
            pause: 150,
            span: 60_000,
        };
        let tally = play(several(seed, 3).with(10_000, fault));
        assert_eq!((tally.takeovers, tally.longest_gap), (9, 0), "seed {seed}");
    }
}

#[test]
fn a_kernel_without_an_agent_is_respected_even_if_others_are_away() {
    // Only one of 20 nodes is up, and its agent is away, when another one starts.
    let (nodes, first, second) = (20, 0, 1);
    let mut scenario = several(1, nodes);
    scenario.starts = vec![NEVER; nodes];
    scenario.starts[first] = 0;
    scenario.starts[second] = 12_000;
    let (node, away) = (first, 40_000);
    let tally = play(scenario.with(10_000, Fault::Restart { node, away }));
    assert!(gap(tally) < Duration::from_millis(3), "{:?}", gap(tally));
}

/// The members know what the node may own whose agent is away: the newcomer takes everything else.
#[test]
fn a_node_that_joins_while_an_agent_restarts_takes_what_only_it_can_own() {
    for nodes in [3, 5] {
        let (away, newcomer) = (0, 1);
        let mut scenario = several(1, nodes);
        let mut only = vec![None; nodes];
        only[newcomer] = Some(0);
        scenario.candidates[0] = only;
        let restart = Fault::Restart {
            node: away,
            away: 30_000,
        };
        let crash = Fault::Crash {
            node: newcomer,
            back: Some(2_000),
        };
        let tally = play(scenario.with(10_000, restart).with(12_000, crash));
        assert!(gap(tally) < Duration::from_secs(4), "{:?}", gap(tally));
    }
}

/// The only member that knew what it may own is lost.
#[test]
fn a_node_for_which_nobody_vouches_keeps_its_vips_while_its_agent_restarts() {
    let restart = Fault::Restart {
        node: 0,
        away: 30_000,
    };
    let crash = |node, back| Fault::Crash { node, back };
    let scenario = several(1, 3)
        .with(10_000, restart)
        .with(12_000, crash(1, Some(1_000)))
        .with(15_000, crash(2, None));
    play(scenario);
}
