//! The nodes that this one has met, kept on disk.
//!
//! A node need only be configured with one other, and learns of the rest when it joins. If that one
//! is down at the next start, the node looks for these.

use std::{
    collections::BTreeMap, fs, io, net::SocketAddr, path::Path, sync::mpsc, thread, time::Duration,
};

use anyhow::{Context as _, Result};
use speaker_core::cluster::NodeName;
use tracing::warn;

use crate::state;

/// The wait before a failed write is retried.
const RETRY: Duration = Duration::from_secs(1);

/// Where nodes are, by name.
pub(super) type Addresses = BTreeMap<NodeName, SocketAddr>;

/// The file, and the thread that writes it: a slow disk must not keep the agent from its lease.
pub(super) struct Members {
    writer: mpsc::Sender<Addresses>,
}

impl Members {
    /// Opens the file. If it cannot be read, logs that and starts without it.
    pub(super) fn open(state_dir: &Path) -> Result<(Self, Addresses)> {
        let path = state_dir.join(state::MEMBERS);
        let known = load(&path).unwrap_or_else(|error| {
            warn!(
                "cannot read {}: {error}; looking for configured nodes only",
                path.display()
            );
            Addresses::new()
        });
        let (writer, changes) = mpsc::channel();
        thread::Builder::new()
            .name("members".into())
            .spawn(move || write(&path, &changes))
            .context("cannot start the thread that keeps the members on disk")?;
        Ok((Self { writer }, known))
    }

    pub(super) fn keep(&self, members: Addresses) {
        // The thread ends with the agent.
        let _ = self.writer.send(members);
    }
}

/// Writes the newest members sent to it.
fn write(path: &Path, changes: &mpsc::Receiver<Addresses>) {
    let mut failure = None;
    while let Ok(mut members) = changes.recv() {
        while let Err(error) = keep(path, &members) {
            let error = error.to_string();
            if failure.as_ref() != Some(&error) {
                warn!(
                    "cannot write {}: {error}; trying again. Until then, a restart looks for the \
                     nodes known earlier",
                    path.display()
                );
            }
            failure = Some(error);
            match changes.recv_timeout(RETRY) {
                Ok(newer) => members = newer,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
        failure = None;
    }
}

/// Reads lines of a name and an address.
fn load(path: &Path) -> io::Result<Addresses> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Addresses::new()),
        text => text?,
    };
    let member = |line: &str| {
        let (name, address) = line.rsplit_once(' ')?;
        Some((NodeName::from(name), address.parse().ok()?))
    };
    Ok(text.lines().filter_map(member).collect())
}

/// Replaces the file atomically.
fn keep(path: &Path, members: &Addresses) -> io::Result<()> {
    let lines = members.iter().map(|(name, at)| format!("{name} {at}\n"));
    let new = path.with_file_name(state::NEW_MEMBERS);
    fs::write(&new, lines.collect::<String>())?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn known_members_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(state::MEMBERS);
        assert_eq!(load(&path).unwrap(), Addresses::new());
        let members: Addresses = [
            ("n1".into(), SocketAddr::from(([192, 0, 2, 1], 7946))),
            ("n2".into(), "[2001:db8::2]:7946".parse().unwrap()),
        ]
        .into();
        keep(&path, &members).unwrap();
        assert_eq!(load(&path).unwrap(), members);
        fs::write(&path, "n1 192.0.2.1:7946\nwhatever\n").unwrap();
        assert_eq!(load(&path).unwrap().len(), 1);
    }

    #[test]
    fn failed_writes_are_retried() {
        let directory = tempfile::tempdir().unwrap();
        // Writes fail, as on a full disk.
        let in_the_way = directory.path().join(state::NEW_MEMBERS);
        fs::create_dir(&in_the_way).unwrap();
        let (members, known) = Members::open(directory.path()).unwrap();
        assert_eq!(known, Addresses::new());
        let met: Addresses = [("n1".into(), SocketAddr::from(([192, 0, 2, 1], 7946)))].into();
        members.keep(met.clone());
        thread::sleep(RETRY / 2);
        fs::remove_dir(in_the_way).unwrap();
        let end = Instant::now() + 10 * RETRY;
        while load(&directory.path().join(state::MEMBERS)).unwrap() != met {
            assert!(Instant::now() < end, "it was tried once only");
            thread::sleep(RETRY / 10);
        }
    }
}
