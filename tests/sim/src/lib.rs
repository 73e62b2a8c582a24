//! The simulator: many nodes running the shipped decision code in virtual time, on a modelled
//! network and modelled kernels, with faults. A run is a pure function of its seed and options.
//!
//! What is real: [`speaker_core::cluster`], and how a kernel answers probes
//! ([`speaker_common::probe`]). What is modelled: clocks that drift, the network, the maps, the
//! shell that carries out commands one by one and can be frozen between any two.
//!
//! After every event the invariants of [`invariant`] are checked; after the last fault the network
//! is healed, and the cluster has to settle within the bound that [`Timing::settle`] gives.
//!
//! [`Timing::settle`]: speaker_core::cluster::Timing::settle

mod act;
mod fault;
pub mod invariant;
pub mod measure;
mod net;
mod node;
mod scenario;
mod shell;
mod world;

use std::{collections::VecDeque, fmt, time::Duration};

pub use fault::Fault;
pub use invariant::{Broken, Invariant};
pub use scenario::{NEVER, Scenario};

use world::{Trace, World};

/// The options of a run, in addition to its seed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How many nodes; by default, the seed decides.
    pub nodes: Option<usize>,
    /// Print everything as it happens.
    pub trace: bool,
    /// A defect of the model, to show that an invariant can fail.
    pub sabotage: Option<Sabotage>,
}

/// A defect of the model that no correct code could compensate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Kernels keep answering after their lease has lapsed.
    LeaseForgotten,
    /// No `Answer` entry is ever written.
    Mute,
    /// Announcements are not sent.
    Unannounced,
    /// A node answers for a VIP when its agent says that another one does.
    Usurper,
    /// Commands to stop answering are not carried out on a drained node.
    DrainIgnored,
    /// Owners are told to hand over VIPs although nobody requested it.
    Restless,
    /// Nodes are not told which VIPs belong together.
    Apart,
}

/// The result of a run. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events handled.
    pub events: u64,
    /// How often a node began to own a VIP.
    pub takeovers: u64,
    /// The longest time that a VIP, once answered, went unanswered.
    pub longest_gap: u64,
    /// From the first fault to the last take-over.
    pub taken_over: u64,
    /// From the end of the last fault to the last change of who answers.
    pub settled: u64,
    /// Messages sent since the first fault.
    pub messages: u64,
    /// Packets sent by all nodes in the last second, when nothing happened.
    pub idle_packets: u64,
    /// The bytes of their frames.
    pub idle_bytes: u64,
    /// The processor time of that second: the only number that differs from run to run.
    pub idle_processor: Duration,
}

/// A run that broke an invariant.
#[derive(Debug)]
pub struct Failure {
    /// What was broken, and when.
    pub broken: Broken,
    /// The scenario.
    pub scenario: Scenario,
    /// The end of the trace.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "{}", self.scenario)?;
        write!(f, "{}", self.broken)
    }
}

/// Runs the scenario of one seed.
pub fn run(seed: u64, options: &Options) -> Result<Tally, Box<Failure>> {
    play(Scenario::new(seed, options.nodes), options)
}

/// Runs a given scenario.
pub fn play(scenario: Scenario, options: &Options) -> Result<Tally, Box<Failure>> {
    let trace = if options.trace {
        Trace::Print
    } else {
        Trace::Off
    };
    let world = World::new(scenario.clone(), options.sabotage, trace);
    world.play().map_err(|broken| {
        // The trace is written only when needed: the same run is repeated.
        let traced = World::new(
            scenario.clone(),
            options.sabotage,
            Trace::Keep(VecDeque::new()),
        );
        let trace = traced.trace_of_failure();
        Box::new(Failure {
            broken,
            scenario,
            trace,
        })
    })
}
