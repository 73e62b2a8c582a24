//! Runs many seeds of the simulator, and prints the first that breaks an invariant.

use clap::Parser;
use speaker_sim::{
    Options,
    measure::{FailOver, MassFailOver, Traffic},
};

/// Runs the cluster's decision code through faults, in virtual time.
#[derive(Parser)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// How many nodes; by default, each seed decides.
    #[arg(long)]
    nodes: Option<usize>,
    /// Print everything as it happens.
    #[arg(long)]
    trace: bool,
    /// Continue after a failure, and print only which seeds failed and how.
    #[arg(long)]
    all: bool,
    /// Also measure fail-over, control traffic and processor time on the modelled network.
    #[arg(long)]
    measure: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = Options {
        nodes: args.nodes,
        trace: args.trace,
        sabotage: None,
    };
    let (mut events, mut takeovers, mut failed) = (0, 0, 0);
    for seed in args.start..args.start + args.seeds {
        match speaker_sim::run(seed, &options) {
            Ok(tally) => {
                events += tally.events;
                takeovers += tally.takeovers;
            }
            Err(failure) if args.all => {
                failed += 1;
                println!("seed {seed}: {} ({})", failure.broken, again(seed, &args));
            }
            Err(failure) => {
                println!("{failure}");
                anyhow::bail!("seed {seed} failed; play it again: {}", again(seed, &args));
            }
        }
    }
    println!(
        "{} seeds, {events} events, {takeovers} take-overs, {failed} failed",
        args.seeds
    );
    if args.measure {
        measure().map_err(|failure| anyhow::anyhow!("{failure}"))?;
    }
    anyhow::ensure!(failed == 0, "{failed} seeds failed");
    Ok(())
}

fn again(seed: u64, args: &Args) -> String {
    let nodes = args
        .nodes
        .map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
    format!("cargo xtask sim --start {seed} --seeds 1{nodes} --trace")
}

fn measure() -> Result<(), Box<speaker_sim::Failure>> {
    for nodes in [3, 5] {
        println!("{}", FailOver::measure(nodes, 500)?);
    }
    for (nodes, vips) in [
        (3, 10),
        (3, 1_000),
        (10, 10),
        (10, 1_000),
        (100, 10),
        (200, 10),
    ] {
        println!("{}", Traffic::measure(nodes, vips)?);
    }
    println!("{}", MassFailOver::measure(3, 10_000)?);
    Ok(())
}
