//! The file system that holds the pins.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use thiserror::Error;
use tracing::warn;

/// Why the directory cannot hold pins.
#[derive(Debug, Error)]
pub enum BpffsError {
    /// No such directory.
    #[error(
        "{path}: no such directory. The program and its maps are pinned there, to outlive the \
         agent: create it (`mkdir -p {path}`), or choose another one (--bpffs)"
    )]
    Missing {
        /// The requested one.
        path: PathBuf,
    },
    /// It holds something that a mount would hide.
    #[error(
        "{path} is not a BPF file system, and not an empty directory that one could be mounted \
         on: choose another one (--bpffs; the default is /sys/fs/bpf)"
    )]
    NotBpf {
        /// The requested one.
        path: PathBuf,
    },
    /// Another agent mounts one.
    #[error(
        "another agent is mounting a BPF file system at {path}, and only one can run on a node"
    )]
    Busy {
        /// The requested one.
        path: PathBuf,
    },
    /// There is no BPF file system, and the process may not mount one.
    #[error(
        "{path} is not a BPF file system, and it cannot be mounted from here. On the host: \
         `mount -t bpf bpf {path}`; in a container: mount the host's {path} into it"
    )]
    MountRefused {
        /// The requested one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be examined.
    #[error("cannot examine {path} (--bpffs)")]
    Unreadable {
        /// The requested one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Whether a BPF file system is mounted there; `None` if there is nothing at all.
pub(super) fn is_bpffs(path: &Path) -> Result<Option<bool>, BpffsError> {
    match statfs(path) {
        Ok(found) => Ok(Some(found.filesystem_type() == BPF_FS_MAGIC)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(BpffsError::Unreadable {
            path: path.to_owned(),
            source: errno.into(),
        }),
    }
}

/// Makes sure that a BPF file system is mounted there.
pub(super) fn ensure(path: &Path) -> Result<(), BpffsError> {
    match is_bpffs(path)? {
        Some(true) => return Ok(()),
        Some(false) => {}
        None => {
            return Err(BpffsError::Missing {
                path: path.to_owned(),
            });
        }
    }
    // Agents that start together must not mount one each. The lock is on what is below the mount.
    let unreadable = |source| BpffsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let below = File::open(path).map_err(unreadable)?;
    below.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => BpffsError::Busy {
            path: path.to_owned(),
        },
        TryLockError::Error(error) => unreadable(error),
    })?;
    if is_bpffs(path)? == Some(true) {
        return Ok(());
    }
    let is_empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if !is_empty {
        return Err(BpffsError::NotBpf {
            path: path.to_owned(),
        });
    }
    mount(
        Some("bpf"),
        path,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .map_err(|errno| BpffsError::MountRefused {
        path: path.to_owned(),
        source: errno.into(),
    })?;
    warn!(
        "there was no BPF file system at {path}: mounted one. In a container, mount the host's \
         instead: pins in this one go when the container ends, and answering stops",
        path = path.display()
    );
    Ok(())
}
