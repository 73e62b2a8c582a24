//! What an idle cluster costs.

use speaker_core::cluster::Partition;
use speaker_sim::{Fault, Scenario, measure::Traffic};

use crate::play;

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
