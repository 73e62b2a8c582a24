//! The cluster's decision code in the simulator: many seeds (`many`), the proof that each invariant
//! check can fail (`noticed`), and a few faults by hand (the rest).

mod agents;
mod cost;
mod hosts;
mod many;
mod network;
mod noticed;
mod settings;

use std::time::Duration;

use speaker_sim::{Options, Scenario, Tally};

fn play(scenario: Scenario) -> Tally {
    speaker_sim::play(scenario, &Options::default()).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Several VIPs, spread over the nodes by the hash.
fn several(seed: u64, nodes: usize) -> Scenario {
    let mut scenario = Scenario::quiet(seed, nodes);
    scenario.vips = 3 * nodes;
    scenario.candidates = vec![vec![Some(0); nodes]; scenario.vips];
    scenario
}

/// The longest time that a VIP went unanswered.
fn gap(tally: Tally) -> Duration {
    Duration::from_nanos(tally.longest_gap)
}
