//! Controllers and an API server, with events in random order.
//!
//! The invariant is checked in the API server's own state after every step: no two Services have an
//! address that they may not share. In the end the network heals, and every Service gets what it
//! can have.

mod server;
mod world;

use self::world::{Sabotage, World};

/// Runs one seed. Returns what went wrong, if anything.
fn play(seed: u64, sabotage: Sabotage, steps: usize) -> Result<(), String> {
    let mut world = World::new(seed, sabotage);
    for _ in 0..steps {
        world.step()?;
    }
    world.calm()
}

#[test]
fn no_two_services_ever_have_the_same_address() {
    for seed in 0..1_000 {
        if let Err(error) = play(seed, Sabotage::None, 2_000) {
            panic!("seed {seed}: {error}");
        }
    }
}

/// Each safeguard is needed: without it, the same worlds break the invariant.
#[track_caller]
fn must_break(sabotage: Sabotage) {
    let is_broken = |seed| {
        let played = play(seed, sabotage, 2_000);
        played.is_err_and(|error| error.contains("have both"))
    };
    let seed = (0..3_000).find(|&seed| is_broken(seed));
    assert!(seed.is_some(), "{sabotage:?} broke nothing");
}

#[test]
fn without_the_version_of_the_lease_the_invariant_breaks() {
    must_break(Sabotage::LeaseIgnoresVersion);
}

#[test]
fn without_the_entries_in_the_lease_the_invariant_breaks() {
    must_break(Sabotage::LeaseForgetsEntries);
}

#[test]
fn without_the_version_of_the_service_the_invariant_breaks() {
    must_break(Sabotage::StatusIgnoresVersion);
}

#[test]
fn without_fresh_lists_the_invariant_breaks() {
    must_break(Sabotage::ListsAreOld);
}
