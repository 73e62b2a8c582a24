//! The loaded program against the host function: the same frames and tables give the same verdicts,
//! bytes, counters and events.

use std::env;

use fastrand::Rng;
use speaker_common::{
    layout::Event,
    probe::{self, Probe},
    respond::{Reason, Verdict},
    testing::{
        Node, Outcome, Subject,
        random::{self, SLOTS, World},
    },
};
use speaker_tests::program::{self, Program, object};

/// Selects the random frames; a failure prints it.
const SEED: &str = "SPEAKER_TEST_SEED";

const FRAMES_PER_WORLD: usize = 500;

#[test]
fn the_loaded_program_does_what_the_host_function_does() {
    program::test(object::SPEAKER, |program| compare(program, 320));
}

#[test]
fn the_traced_program_does_what_the_host_function_does() {
    program::test(object::TRACED, |program| compare(program, 80));
}

fn compare(program: &mut Program, worlds: usize) {
    let seed = match env::var(SEED) {
        Ok(seed) => seed.parse().expect("a seed is a number"),
        Err(_) => 1,
    };
    let mut rng = Rng::with_seed(seed);
    let mut node = Node::new();
    let mut verdicts = [0_usize; 3];
    for number in 0..worlds {
        let world = World::random(&mut rng);
        // One clock, as far as the lease goes.
        node.now_ns = program.now_ns();
        world.enter(&mut node);
        world.enter(program);
        for _ in 0..FRAMES_PER_WORLD {
            let frame = random::frame(&mut rng);
            let context = || {
                format!(
                    "{SEED}={seed}, world {number}: {world:?}\nframe {}",
                    hex(&frame)
                )
            };
            let expected = node.handle(&frame);
            let found = program.handle(&frame);
            assert_eq!(show(&found), show(&expected), "{}", context());
            assert_eq!(
                timeless(program.take_events()),
                timeless(node.take_events()),
                "{}",
                context()
            );
            assert_eq!(program.peers(), node.peers(), "{}", context());
            verdicts[expected.verdict as usize] += 1;
        }
        assert_same_records(program, &node);
        world.leave(&mut node);
        world.leave(program);
    }
    println!("pass, drop, transmit: {verdicts:?}");
    for reason in Reason::ALL {
        // These need a driver without headroom, and a full ring.
        let out_of_reach = matches!(reason, Reason::NoRoom | Reason::EventLost);
        assert!(node.reason(*reason) > 0 || out_of_reach, "never {reason:?}");
    }
    let frames = worlds * FRAMES_PER_WORLD;
    let [_, dropped, transmitted] = verdicts;
    assert!(
        dropped > frames / 100 && transmitted > frames / 80,
        "of {frames} frames too few say anything: {verdicts:?}"
    );
}

fn assert_same_records(program: &Program, node: &Node) {
    for reason in Reason::ALL {
        assert_eq!(program.reason(*reason), node.reason(*reason), "{reason:?}");
    }
    for slot in 0..SLOTS {
        let (mut found, expected) = (program.counters(slot), node.counters(slot));
        assert!(
            found.last_request_ns >= expected.last_request_ns,
            "slot {slot}"
        );
        assert!(found.last_request_ns <= program.now_ns(), "slot {slot}");
        found.last_request_ns = expected.last_request_ns;
        assert_eq!(found, expected, "slot {slot}");
    }
}

fn timeless(events: Vec<Event>) -> Vec<Event> {
    let timeless = |event| Event {
        time_ns: 0,
        ..event
    };
    events.into_iter().map(timeless).collect()
}

fn show(outcome: &Outcome) -> (Verdict, String, Option<Probe>) {
    let Some((place, probe)) = random::probe_in(&outcome.frame) else {
        return (outcome.verdict, hex(&outcome.frame), None);
    };
    if outcome.verdict != Verdict::Transmit {
        return (outcome.verdict, hex(&outcome.frame), Some(probe));
    }
    // The two clocks differ, and with them both checksums.
    let timeless = Probe {
        time_ns: 0,
        agent_age_ms: 0,
        agent_left_ms: 0,
        ..probe
    };
    const CHECKSUM: usize = 2;
    let mut frame = outcome.frame.clone();
    frame[place - CHECKSUM..place + probe::LENGTH].fill(0);
    (outcome.verdict, hex(&frame), Some(timeless))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
