//! Programs from the system's package manager.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::shell;

/// A program, and its Debian package.
type Program = (&'static str, &'static str);

/// To create networks in namespaces and inspect them.
pub(super) const LAB: [Program; 9] = [
    ("arping", "iputils-arping"),
    ("bpftool", "bpftool"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("ndisc6", "ndisc6"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
];

/// To boot other kernels, and to give them a file system.
pub(super) const KERNELS: [Program; 9] = [
    ("arping", "iputils-arping"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("ip", "iproute2"),
    ("ipset", "ipset"),
    ("ndisc6", "ndisc6"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("xz", "xz-utils"),
];

/// To build Kubernetes, and to let kube-proxy write its rules.
pub(super) const KUBERNETES: [Program; 5] = [
    ("conntrack", "conntrack"),
    ("ip6tables", "iptables"),
    ("iptables", "iptables"),
    ("patch", "patch"),
    ("tar", "tar"),
];
/// To build the image without a registry or a daemon.
pub(super) const IMAGE: [Program; 1] = [("buildah", "buildah")];

/// Installs the packages whose programs are missing.
pub(super) fn ensure(programs: &[Program]) -> Result<()> {
    let (names, packages) = missing(programs);
    if names.is_empty() {
        return Ok(());
    }
    let names = names.join(", ");
    if shell::find("apt-get").is_none() {
        bail!(
            "missing programs: {names}\n\
             this machine has no apt-get: install them with its own package manager \
             (in Debian they are in {})",
            packages.join(", ")
        );
    }
    if !nix::unistd::Uid::effective().is_root() {
        bail!(
            "missing programs: {names}\n\
             only root can install them:\n  sudo apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    }
    eprintln!("missing programs: {names}");
    if install(&packages).is_err() {
        eprintln!("apt's lists may be old: updating them");
        shell::run(apt_get().arg("update"))?;
        install(&packages)?;
    }
    let (still, _) = missing(programs);
    if !still.is_empty() {
        bail!(
            "missing programs: {}, although their packages are installed",
            still.join(", ")
        );
    }
    Ok(())
}

/// The programs that are missing, and the packages that have them.
fn missing(programs: &[Program]) -> (Vec<&'static str>, Vec<&'static str>) {
    let missing: BTreeSet<Program> = programs
        .iter()
        .copied()
        .filter(|(program, _)| shell::find(program).is_none())
        .collect();
    missing.into_iter().unzip()
}

fn install(packages: &[&str]) -> Result<()> {
    let mut command = apt_get();
    command.args(["install", "--yes", "--no-install-recommends"]);
    shell::run(command.args(packages))
}

/// apt-get, which waits for its lock and asks nothing.
fn apt_get() -> std::process::Command {
    let mut command = shell::command("apt-get");
    command
        .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}
