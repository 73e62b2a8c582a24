//! The command line.

mod address;
mod agent;
mod ask;
mod cluster;
mod common;
mod controller;
mod detach;
mod explain;
mod output;
mod status;
mod watch;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::kernel;
use output::Closed;
pub use output::note;

/// LoadBalancer addresses for bare-metal Kubernetes, answered in the network driver.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(Box<agent::Agent>),
    Controller(controller::Controller),
    Status(status::Status),
    Explain(explain::Explain),
    Watch(watch::Watch),
    Drain(ask::Drain),
    Undrain(ask::Undrain),
    Move(ask::Move),
    Rebalance(ask::Rebalance),
    EbpfLog(ask::EbpfLog),
    Detach(detach::Detach),
}

/// Where the agent keeps its pins and its state.
#[derive(Clone, Debug, Args)]
struct Places {
    /// Mounted BPF file system that holds the pinned maps and links
    #[arg(
        long,
        env = "SPEAKER_BPFFS",
        default_value = kernel::DEFAULT_BPFFS,
        value_name = "DIR"
    )]
    bpffs: PathBuf,

    /// Directory of the agent's socket and the last good configuration
    #[arg(
        long,
        env = "SPEAKER_STATE_DIR",
        default_value = "/var/lib/speaker",
        value_name = "DIR"
    )]
    state_dir: PathBuf,
}

/// Parses the command line and carries it out.
///
/// # Errors
///
/// The command failed; the error and its causes are for people to read.
pub fn run() -> Result<()> {
    let result = match Cli::parse().command {
        Command::Agent(agent) => agent.run(),
        Command::Controller(controller) => controller.run(),
        Command::Status(status) => status.run(),
        Command::Explain(explain) => explain.run(),
        Command::Watch(watch) => watch.run(),
        Command::Drain(drain) => drain.run(),
        Command::Undrain(undrain) => undrain.run(),
        Command::Move(r#move) => r#move.run(),
        Command::Rebalance(rebalance) => rebalance.run(),
        Command::EbpfLog(ebpf_log) => ebpf_log.run(),
        Command::Detach(detach) => detach.run(),
    };
    match result {
        Err(error) if error.is::<Closed>() => Ok(()),
        result => result,
    }
}

/// Runs a command's future on this thread.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(future);
    // A host name may take a resolver's time-out to look up, and nobody waits for it any more.
    runtime.shutdown_background();
    result
}
