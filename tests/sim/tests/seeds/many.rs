//! Many seeds, and those that once failed.

use speaker_sim::Options;

/// Seeds per part; the parts run in parallel in every test run.
const SEEDS: u64 = 400;

fn many_seeds(part: u64) {
    for seed in part * SEEDS..(part + 1) * SEEDS {
        if let Err(failure) = speaker_sim::run(seed, &Options::default()) {
            panic!("{failure}\nplay it again: cargo xtask sim --start {seed} --seeds 1 --trace");
        }
    }
}

#[test]
fn seeds_part_1() {
    many_seeds(0);
}

#[test]
fn seeds_part_2() {
    many_seeds(1);
}

#[test]
fn seeds_part_3() {
    many_seeds(2);
}

#[test]
fn seeds_part_4() {
    many_seeds(3);
}

/// More nodes than a seed would have: only a few of the others watch each.
fn seeds_of(nodes: usize, seeds: std::ops::Range<u64>) {
    let options = Options {
        nodes: Some(nodes),
        ..Options::default()
    };
    for seed in seeds {
        if let Err(failure) = speaker_sim::run(seed, &options) {
            panic!(
                "{failure}\nplay it again: cargo xtask sim --start {seed} --seeds 1 --nodes {nodes} \
                 --trace"
            );
        }
    }
}

#[test]
fn seeds_with_thirty_nodes() {
    seeds_of(30, 0..4);
}

/// Seeds that once broke an invariant, and how.
const FOUND: [(u64, Option<usize>, &str); 34] = [
    (
        3,
        None,
        "two owners saw only each other's announcements, once each",
    ),
    (
        25,
        None,
        "the first announcement came before the split was noticed",
    ),
    (
        467,
        None,
        "a node that nobody heard took itself for alone, though it heard the others",
    ),
    (
        2937,
        None,
        "a node did not know what the kernel of a restarting node answered",
    ),
    (
        3028,
        None,
        "a node resumed alone what another had taken from it",
    ),
    (
        10118,
        None,
        "an old life, no heavier than another, never began anew",
    ),
    (
        50016,
        Some(9),
        "two sides of a split did not agree on who was lost",
    ),
    (
        100963,
        None,
        "all probes were lost, and an agent stood still",
    ),
    (
        300023,
        None,
        "a late reply of a dead host was waited for to be heard by it",
    ),
    (300606, None, "a claim was never heard by who came back"),
    (301590, None, "two claims were begun before their nodes met"),
    (
        302868,
        None,
        "loneliness was ended by a node that fell silent at once",
    ),
    (
        3031,
        None,
        "an agent that stands still settles nothing on the wire",
    ),
    (
        3116,
        None,
        "a host came back with its clock set back, and not all knew its former life",
    ),
    (
        5163,
        None,
        "what a node had claimed where nobody heard it was never asked for",
    ),
    (
        5271,
        None,
        "a node that nobody renewed neither began anew nor could insist",
    ),
    (
        700540,
        None,
        "nobody asked who it was that others took for dead, and that was never met here",
    ),
    (
        700868,
        None,
        "an agent that had stood still read that all had left, and not yet that they were back",
    ),
    (
        705389,
        None,
        "a kernel that was renewed was looked at only at the next heartbeat",
    ),
    (
        800240,
        None,
        "a node said of a VIP that it had conceded that it owned it",
    ),
    (
        802251,
        None,
        "a VIP was owned on what the kernel had said before",
    ),
    (
        803140,
        None,
        "a node whose packets were lost held members to be down, on the word of one that it did not hear",
    ),
    (
        808364,
        None,
        "a node that had been cut off took over what a restarting node answered",
    ),
    (
        823956,
        None,
        "a node that heard the others again waited for a dead one to hear that it did",
    ),
    (
        870314,
        None,
        "a node that had kept its VIPs through a split did not announce them",
    ),
    (
        862401,
        None,
        "a node that was told of nobody claimed before the one that looked for it found it",
    ),
    (
        961566,
        None,
        "a node that was frozen while it joined forgot a kernel that it knew to be answering",
    ),
    (
        977_315,
        None,
        "a claim that nobody vouched for was withdrawn, and nobody was told",
    ),
    (
        971_328,
        None,
        "a new agent kept the VIPs of a kernel that had been silent, which others had taken",
    ),
    (
        982_178,
        None,
        "a node's kernel was renewed by those that joined the ones who had taken its VIPs over",
    ),
    (
        985_467,
        None,
        "a node that began a new life held one to be down that it had given up, and that replied since",
    ),
    (
        995_977,
        None,
        "of three nodes that claimed a VIP on the wire, each forgot what it was finding out about the others",
    ),
    (
        1_600_075,
        Some(2),
        "a node conceded a VIP on the wire to one that had become a member, and gave it up by message",
    ),
    (
        2_203_565,
        Some(5),
        "a node whose packets had been lost held others to be down as soon as the first one replied again",
    ),
];

#[test]
fn failed_seeds_stay_fixed() {
    for (seed, nodes, how) in FOUND {
        let options = Options {
            nodes,
            ..Options::default()
        };
        if let Err(failure) = speaker_sim::run(seed, &options) {
            panic!("{failure}\nonce before, {how}");
        }
    }
}
