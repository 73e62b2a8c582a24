//! Tests that cannot run here say so, and are counted.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write as _},
    thread,
    time::Duration,
};

use super::in_ci::in_ci;

/// What a machine lacks for a test.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// Permission to create namespaces.
    #[error("the lab makes network namespaces: run as root")]
    Privilege,
    /// A part of the kernel.
    #[error("this kernel has no {0}")]
    Kernel(String),
    /// A clock that has run for longer.
    #[error(
        "this machine has been up for less than {0:?}; `cargo xtask kernels` runs the test in \
         machines that have been up for longer"
    )]
    Uptime(Duration),
    /// A program.
    #[error("this machine has no program {0:?}")]
    Program(String),
    /// The Kubernetes programs.
    #[error(
        "Kubernetes is missing: run `cargo xtask test`, or set {} to the directory that \
         `cargo xtask kubernetes` prints",
        crate::kube::PROGRAMS
    )]
    Kubernetes,
    /// Kubernetes was disabled.
    #[error("Kubernetes tests were skipped, as with `--quick`")]
    LeftOut,
}

impl Missing {
    /// A kind of network device, by the name that `ip link add … type` takes.
    pub(super) fn device(kind: &str) -> Self {
        let elsewhere = match kind {
            "vlan" => "; `cargo xtask kernels` tests VLANs on kernels that have them",
            _ => "",
        };
        Self::Kernel(format!("{kind:?} devices{elsewhere}"))
    }
}

/// Says on the real standard error, past the test harness, that the running test is skipped, and
/// appends a line to the file that the environment variable `SPEAKER_SKIPS` names.
///
/// # Panics
///
/// In CI (the variable `CI` is set), if what is missing is privilege or Kubernetes: a CI that lost
/// them would test nothing.
pub fn skip(missing: &Missing) {
    let test = thread::current().name().unwrap_or("test").to_owned();
    assert!(
        !(in_ci() && matches!(missing, Missing::Privilege | Missing::Kubernetes)),
        "{test} cannot be skipped in CI: {missing}"
    );
    // Both are best effort: a test that cannot report its skip is still skipped.
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {missing}");
    if let Some(path) = env::var_os("SPEAKER_SKIPS") {
        let _ = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| writeln!(file, "{test}: {missing}"));
    }
}
