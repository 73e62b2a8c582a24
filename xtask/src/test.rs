//! The tests on this machine's kernel, and then on others.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    num::NonZero,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    cargo::{self, Built, Profile, cargo},
    image,
    in_ci::in_ci,
    kernels, kubernetes,
    setup::{self, Need},
    shell,
    tally::Tally,
};

/// The variable with the file to which a test that cannot run appends a line: `name: reason`.
const SKIPS: &str = "SPEAKER_SKIPS";

/// The variable with the directory of Kubernetes' programs; empty: left out on purpose.
pub(crate) const KUBERNETES: &str = "SPEAKER_KUBERNETES";

/// The variable with the seed of property tests, read by proptest.
const PROPTEST_SEED: &str = "PROPTEST_RNG_SEED";

/// The variable with the number of tests that run at a time, read by nextest.
const THREADS: &str = "NEXTEST_TEST_THREADS";

/// Which cases property tests try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Properties {
    /// New ones each time, unless the environment says otherwise.
    AtRandom,
    /// The same each time, so that a change is not refused for an earlier bug.
    AlikeEachTime,
}

impl Properties {
    /// The seed to set, if any; `given`: the environment has one.
    fn seed(self, given: bool) -> Option<&'static str> {
        (self == Self::AlikeEachTime && !given).then_some("1")
    }
}

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// This machine's kernel only, and no Kubernetes
    #[arg(long)]
    quick: bool,
    /// Only tests whose names contain one of these, on this machine's kernel
    names: Vec<String>,
}

/// Runs the tests, and prints the result as one line.
pub(crate) fn test(options: &Options) -> Result<()> {
    run(options, Properties::AtRandom)?.close()
}

/// Runs the tests.
pub(crate) fn run(options: &Options, properties: Properties) -> Result<Tally> {
    let others = !options.quick && options.names.is_empty();
    let mut needs = vec![Need::Object, Need::Tests, Need::Lab];
    if others {
        needs.push(Need::Kernels);
    }
    if !options.quick {
        needs.push(Need::Kubernetes);
    }
    setup::ensure(&needs)?;
    let built = cargo::build(Profile::Dev, &cargo::ALL)?;

    let mut tally = Tally::default();
    let mut kubernetes = None;
    if !options.quick {
        match kubernetes::obtain() {
            Ok(programs) => kubernetes = Some(programs),
            Err(error) => untried(&mut tally, format!("Kubernetes: {error:#}")),
        }
    }
    let mut command = tests(&built, properties);
    command.env(KUBERNETES, kubernetes.as_deref().unwrap_or(Path::new("")));
    tally.add(here(command, &options.names)?);
    if others {
        tally.add(kernels::matrix(
            &kernels::Options::default(),
            &built,
            kubernetes.as_deref(),
        )?);
    }
    Ok(tally)
}

/// Counts what could not run: a failure in CI only, since other machines may lack what it needs.
pub(crate) fn untried(tally: &mut Tally, why: String) {
    if in_ci() {
        println!("FAILED {why}");
        tally.failed += 1;
    } else {
        tally.skip(why);
    }
}

/// A cargo that tests this build.
fn tests(built: &Built, properties: Properties) -> Command {
    let mut command = cargo();
    let seed = properties.seed(env::var_os(PROPTEST_SEED).is_some());
    built
        .tell(&mut command)
        .envs(seed.map(|seed| (PROPTEST_SEED, seed)));
    command
}

fn here(mut command: Command, names: &[String]) -> Result<Tally> {
    let skips = tempfile::NamedTempFile::new()?;
    command
        .args(["nextest", "run", "--workspace", "--no-fail-fast"])
        .args(["--no-tests", "fail"])
        .args(names);
    shell::say(&command);
    let deploy = Deploy::provide(names.is_empty())?;
    command.env(SKIPS, skips.path()).envs(deploy.environment);
    if env::var_os(THREADS).is_none() {
        command.env(THREADS, threads().to_string());
    }

    let mut tally = counted(&mut command)?;
    for skip in fs::read_to_string(skips.path())?.lines() {
        // The runner counted it as passed.
        tally.passed = tally.passed.saturating_sub(1);
        tally.skip(skip.to_owned());
    }
    Ok(tally)
}

/// How many tests run at a time: one for each processor, and one of the Kubernetes tests, which run
/// one after the other and wait most of the time.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get) + 1
}

/// The environment for the tests of deploy/.
struct Deploy {
    environment: Vec<(&'static str, PathBuf)>,
}

impl Deploy {
    /// Provides the programs that read deploy/, and the image unless only some tests run. Outside
    /// of CI, these may be missing: the tests then say so.
    fn provide(all: bool) -> Result<Self> {
        let mut environment = Vec::new();
        let mut provide = |name, made: Result<PathBuf>| match made {
            Ok(path) => {
                environment.push((name, path));
                Ok(())
            }
            Err(error) if in_ci() => Err(error),
            Err(error) => {
                eprintln!("cannot provide {name}: {error:#}");
                Ok(())
            }
        };
        provide("SPEAKER_DEPLOY_TOOLS", setup::deploy_tools())?;
        if all {
            let image = image::build(Profile::Dev).and_then(|it| Ok(fs::canonicalize(it)?));
            provide("SPEAKER_IMAGE", image)?;
        }
        Ok(Self { environment })
    }
}

/// Runs the tests: nextest writes text to standard error, and JSON to standard output.
fn counted(command: &mut Command) -> Result<Tally> {
    command
        .args([
            "--message-format",
            "libtest-json",
            "--message-format-version",
            "0.1",
        ])
        .env("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| shell::as_typed(command))?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut tally = Tally::default();
    for line in BufReader::new(stdout).lines() {
        if let Ok(Message::Suite { passed, failed }) = serde_json::from_str(&line?) {
            tally.passed += passed;
            tally.failed += failed;
        }
    }
    verdict(child.wait()?.code(), tally)
}

/// A runner that fails without a failed test could not run the tests.
fn verdict(code: Option<i32>, tally: Tally) -> Result<Tally> {
    /// nextest's exit code if the names exclude all tests.
    const NO_TESTS: i32 = 4;
    match code {
        Some(0) => Ok(tally),
        _ if tally.failed > 0 => Ok(tally),
        Some(NO_TESTS) => bail!("no test has such a name; `cargo nextest list` has them all"),
        _ => bail!("the tests could not be run"),
    }
}

/// A message of libtest's JSON; only the end of a suite has counts.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Message {
    Suite { passed: usize, failed: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_suite_counts() {
        let started = r#"{"type":"suite","event":"started","test_count":4}"#;
        assert!(serde_json::from_str::<Message>(started).is_err());
        let ended = r#"{"type":"suite","event":"failed","passed":3,"failed":1,"ignored":0}"#;
        let Message::Suite { passed, failed } = serde_json::from_str(ended).unwrap();
        assert_eq!((passed, failed), (3, 1));
    }

    #[test]
    fn a_given_seed_is_kept() {
        assert_eq!(Properties::AlikeEachTime.seed(false), Some("1"));
        assert_eq!(Properties::AlikeEachTime.seed(true), None);
        assert_eq!(Properties::AtRandom.seed(false), None);
    }

    #[test]
    fn a_runner_that_fails_before_any_test_is_an_error() {
        let said = |code| verdict(code, Tally::default()).map_err(|error| error.to_string());
        assert_eq!(said(Some(0)), Ok(Tally::default()));
        assert!(said(Some(4)).is_err_and(|it| it.contains("no test has such a name")));
        assert!(said(Some(101)).is_err_and(|it| it.contains("could not be run")));
        assert!(said(None).is_err());
    }
}
