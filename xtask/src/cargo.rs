//! Building with cargo.

use std::{
    env,
    ffi::OsString,
    fs,
    io::BufReader,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Artifact, BuildScript, Message, MetadataCommand};

use crate::shell;

/// A cargo profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build.
    Dev,
    /// Quick to run.
    Release,
}

/// All binaries of the workspace.
pub(crate) const ALL: [&str; 2] = ["--workspace", "--bins"];
/// The binary that is shipped.
pub(crate) const SPEAKER: [&str; 2] = ["--package=speaker", "--bin=speaker"];
/// The same, and the benchmarks.
pub(crate) const BENCH: [&str; 4] = [
    "--package=speaker",
    "--bin=speaker",
    "--package=speaker-tests",
    "--bin=bench",
];

/// The result of a build.
pub(crate) struct Built {
    /// The `speaker` binary.
    pub(crate) speaker: PathBuf,
    /// The eBPF object inside it.
    pub(crate) object: PathBuf,
    /// The other binaries.
    others: Vec<PathBuf>,
}

impl Built {
    /// A binary other than `speaker`.
    pub(crate) fn binary(&self, name: &str) -> Result<&PathBuf> {
        self.others
            .iter()
            .find(|path| path.file_name().is_some_and(|file| file == name))
            .with_context(|| format!("the workspace has no binary `{name}`"))
    }

    /// Tells a command where `speaker` and its eBPF object are.
    pub(crate) fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("SPEAKER_BIN", &self.speaker)
            .env("SPEAKER_OBJECT", &self.object)
    }

    /// Becomes another binary (exec), with some environment variables, so that ctrl-C ends that
    /// one. Returns on failure only.
    pub(crate) fn exec_binary(
        &self,
        name: &str,
        arguments: &[OsString],
        environment: &[(&str, PathBuf)],
    ) -> Result<()> {
        let mut command = shell::command(self.binary(name)?);
        command.envs(environment.iter().map(|(name, path)| (name, path)));
        self.tell(command.args(arguments));
        shell::say(&command);
        Err(command.exec()).with_context(|| shell::as_typed(&command))
    }
}

/// The cargo that runs this task, from the pinned toolchain.
pub(crate) fn cargo() -> Command {
    shell::command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds the simulator, which needs no eBPF object, and becomes it. Returns on failure only.
pub(crate) fn exec_simulator(arguments: &[OsString]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--release", "--package=speaker-sim", "--"]);
    command.args(arguments);
    shell::say(&command);
    Err(command.exec()).with_context(|| shell::as_typed(&command))
}

/// Builds, and fails if the eBPF objects are missing.
pub(crate) fn build(profile: Profile, selection: &[&str]) -> Result<Built> {
    let mut command = cargo();
    command.arg("build").args(selection);
    if profile == Profile::Release {
        command.arg("--release");
    }
    shell::say(&command);
    command.args(["--message-format", "json-render-diagnostics"]);

    let package = speaker_package()?;
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut executables = Vec::new();
    let mut objects = None;
    for message in Message::parse_stream(BufReader::new(stdout)) {
        match message? {
            Message::CompilerArtifact(Artifact {
                executable: Some(path),
                ..
            }) => executables.push(path.into_std_path_buf()),
            Message::BuildScriptExecuted(BuildScript {
                package_id,
                out_dir,
                ..
            }) if package_id == package => objects = Some(out_dir.into_std_path_buf()),
            _ => {}
        }
    }
    if !child.wait()?.success() {
        bail!("the build has failed");
    }

    let (speaker, others) = executables
        .into_iter()
        .partition::<Vec<_>, _>(|path| path.file_name().is_some_and(|file| file == "speaker"));
    let objects = objects.context("cargo ran no build script of `speaker`")?;
    Ok(Built {
        speaker: speaker
            .into_iter()
            .next()
            .context("cargo built no `speaker`")?,
        object: object(objects)?,
        others,
    })
}

/// Builds a static `speaker`, and fails if the eBPF objects are missing.
///
/// Only the program itself is compiled again: its dependencies are those of the ordinary build.
pub(crate) fn build_static(profile: Profile) -> Result<PathBuf> {
    // For the object, which is the same in both.
    build(profile, &SPEAKER)?;
    let mut command = cargo();
    command.arg("rustc").args(SPEAKER);
    if profile == Profile::Release {
        command.arg("--release");
    }
    command.args(["--message-format", "json-render-diagnostics", "--"]);
    command.args(["-Ctarget-feature=+crt-static", "-Cstrip=debuginfo"]);
    let said = shell::read(&mut command)?;
    for message in Message::parse_stream(said.as_bytes()) {
        if let Message::CompilerArtifact(Artifact {
            executable: Some(path),
            ..
        }) = message?
        {
            return Ok(path.into_std_path_buf());
        }
    }
    bail!("cargo built no `speaker`")
}

fn speaker_package() -> Result<cargo_metadata::PackageId> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    metadata
        .packages
        .into_iter()
        .find(|package| package.name == "speaker")
        .map(|package| package.id)
        .context("the workspace has no package `speaker`")
}

/// The object in the build script's directory. An empty one means that the machine could not build
/// it.
fn object(directory: PathBuf) -> Result<PathBuf> {
    let object = directory.join("speaker");
    let length = fs::metadata(&object)
        .with_context(|| object.display().to_string())?
        .len();
    if length == 0 {
        bail!("`speaker` was built without its eBPF program; run `cargo xtask setup`");
    }
    Ok(object)
}
