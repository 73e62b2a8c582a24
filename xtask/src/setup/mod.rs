//! What the tasks need on the machine: checked each time, and installed if it is missing.

mod deploy;
mod packages;
mod rust_src;
mod tools;

use std::path::PathBuf;

use anyhow::Result;

use crate::kubernetes;

/// What a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To build the eBPF objects.
    Object,
    /// To run the tests.
    Tests,
    /// To create networks in namespaces and inspect them.
    Lab,
    /// To boot other kernels.
    Kernels,
    /// To build Kubernetes, and to run it.
    Kubernetes,
    /// To check the dependencies' licences.
    Licences,
    /// To build the image.
    Image,
}

/// Installs everything that any task needs.
pub(crate) fn all() -> Result<()> {
    ensure(&[
        Need::Object,
        Need::Tests,
        Need::Licences,
        Need::Lab,
        Need::Kernels,
        Need::Kubernetes,
        Need::Image,
    ])?;
    kubernetes::obtain()?;
    deploy_tools()?;
    eprintln!("everything is installed; next: `cargo xtask demo`");
    Ok(())
}

/// Installs what is missing.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let mut programs = Vec::new();
    for need in needs {
        match need {
            Need::Object => {
                rust_src::ensure()?;
                tools::BPF_LINKER.ensure()?;
            }
            Need::Tests => tools::CARGO_NEXTEST.ensure()?,
            Need::Licences => tools::CARGO_DENY.ensure()?,
            Need::Lab => programs.extend(packages::LAB),
            Need::Kernels => programs.extend(packages::KERNELS),
            Need::Kubernetes => programs.extend(packages::KUBERNETES),
            Need::Image => programs.extend(packages::IMAGE),
        }
    }
    packages::ensure(&programs)
}

/// The directory of the programs that read deploy/ as users' programs do, installed if needed.
pub(crate) fn deploy_tools() -> Result<PathBuf> {
    deploy::ensure()
}
