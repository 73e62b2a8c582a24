//! How fast the decision code fails over, and what it costs, on the modelled network: a packet
//! takes 50 to 400 µs, and 1 in 1,000 is lost. Agents and kernels take no time themselves.

use std::{fmt, time::Duration};

use fastrand::Rng;
use nix::time::{ClockId, clock_gettime};

use super::{Failure, Fault, Options, Scenario, Tally, net::Weather, play};

/// How long VIPs were unanswered after their node had crashed, in runs with one crash each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailOver {
    nodes: usize,
    /// For each run, the time of the slowest VIP; shortest first.
    gaps: Vec<Duration>,
}

/// What one node takes when idle, and sends, as frames with all headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    nodes: usize,
    vips: usize,
    /// Per second.
    pub packets: u64,
    /// Per second.
    pub bytes: u64,
    /// Processor time per second of virtual time: that of the agent's deciding code, and of the
    /// model around it.
    pub processor: Duration,
}

/// The fate of very many VIPs of one node that crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MassFailOver {
    nodes: usize,
    vips: usize,
    /// VIPs that were taken over.
    pub moved: u64,
    /// From the crash to the last of them.
    pub took: Duration,
    /// From the crash on, by all nodes.
    pub messages: u64,
}

impl FailOver {
    /// Crashes one of the nodes, again and again.
    pub fn measure(nodes: usize, runs: u64) -> Result<Self, Box<Failure>> {
        let mut gaps = Vec::new();
        for seed in 0..runs {
            let mut rng = Rng::with_seed(seed);
            let (node, at) = (rng.usize(0..nodes), rng.u64(8_000..9_000));
            let mut scenario =
                several(seed, nodes, 3 * nodes).with(at, Fault::Crash { node, back: None });
            scenario.drift = (0..nodes).map(|_| rng.i64(-100..=100)).collect();
            scenario.weather = Weather {
                loss: 1_000,
                ..Weather::default()
            };
            let tally = play(scenario, &Options::default())?;
            // A node that owned nothing leaves no gap.
            gaps.extend(Some(tally.longest_gap).filter(|gap| *gap > 0));
        }
        let mut gaps: Vec<Duration> = gaps.into_iter().map(Duration::from_nanos).collect();
        gaps.sort_unstable();
        Ok(Self { nodes, gaps })
    }

    /// The quantile: the gap that this share of the runs did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.gaps.len().saturating_sub(1);
        let at = (share * last as f64).ceil() as usize;
        self.gaps.get(at).copied().unwrap_or_default()
    }
}

impl Traffic {
    /// Lets nodes run until nothing happens.
    pub fn measure(nodes: usize, vips: usize) -> Result<Self, Box<Failure>> {
        let Tally {
            idle_packets,
            idle_bytes,
            idle_processor,
            ..
        } = play(several(1, nodes, vips), &Options::default())?;
        let each = nodes as u64;
        Ok(Self {
            nodes,
            vips,
            packets: idle_packets / each,
            bytes: idle_bytes / each,
            processor: idle_processor / nodes as u32,
        })
    }
}

impl MassFailOver {
    /// Crashes the node that owns all of so many VIPs.
    pub fn measure(nodes: usize, vips: usize) -> Result<Self, Box<Failure>> {
        let mut scenario = several(1, nodes, vips);
        for candidates in &mut scenario.candidates {
            candidates[0] = Some(1);
        }
        let fault = Fault::Crash {
            node: 0,
            back: None,
        };
        let tally = play(scenario.with(10_000, fault), &Options::default())?;
        Ok(Self {
            nodes,
            vips,
            moved: tally.takeovers - vips as u64,
            took: Duration::from_nanos(tally.taken_over),
            messages: tally.messages,
        })
    }
}

/// The processor time that this thread has taken.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.expect("every thread has this clock").into()
}

/// VIPs that any of the nodes may own.
fn several(seed: u64, nodes: usize, vips: usize) -> Scenario {
    Scenario {
        vips,
        candidates: vec![vec![Some(0); nodes]; vips],
        ..Scenario::quiet(seed, nodes)
    }
}

impl fmt::Display for FailOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| self.quantile(share).as_secs_f64() * 1e3;
        write!(
            f,
            "fail-over, {} nodes, {} crashes: median {:.0} ms, p90 {:.0} ms, p99 {:.0} ms, max {:.0} ms",
            self.nodes,
            self.gaps.len(),
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(1.0)
        )
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "idle, {} nodes, {} VIPs: {} packets/s, {} bytes/s sent per node; {} µs/s of a \
             processor, including playing it",
            self.nodes,
            self.vips,
            self.packets,
            self.bytes,
            self.processor.as_micros()
        )
    }
}

impl fmt::Display for MassFailOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} VIPs of a node that crashed, {} nodes: {} taken over within {:.0} ms, {} messages",
            self.vips,
            self.nodes,
            self.moved,
            self.took.as_secs_f64() * 1e3,
            self.messages
        )
    }
}
