//! What the agent needs from the kernel and the process, checked in the order in which a new user
//! encounters it.

use std::{fs, io};

use aya::util::KernelVersion;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use thiserror::Error;

/// What the agent lacks.
#[derive(Debug, Error)]
pub enum Unmet {
    /// The kernel is older than any that was tested.
    #[error(
        "this kernel ({release}) is too old: speaker needs Linux 5.10 or later, for BPF links \
         that survive a restart of the agent"
    )]
    KernelTooOld {
        /// The kernel's release.
        release: String,
    },
    /// The process may not load programs, attach them, or announce.
    #[error(
        "not privileged: speaker needs {missing} to run its program in the kernel and announce \
         VIPs; run it as root (`sudo speaker …`), or grant it {ALL_CAPABILITIES}"
    )]
    NotPrivileged {
        /// The capabilities that the process lacks.
        missing: String,
    },
    /// Maps count as locked memory (before 5.11), and the process may not raise the limit.
    #[error(
        "this kernel counts BPF maps as locked memory, and the limit cannot be raised: \
         `ulimit -l unlimited` (systemd: LimitMEMLOCK=infinity), or grant CAP_SYS_RESOURCE"
    )]
    LockedMemory {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

const ALL_CAPABILITIES: &str = "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW";

/// Bits of a capability set (linux/capability.h).
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

const MINIMUM: KernelVersion = KernelVersion::new(5, 10, 0);
/// From here on, maps count as memory of the cgroup instead.
const NO_LOCKED_MEMORY: KernelVersion = KernelVersion::new(5, 11, 0);

/// Checks everything, and raises the limit on locked memory where maps count as such.
///
/// # Errors
///
/// The first thing that is missing.
pub fn check() -> Result<(), Unmet> {
    // If the version cannot be read, the kernel's own errors have to do.
    let version = KernelVersion::current().unwrap_or(NO_LOCKED_MEMORY);
    let release = || fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    check_version(version, release)?;
    check_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default())?;
    if version < NO_LOCKED_MEMORY {
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).map_err(|errno| {
            Unmet::LockedMemory {
                source: errno.into(),
            }
        })?;
    }
    Ok(())
}

fn check_version(version: KernelVersion, release: impl Fn() -> String) -> Result<(), Unmet> {
    if version < MINIMUM {
        return Err(Unmet::KernelTooOld {
            release: release().trim().to_owned(),
        });
    }
    Ok(())
}

/// Checks the capabilities in `/proc/self/status`. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON,
/// which were once part of it.
fn check_capabilities(status: &str) -> Result<(), Unmet> {
    let Some(effective) = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
    else {
        // Without a readable /proc, the kernel's own error has to do.
        return Ok(());
    };
    let has = |bit: u32| effective & (1 << bit) != 0;
    let missing: Vec<&str> = [
        (has(BPF) || has(SYS_ADMIN), "CAP_BPF"),
        (has(PERFMON) || has(SYS_ADMIN), "CAP_PERFMON"),
        (has(NET_ADMIN), "CAP_NET_ADMIN"),
        (has(NET_RAW), "CAP_NET_RAW"),
    ]
    .into_iter()
    .filter_map(|(has, name)| (!has).then_some(name))
    .collect();
    let missing = match missing.as_slice() {
        [] => return Ok(()),
        [one] => (*one).to_owned(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    };
    Err(Unmet::NotPrivileged { missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused_by_name() {
        let release = || "5.4.0-42-generic\n".to_owned();
        let error = check_version(KernelVersion::new(5, 4, 0), release).unwrap_err();
        assert!(error.to_string().contains("(5.4.0-42-generic)"), "{error}");
        assert!(check_version(KernelVersion::new(5, 10, 0), release).is_ok());
        assert!(check_version(KernelVersion::new(6, 1, 0), release).is_ok());
    }

    #[test]
    fn missing_capabilities_are_named() {
        let status = |bits: &[u32]| {
            let set: u64 = bits.iter().map(|bit| 1_u64 << bit).sum();
            format!("Name:\tspeaker\nCapPrm:\t0000000000000000\nCapEff:\t{set:016x}\n")
        };
        let error = check_capabilities(&status(&[])).unwrap_err().to_string();
        assert!(
            error.contains("needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW to"),
            "{error}"
        );
        let error = check_capabilities(&status(&[BPF, PERFMON, NET_ADMIN])).unwrap_err();
        assert!(
            error.to_string().contains("needs CAP_NET_RAW to"),
            "{error}"
        );
        assert!(check_capabilities(&status(&[BPF, PERFMON, NET_ADMIN, NET_RAW])).is_ok());
        assert!(check_capabilities(&status(&[SYS_ADMIN, NET_ADMIN, NET_RAW])).is_ok());
        assert!(check_capabilities("").is_ok());
    }
}
