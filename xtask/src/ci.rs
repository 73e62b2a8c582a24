//! The checks that a change must pass.

use std::process::Command;

use anyhow::Result;

use crate::{
    cargo::cargo,
    crds,
    setup::{self, Need},
    shell,
    tally::Tally,
    test::{self, Options, Properties},
};

/// The manifest of the eBPF programs, a workspace of its own.
const EBPF: &str = "speaker-ebpf/Cargo.toml";
/// Outside its own directory, where a build would look like a change of the sources.
const EBPF_TARGET: &str = "target/speaker-ebpf";

/// Runs all checks, and stops at the first kind that fails.
pub(crate) fn ci() -> Result<()> {
    setup::ensure(&[
        Need::Object,
        Need::Licences,
        Need::Lab,
        Need::Kernels,
        Need::Kubernetes,
    ])?;
    formatted()?;
    linted()?;
    let mut tally = Tally::default();
    licensed(&mut tally)?;
    documented()?;
    crds::current()?;
    tally.add(test::run(&Options::default(), Properties::AlikeEachTime)?);
    tally.close()
}

fn formatted() -> Result<()> {
    shell::run(cargo().args(["fmt", "--all", "--check"]))?;
    shell::run(cargo().args(["fmt", "--check", "--manifest-path", EBPF]))
}

fn linted() -> Result<()> {
    shell::run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny=warnings",
    ]))?;
    shell::run(
        ebpf_clippy()
            // `-Z build-std` on the pinned stable compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            .env(
                "CARGO_ENCODED_RUSTFLAGS",
                "--cfg=bpf_target_arch=\"x86_64\"",
            ),
    )
}

/// Lints the eBPF programs for their own target.
fn ebpf_clippy() -> Command {
    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "--manifest-path",
        EBPF,
        "--target-dir",
        EBPF_TARGET,
        "--target=bpfel-unknown-none",
        "-Zbuild-std=core",
        "--",
        "--deny=warnings",
    ]);
    clippy
}

fn licensed(tally: &mut Tally) -> Result<()> {
    // Not from the crates' registry, so a machine may be unable to reach it.
    let mut fetch = cargo();
    let advisories = match shell::read(fetch.args(["deny", "fetch", "db"])) {
        Ok(_) => Some("advisories"),
        Err(error) => {
            tally.skip(format!("the advisories against dependencies: {error:#}"));
            None
        }
    };
    for manifest in ["Cargo.toml", EBPF] {
        let mut deny = cargo();
        deny.args(["deny", "--manifest-path", manifest, "--config", "deny.toml"])
            .args(["check", "licenses", "bans", "sources"])
            .args(advisories);
        shell::run(&mut deny)?;
    }
    Ok(())
}

/// The examples in the documentation, which nextest does not run.
fn documented() -> Result<()> {
    let mut examples = cargo();
    examples.args(["test", "--workspace", "--doc", "--quiet"]);
    shell::say(&examples);
    shell::read(&mut examples)?;
    Ok(())
}
