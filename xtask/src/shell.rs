//! Running other programs.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use anyhow::{Context as _, Result, bail};

/// Directories that the tasks need and a user's `PATH` may lack.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// `PATH`, followed by the directories of `cargo install` and of the system's tools.
static PATH: LazyLock<OsString> = LazyLock::new(|| {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = env::split_paths(&path).collect();
    let more = cargo_binaries()
        .into_iter()
        .chain(SYSTEM.map(PathBuf::from));
    for directory in more {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    env::join_paths(directories).unwrap_or(path)
});

/// Where `cargo install` puts binaries.
pub(crate) fn cargo_binaries() -> Option<PathBuf> {
    let root = env::var_os("CARGO_INSTALL_ROOT")
        .or_else(|| env::var_os("CARGO_HOME"))
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    Some(root.join("bin"))
}

/// A command, with a `PATH` that has what the tasks need.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let program = program.as_ref();
    let mut command = match find(program) {
        Some(path) => Command::new(path),
        // Running it fails with the program's name.
        None => Command::new(program),
    };
    command.env("PATH", &*PATH);
    command
}

/// The path of a program.
pub(crate) fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    which::which_in(program, Some(&*PATH), Path::new("/")).ok()
}

/// Prints a command, and runs it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(command);
    let status = command.status().with_context(|| as_typed(command))?;
    if !status.success() {
        bail!("{} failed: {status}", as_typed(command));
    }
    Ok(())
}

/// Runs a command silently, and returns its output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| as_typed(command))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!(
            "{} failed: {status}\n{}",
            as_typed(command),
            said.trim_end()
        );
    }
    String::from_utf8(stdout).with_context(|| format!("the output of {}", as_typed(command)))
}

/// Prints a command that is about to run.
pub(crate) fn say(command: &Command) {
    eprintln!("+ {}", as_typed(command));
}

/// A command as it would be typed.
pub(crate) fn as_typed(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words
        .map(|word| {
            let word = word.to_string_lossy();
            if word.is_empty() || word.contains(char::is_whitespace) {
                format!("'{word}'")
            } else {
                word.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}
