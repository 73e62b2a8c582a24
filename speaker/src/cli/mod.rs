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

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{
    Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::Resettable,
};

use crate::{causes::causes, kernel};
use output::{Closed, note};

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

/// `--bpffs`.
#[derive(Clone, Debug, Args)]
struct Bpffs {
    /// BPF file system for the pinned program and its maps
    #[arg(
        id = "bpffs",
        long = "bpffs",
        env = "SPEAKER_BPFFS",
        default_value = kernel::DEFAULT_BPFFS,
        value_name = "DIR"
    )]
    path: PathBuf,
}

/// `--state-dir`.
#[derive(Clone, Debug, Args)]
struct StateDir {
    /// Directory for the agent's socket and what it keeps across restarts
    #[arg(
        id = "state_dir",
        long = "state-dir",
        env = "SPEAKER_STATE_DIR",
        default_value = "/var/lib/speaker",
        value_name = "DIR"
    )]
    path: PathBuf,
}

/// Parses the command line, carries it out, and reports errors.
pub fn run() -> ExitCode {
    let matches = command_line().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let error = match carry_out(cli.command) {
        Err(error) if !error.is::<Closed>() => error,
        _ => return ExitCode::SUCCESS,
    };
    let mut causes = causes(error.as_ref()).into_iter();
    note(&format!("error: {}", causes.next().unwrap_or_default()));
    for cause in causes {
        note(&format!("  because: {cause}"));
    }
    ExitCode::FAILURE
}

/// The command line. An empty variable counts as not set: environment files and manifests often
/// have such.
fn command_line() -> clap::Command {
    let is_empty = |argument: &Arg| {
        let value = argument.get_env().and_then(env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    Cli::command().mut_subcommands(|command| {
        command.mut_args(|argument| match is_empty(&argument) {
            true => argument.env(Resettable::Reset),
            false => argument,
        })
    })
}

fn carry_out(command: Command) -> Result<()> {
    match command {
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
    }
}

/// Runs a command's future on this thread.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(future);
    // Without waiting for host names that are still being looked up.
    runtime.shutdown_background();
    result
}
