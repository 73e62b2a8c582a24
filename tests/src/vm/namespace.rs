//! A client in a network namespace, and the programs that act in it.

use std::{fs::File, process::Command, thread};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

/// A network namespace by name; removed when it is dropped, and the devices in it.
pub(super) struct Namespace(&'static str);

impl Namespace {
    pub(super) fn new(name: &'static str) -> Result<Self> {
        run("ip", &["netns", "add", name])?;
        Ok(Self(name))
    }

    /// Runs a program in it; returns what it writes.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(
            "ip",
            &[&["netns", "exec", self.0, program], arguments].concat(),
        )
    }

    /// Calls a function in it, on a thread that ends with it.
    pub(super) fn call<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(format!("/run/netns/{}", self.0))?;
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                function()
            });
            thread.join().expect("the function returns its errors")
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "delete", self.0]) {
            eprintln!("{error:#}");
        }
    }
}

/// Runs a program; returns what it writes.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let spoken = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(spoken)?;
    let written = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}\n{written}{errors}", spoken(), output.status);
    }
    Ok(written)
}
