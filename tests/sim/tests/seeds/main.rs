//! The cluster's decision code in the simulator: many seeds, a few faults by hand, and the proof
//! that each invariant check can fail.

mod many;
mod noticed;
mod played;

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
