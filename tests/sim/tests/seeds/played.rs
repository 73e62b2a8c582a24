//! A few faults, by hand.

use std::time::Duration;

use speaker_core::cluster::{Partition, Settings, Timing};
use speaker_sim::{
    Fault, NEVER, Scenario, Tally,
    measure::{FailOver, MassFailOver, Traffic},
};

use crate::{play, several};

fn gap(tally: Tally) -> Duration {
    Duration::from_nanos(tally.longest_gap)
}

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
fn ten_thousand_vips_of_a_dead_host_are_claimed_in_batches() {
    let mass = MassFailOver::measure(3, 10_000).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(mass.moved, 10_000);
    assert!(mass.took < Duration::from_millis(500), "{mass}");
    assert!(mass.messages < 10_000 / 4, "{mass}");
}

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
fn drained_vips_are_handed_over_at_once() {
    let fault = Fault::Drain {
        node: 0,
        span: 5_000,
    };
    let tally = play(several(1, 3).with(10_000, fault));
    assert!(gap(tally) < Duration::from_millis(2), "{:?}", gap(tally));
}

/// Settings for a slow network.
fn slow() -> Settings {
    Settings {
        peers_lease: Duration::from_secs(2),
        take_over_after: Duration::from_millis(2_100),
        ..Settings::new(Partition::Available)
    }
}

#[test]
fn nodes_with_different_times_are_waited_for_long_enough() {
    for node in 0..3 {
        // Its kernel goes on from where it was, if its lease is long.
        let fault = Fault::Freeze { node, span: 1_000 };
        let mut scenario = several(1, 3).with(10_000, fault);
        scenario.settings.insert(0, slow());
        play(scenario);
    }
}

/// Three nodes; the agent of the first has different times when it restarts at 10.4 s.
fn changing(seed: u64, before: Settings, after: Settings) -> Scenario {
    let node = 0;
    let mut scenario = several(seed, 3);
    scenario.settings.insert(node, before);
    let settings = after;
    scenario
        .with(9_000, Fault::Flags { node, settings })
        .with(10_000, Fault::Restart { node, away: 400 })
}

#[test]
fn a_shorter_lease_is_relied_on_once_the_longer_one_is_over() {
    for seed in 0..30 {
        let scenario = changing(seed, slow(), Settings::new(Partition::Available));
        let (node, span) = (0, 1_000);
        play(scenario.with(10_400 + seed * seed, Fault::Freeze { node, span }));
    }
}

#[test]
fn a_longer_lease_is_used_once_all_wait_for_it() {
    for seed in 0..30 {
        let scenario = changing(seed, Settings::new(Partition::Available), slow());
        let node = 0;
        // No other node hears of it in time.
        let choke = Fault::Choke { node, span: 500 };
        let freeze = Fault::Freeze { node, span: 1_000 };
        let at = 10_600 + seed;
        play(scenario.with(10_300, choke).with(at, freeze));
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

#[test]
fn nodes_removed_from_the_configuration_cost_nobody_the_majority() {
    let mut scenario = several(1, 10);
    scenario.partition = Partition::Majority;
    let gone: Vec<usize> = (4..10).collect();
    for node in gone.clone() {
        scenario = scenario.with(10_000, Fault::Crash { node, back: None });
    }
    let (nodes, back) = (gone, None);
    play(scenario.with(20_000, Fault::Remove { nodes, back }));
}

/// Three nodes; the others know only the first, which is lost for good.
fn told_of_one() -> Scenario {
    let mut scenario = several(1, 3);
    scenario.told = (0..3).map(|node| (node, [0].into())).collect();
    scenario.with(
        8_000,
        Fault::Crash {
            node: 0,
            back: None,
        },
    )
}

#[test]
fn nodes_find_each_other_again_without_their_seed_node() {
    let mut scenario = told_of_one();
    for node in 1..3 {
        let back = Some(5_000);
        scenario = scenario.with(12_000, Fault::Crash { node, back });
    }
    play(scenario);
}

#[test]
fn an_unconfigured_node_is_looked_for_for_days() {
    let mut scenario = told_of_one();
    // So that little happens in all that time.
    let second = Duration::from_secs(1);
    for node in 0..3 {
        let settings = Settings {
            probe_interval: 2 * second,
            suspect_after: 5 * second,
            peers_lease: 6 * second,
            take_over_after: 7 * second,
            agent_grace: 30 * second,
            ..Settings::new(Partition::Available)
        };
        scenario.settings.insert(node, settings);
    }
    let (one, other, span) = (1, 2, 25 * 3_600_000);
    play(scenario.with(60_000, Fault::Cut { one, other, span }));
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
fn pairs_that_cannot_hear_each_other_move_nothing() {
    // Packets from each to its predecessor are lost.
    let ways = (0..10).map(|from| (from, (from + 9) % 10)).collect();
    let span = 20_000;
    let tally = play(several(1, 10).with(10_000, Fault::Holes { ways, span }));
    assert_eq!((tally.takeovers, tally.longest_gap), (30, 0));
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

#[test]
fn blocked_probes_move_nothing() {
    let tally = play(several(1, 3).with(10_000, Fault::NoProbes { span: 20_000 }));
    assert_eq!((tally.takeovers, tally.longest_gap), (9, 0));
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

#[test]
fn the_steady_cost_of_a_node_grows_neither_with_the_cluster_nor_with_the_vips() {
    let per_node =
        |nodes, vips| Traffic::measure(nodes, vips).unwrap_or_else(|failure| panic!("{failure}"));
    let (ten, many, forty) = (per_node(10, 10), per_node(10, 1_000), per_node(40, 10));
    assert!(ten.packets > 100, "{ten}");
    assert_eq!((many.packets, many.bytes), (ten.packets, ten.bytes));
    assert!(forty.bytes <= ten.bytes + ten.bytes / 10, "{ten}; {forty}");
}

/// Under this policy every node probes every other, and each reply asks whether the majority is
/// still there.
#[test]
fn a_lost_node_costs_the_majority_no_processor_time() {
    let idle = |lost: &[usize]| {
        let mut scenario = Scenario::quiet(1, 20);
        scenario.partition = Partition::Majority;
        for node in lost.iter().copied() {
            scenario = scenario.with(4_000, Fault::Crash { node, back: None });
        }
        play(scenario).idle_processor
    };
    let (whole, lost) = (idle(&[]), idle(&[0]));
    assert!(lost < 2 * whole, "{lost:?}, and {whole:?} before");
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
