//! One agent per node: the lock on the directory of the pins.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Held as long as the value lives; the kernel releases it when the process ends for any reason.
#[derive(Debug)]
pub(super) struct Lock {
    directory: File,
}

/// Why the lock could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "an agent{holder} runs on this node and has locked {path}: stop it first",
        holder = pid.map(|pid| format!(", pid {pid},")).unwrap_or_default(),
        path = path.display()
    )]
    Held {
        /// The directory that is locked.
        path: PathBuf,
        /// The process that holds it, if known: not across containers.
        pid: Option<u32>,
    },
    /// The directory cannot be created or opened.
    #[error("cannot open {path}", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Creates the directory if it is missing, and locks it.
    pub(super) fn take(directory: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            path: directory.to_owned(),
            source,
        };
        loop {
            match fs::create_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                _ => {}
            }
            let file = File::open(directory).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held {
                        path: directory.to_owned(),
                        pid: holder_of(directory),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // `detach_all` may have removed the directory before it was locked; then the lock is
            // worthless.
            let lock = Self { directory: file };
            if lock.is_of(directory) {
                return Ok(lock);
            }
        }
    }

    /// Whether it locks the directory currently at this path.
    pub(super) fn is_of(&self, directory: &Path) -> bool {
        let identity = |it: Metadata| (it.dev(), it.ino());
        let own = self.directory.metadata().map(identity);
        let there = fs::metadata(directory).map(identity);
        matches!((own, there), (Ok(own), Ok(there)) if own == there)
    }
}

/// The process that holds the directory's lock, if that is known.
pub(super) fn holder_of(directory: &Path) -> Option<u32> {
    let metadata = fs::metadata(directory).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    holder(&locks, metadata.dev(), metadata.ino())
}

/// The process that `/proc/locks` names as holding the file, as in
/// `5: FLOCK  ADVISORY  WRITE 812 00:1f:4711 0 EOF`.
fn holder(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let file = format!(
        "{:02x}:{:02x}:{inode}",
        libc::major(device),
        libc::minor(device)
    );
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, locked, ..] if *locked == file => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_holder_is_found_in_proc() {
        let locks = "1: POSIX  ADVISORY  WRITE 77 00:1f:4711 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 78 00:1f:4711 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 812 00:1f:4711 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 813 00:1f:4712 0 EOF\n";
        let device = libc::makedev(0, 0x1f);
        assert_eq!(holder(locks, device, 4711), Some(812));
        assert_eq!(holder(locks, device, 4713), None);
    }

    #[test]
    fn a_held_lock_is_refused_and_a_released_one_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("speaker");
        let first = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("an agent, pid {}, runs", std::process::id())),
            "{error}"
        );
        drop(first);
        Lock::take(&path).unwrap();
    }
}
