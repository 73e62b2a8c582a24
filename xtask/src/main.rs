//! Development tasks: `cargo xtask --help`.
#![forbid(unsafe_code)]

mod cargo;
mod ci;
mod crds;
mod debian;
mod image;
#[path = "../../tests/src/lab/in_ci.rs"]
mod in_ci;
mod kernels;
mod kubernetes;
mod places;
mod setup;
mod shell;
mod tally;
mod test;

use std::{env, ffi::OsString, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;

use cargo::Profile;
use setup::Need;

/// Development tasks
///
/// Each task first installs what it needs and is missing, and says so.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Install everything that any task needs
    Setup,
    /// Build `speaker`, with the eBPF programs inside
    Build {
        /// Optimised, as shipped
        #[arg(long)]
        release: bool,
    },
    /// Show a VIP being answered by the network driver
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Test on this kernel, then on others
    Test(test::Options),
    /// Test on Debian's kernels, each in a virtual machine
    Kernels(kernels::Options),
    /// Build the Kubernetes binaries for the tests, once per machine, and print their directory
    ///
    /// `SPEAKER_KUBERNETES=$(cargo xtask kubernetes) cargo nextest run --package speaker-tests`
    Kubernetes,
    /// Measure the responder against bare programs and other responders, and the agents
    ///
    /// All arguments go to the benchmarks, such as `--group G`, `--busy DURATION`, `--out FILE`;
    /// see `cargo xtask bench -- --help`.
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Simulate the cluster with faults, in virtual time
    ///
    /// All arguments go to the simulator, such as `--seeds N`, `--start S`, `--nodes N`,
    /// `--measure`, `--trace`; see `cargo xtask sim -- --help`.
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Build the container image, without a registry
    Image(image::Options),
    /// Write the definitions of the custom resources into deploy/
    Crds(crds::Options),
    /// Run all checks that a change must pass: format, lints, licences, tests
    Ci,
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = places::workspace();
    env::set_current_dir(&workspace).with_context(|| workspace.display().to_string())?;
    match task {
        Task::Setup => setup::all(),
        Task::Build { release } => build(release),
        Task::Demo { arguments } => {
            setup::ensure(&[Need::Object, Need::Lab])?;
            cargo::build(Profile::Dev, &cargo::ALL)?.exec_binary("demo", &arguments, &[])
        }
        Task::Test(options) => test::test(&options),
        Task::Kernels(options) => kernels::kernels(&options),
        Task::Kubernetes => kubernetes::kubernetes(),
        Task::Bench { arguments } => bench(&arguments),
        Task::Sim { arguments } => cargo::exec_simulator(&arguments),
        Task::Image(options) => image::image(&options),
        Task::Crds(options) => crds::crds(&options),
        Task::Ci => ci::ci(),
    }
}

fn bench(arguments: &[OsString]) -> Result<()> {
    setup::ensure(&[Need::Object, Need::Lab])?;
    let mut environment = Vec::new();
    if arguments
        .iter()
        .any(|it| it == "scale" || it == "--group=scale")
    {
        setup::ensure(&[Need::Kubernetes])?;
        environment.push((test::KUBERNETES, kubernetes::obtain()?));
    }
    let built = cargo::build(Profile::Release, &cargo::BENCH)?;
    built.exec_binary("bench", arguments, &environment)
}

fn build(release: bool) -> Result<()> {
    setup::ensure(&[Need::Object])?;
    let built = if release {
        cargo::build(Profile::Release, &cargo::SPEAKER)?
    } else {
        cargo::build(Profile::Dev, &cargo::ALL)?
    };
    println!("{}", built.speaker.display());
    Ok(())
}
