//! Tests that cannot run here say so, and are counted.

use std::time::Duration;

use anyhow::Result;

use super::skipped::skipped;

/// What a machine lacks for a test.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// Permission to create namespaces and to load programs.
    #[error("network namespaces and BPF programs need root")]
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

/// The end of a test: an error fails it, except [`Missing`], which skips it loudly.
///
/// # Panics
///
/// If the test fails.
pub fn conclude(outcome: Result<()>) {
    if let Err(error) = outcome {
        match error.downcast_ref::<Missing>() {
            Some(missing) => skip(missing),
            None => panic!("{error:?}"),
        }
    }
}

/// Skips the running test, loudly.
///
/// # Panics
///
/// In CI, if what is missing is privilege or Kubernetes.
pub fn skip(missing: &Missing) {
    let required = matches!(missing, Missing::Privilege | Missing::Kubernetes);
    skipped(missing, required);
}
