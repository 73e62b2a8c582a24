//! Plays many seeds of the simulator, and prints the first that breaks an invariant.

use clap::Parser;
use speaker_tests::sim::{self, Options};

/// Plays the cluster's deciding code through faults, in virtual time.
#[derive(Parser)]
struct Args {
    /// How many seeds to play.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// How many nodes; else each seed decides.
    #[arg(long)]
    nodes: Option<usize>,
    /// Print everything that happens as it happens.
    #[arg(long)]
    trace: bool,
    /// Go on after a failure, and print only which seeds failed and how.
    #[arg(long)]
    all: bool,
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
        match sim::run(seed, &options) {
            Ok(tally) => {
                events += tally.events;
                takeovers += tally.takeovers;
            }
            Err(failure) if args.all => {
                failed += 1;
                println!("seed {seed}: {}", failure.broken);
            }
            Err(failure) => {
                println!("{failure}");
                anyhow::bail!("seed {seed} failed; play it again with --start {seed} --seeds 1");
            }
        }
    }
    println!(
        "{} seeds, {events} events, {takeovers} take-overs, {failed} failed",
        args.seeds
    );
    anyhow::ensure!(failed == 0, "{failed} seeds failed");
    Ok(())
}
