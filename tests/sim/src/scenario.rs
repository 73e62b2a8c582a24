//! The scenario of a seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use fastrand::Rng;
use speaker_core::cluster::{Failback, Partition, Settings};

use super::{fault::Fault, net::Weather};

/// The start time of a node that does not start.
pub const NEVER: u64 = u64::MAX;

/// A cluster, its network, and what happens to it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its seed, also for random choices during the run.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many VIPs.
    pub vips: usize,
    /// For each VIP, each node's preference; `None` if it is not a candidate.
    pub candidates: Vec<Vec<Option<i64>>>,
    /// VIPs that follow another one, and share its candidates.
    pub follows: BTreeMap<usize, usize>,
    /// The partition policy.
    pub partition: Partition,
    /// Which nodes some know at the start; the rest know all.
    pub told: BTreeMap<usize, BTreeSet<usize>>,
    /// Nodes with other than the default settings.
    pub settings: BTreeMap<usize, Settings>,
    /// The fail-back policy.
    pub failback: Failback,
    /// The drift of each clock, in parts per million.
    pub drift: Vec<i64>,
    /// When each node first starts, in milliseconds.
    pub starts: Vec<u64>,
    /// Announcements reach all hosts, even if probes and messages do not.
    pub wired: bool,
    pub(super) weather: Weather,
    /// The events, with their times in milliseconds.
    pub faults: Vec<(u64, Fault)>,
}

impl Scenario {
    /// The scenario of this seed.
    pub fn new(seed: u64, nodes: Option<usize>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let drawn = *pick(&mut rng, &[1, 2, 2, 3, 3, 3, 3, 4, 5, 5, 6, 9]);
        let mut scenario = Self::quiet(seed, nodes.unwrap_or(drawn));
        let nodes = scenario.nodes;
        scenario.vips = rng.usize(1..=12);
        scenario.candidates = (0..scenario.vips)
            .map(|_| candidates(&mut rng, nodes))
            .collect();
        if rng.u8(0..4) == 0 {
            scenario.partition = Partition::Majority;
        }
        scenario.wired = rng.u8(0..3) == 0;
        scenario.failback = match rng.u8(0..6) {
            0 => Failback::Immediate,
            1 => Failback::After(Duration::from_millis(rng.u64(1..5_000))),
            _ => Failback::Never,
        };
        // As far off as the settings allow.
        scenario.drift = (0..nodes).map(|_| rng.i64(-1_000..=1_000)).collect();
        let spread = *pick(&mut rng, &[1, 300, 5_000]);
        scenario.starts = (0..nodes).map(|_| rng.u64(0..spread)).collect();
        // Two nodes cannot tell a storm from a split.
        let loss = if nodes < 3 { 10_000 } else { 60_000 };
        if rng.bool() {
            scenario.weather = Weather {
                loss: rng.u32(0..loss),
                twice: rng.u32(0..20_000),
                late: rng.u32(0..5_000),
            };
        }
        let mut at = 4_000 + spread;
        for _ in 0..rng.u8(1..=8) {
            let fault = fault(&mut rng, nodes, scenario.vips);
            let wait = *pick(&mut rng, &[10, 400, 3_000, 10_000]);
            at += rng.u64(0..wait);
            scenario.faults.push((at, fault));
        }
        // Drawn last, so that the rest of a seed does not change.
        if rng.bool() {
            scenario.follows = follows(&mut rng, scenario.vips);
        }
        let followers: Vec<usize> = scenario.follows.keys().copied().collect();
        if !followers.is_empty() && rng.bool() {
            let vip = *pick(&mut rng, &followers);
            let span = rng.u64(1..12_000);
            scenario = scenario.with(rng.u64(4_000 + spread..=at), Fault::Separate { vip, span });
        }
        if rng.u8(0..5) == 0 {
            let node = rng.usize(0..nodes);
            let span = rng.u64(200..12_000);
            scenario = scenario.with(rng.u64(4_000 + spread..=at), Fault::Choke { node, span });
        }
        if rng.u8(0..5) == 0 {
            for node in (0..nodes).filter(|_| rng.bool()).collect::<Vec<_>>() {
                let settings = settings(&mut rng, scenario.partition);
                scenario.settings.insert(node, settings);
            }
        }
        if rng.u8(0..5) == 0 {
            scenario.told = (0..nodes).map(|node| (node, [0].into())).collect();
            // Nodes that never existed at the same time cannot know each other.
            scenario.starts[0] = 0;
        }
        if nodes > 1 && rng.u8(0..5) == 0 {
            let span = rng.u64(200..20_000);
            let ways = holes(&mut rng, nodes);
            scenario = scenario.with(rng.u64(4_000 + spread..=at), Fault::Holes { ways, span });
        }
        if rng.u8(0..8) == 0 {
            let node = rng.usize(0..nodes);
            let span = rng.u64(200..20_000);
            scenario = scenario.with(rng.u64(4_000 + spread..=at), Fault::Deaf { node, span });
        }
        scenario
    }

    /// A few nodes, one VIP, and no faults.
    pub fn quiet(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            vips: 1,
            candidates: vec![vec![Some(0); nodes]],
            follows: BTreeMap::new(),
            partition: Partition::Available,
            told: BTreeMap::new(),
            settings: BTreeMap::new(),
            failback: Failback::Never,
            drift: vec![0; nodes],
            starts: vec![0; nodes],
            wired: false,
            weather: Weather::default(),
            faults: Vec::new(),
        }
    }

    /// The same with this event at that time, in milliseconds.
    pub fn with(mut self, at: u64, fault: Fault) -> Self {
        self.faults.push((at, fault));
        self.faults.sort_by_key(|(at, _)| *at);
        self
    }

    /// The peers of a node's first agent.
    pub(super) fn settings_of(&self, node: usize) -> Settings {
        let other = self.settings.get(&node).cloned();
        other.unwrap_or_else(|| Settings::new(self.partition))
    }

    /// When the first fault begins, in milliseconds.
    pub(super) fn trouble(&self) -> u64 {
        self.faults.first().map_or(self.calm(), |(at, _)| *at)
    }

    /// When the last fault is over, in milliseconds.
    pub(super) fn calm(&self) -> u64 {
        let faults = self.faults.iter().map(|(at, fault)| at + fault.span());
        let starts = self.starts.iter().filter(|at| **at != NEVER);
        let starts = starts.map(|at| at + 4_000);
        faults.chain(starts).max().unwrap_or_default()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} nodes, {} VIPs, {:?}, failback {:?}, wired {}, {:?}",
            self.seed,
            self.nodes,
            self.vips,
            self.partition,
            self.failback,
            self.wired,
            self.weather
        )?;
        writeln!(
            f,
            "  starts {:?} ms, drift {:?} ppm",
            self.starts, self.drift
        )?;
        for (vip, candidates) in self.candidates.iter().enumerate() {
            writeln!(f, "  VIP {vip}: {candidates:?}")?;
        }
        for (node, told) in &self.told {
            writeln!(f, "  node {node} is told of {told:?}")?;
        }
        for (node, settings) in &self.settings {
            writeln!(f, "  node {node}: {settings:?}")?;
        }
        if !self.follows.is_empty() {
            writeln!(f, "  follows: {:?}", self.follows)?;
        }
        for (at, fault) in &self.faults {
            writeln!(f, "  {at} ms: {fault}")?;
        }
        Ok(())
    }
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(0..from.len())]
}

fn candidates(rng: &mut Rng, nodes: usize) -> Vec<Option<i64>> {
    let all = rng.u8(0..3) != 0;
    let preferred = rng.u8(0..4) == 0;
    (0..nodes)
        .map(|_| {
            let candidate = all || rng.bool();
            let score = if preferred { rng.i64(0..3) } else { 0 };
            candidate.then_some(score)
        })
        .collect()
}

/// Slower times than the defaults, set as a user might set only some.
fn settings(rng: &mut Rng, partition: Partition) -> Settings {
    let defaults = Settings::new(partition);
    let longer = Duration::from_millis(rng.u64(0..2_000));
    Settings {
        peers_lease: defaults.peers_lease + longer,
        take_over_after: defaults.take_over_after + longer + longer / 100,
        ..defaults
    }
}

fn follows(rng: &mut Rng, vips: usize) -> BTreeMap<usize, usize> {
    let mut follows = BTreeMap::new();
    for vip in 1..vips {
        let leader = rng.usize(0..vip);
        if rng.bool() && !follows.contains_key(&leader) {
            follows.insert(vip, leader);
        }
    }
    follows
}

/// Some pairs of nodes that lose packets one way or both.
fn holes(rng: &mut Rng, nodes: usize) -> Vec<(usize, usize)> {
    let mut ways = Vec::new();
    for _ in 0..rng.usize(1..=nodes) {
        let one = rng.usize(0..nodes);
        let other = (one + rng.usize(1..nodes)) % nodes;
        ways.push((one, other));
        if rng.bool() {
            ways.push((other, one));
        }
    }
    ways
}

fn fault(rng: &mut Rng, nodes: usize, vips: usize) -> Fault {
    let node = rng.usize(0..nodes);
    let other = (node + rng.usize(1..nodes.max(2))) % nodes;
    let span = match rng.u8(0..4) {
        0 => rng.u64(1..400),
        1 => rng.u64(200..3_000),
        _ => rng.u64(1_000..12_000),
    };
    let after = rng.usize(0..12);
    match rng.u8(0..21) {
        0 | 1 => Fault::Crash {
            node,
            back: rng.bool().then_some(1_000 + span),
        },
        2 | 3 => Fault::Kill {
            node,
            after,
            back: span,
        },
        4 | 5 => Fault::Stop { node, after, span },
        6 => Fault::Busy {
            pause: rng.u64(10..300),
            span,
        },
        7 | 8 => Fault::Freeze { node, span },
        9 | 10 => Fault::Restart {
            node,
            away: 400 + if span > 10_000 { 4 * span } else { span },
        },
        11 => Fault::Leave {
            node,
            back: rng.bool().then_some(500 + span),
        },
        12 => Fault::Split {
            side: (0..nodes).filter(|_| rng.bool()).collect(),
            span,
        },
        13 => Fault::OneWay {
            from: node,
            to: other,
            span,
        },
        14 => Fault::Cut {
            one: node,
            other,
            span,
        },
        15 => Fault::Mute {
            node,
            inbound: rng.bool(),
            span,
        },
        16 => match rng.u8(0..3) {
            0 => Fault::Storm {
                loss: rng.u32(50_000..600_000),
                span,
            },
            1 => Fault::NoProbes { span },
            _ => Fault::Rebalance { asked: node },
        },
        17 => Fault::LinkDown { node, span },
        18 => Fault::Drain { node, span },
        19 => Fault::Move {
            asked: node,
            vip: rng.usize(0..vips),
            to: other,
        },
        _ => Fault::Withdraw {
            vip: rng.usize(0..vips),
            span,
        },
    }
}
