//! What users change: timeouts, peers, drains.

use std::time::Duration;

use speaker_core::cluster::{Partition, Settings};
use speaker_sim::{Fault, Scenario};

use crate::{gap, play, several};

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
