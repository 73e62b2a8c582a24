//! What an agent does with what an earlier one left in the kernel.

use super::*;

#[test]
fn a_restart_in_time_swaps_the_program_without_disturbance() {
    let mut bench = Bench::resuming(adopted("10.0.0.5", true), eth0());
    bench
        .handle(wanted(&["10.0.0.5"]))
        .expect(&["attach 2", "Announcing(10.0.0.5, \"eth0\")"]);
    bench
        .wait(150.0)
        .expect(&["keep pins", "look 2", "announce 10.0.0.5"]);
}

#[test]
fn a_restart_after_the_lease_has_lapsed_announces_again() {
    let mut bench = Bench::resuming(adopted("10.0.0.5", false), eth0());
    bench.handle(wanted(&["10.0.0.5"])).expect(&[
        "attach 2",
        "put 10.0.0.5 Answer 4",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
}

/// An agent may be killed after it has taken a VIP over and before all clients have heard of it.
#[test]
fn an_unfinished_announcement_of_an_earlier_agent_is_repeated() {
    let mut bench = Bench::answering("10.0.0.5");
    bench
        .wait(1.1)
        .wait(1.1)
        .expect(&["announce 10.0.0.5", "announce 10.0.0.5"]);
    bench.wait(5.0).wait(0.0).expect(&[
        "keep pins",
        "look 2",
        "announce 10.0.0.5",
        "put 10.0.0.5 Answer 0 announced",
    ]);

    let unfinished = Vip::new(Action::Answer, 4);
    let mut bench = Bench::resuming(adopted_as("10.0.0.5", unfinished, true), eth0());
    bench.handle(wanted(&["10.0.0.5"])).expect(&[
        "attach 2",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
}

#[test]
fn a_mac_that_changed_while_no_agent_ran_is_announced() {
    let mac = [2, 0, 0, 0, 0, 7];
    let mut bench = Bench::resuming(adopted("10.0.0.5", true), Link { mac, ..eth0() });
    bench.handle(wanted(&["10.0.0.5"])).expect(&[
        "put 10.0.0.5 Answer 4",
        "set link 2",
        "attach 2",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
}

#[test]
fn unwanted_entries_of_an_earlier_agent_are_removed_and_their_slots_reused() {
    let mut bench = Bench::resuming(adopted("10.0.0.5", true), eth0());
    bench.handle(wanted(&["10.0.0.6"])).expect(&[
        "put 10.0.0.5 Suppress 4",
        "remove 10.0.0.5",
        "reset 0",
        "put 10.0.0.6 Answer 0",
        "attach 2",
        "Announcing(10.0.0.6, \"eth0\")",
        "announce 10.0.0.6",
    ]);
}
