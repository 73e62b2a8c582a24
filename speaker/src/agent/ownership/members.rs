//! The nodes that this one has met, kept on disk.
//!
//! A node need only be configured with one other, and learns of the rest when it joins. If that one
//! is down at the next start, the node looks for these.

use std::{collections::BTreeMap, fs, io, net::SocketAddr, path::Path, sync::mpsc, thread};

use anyhow::{Context as _, Result};
use speaker_core::cluster::NodeName;
use tracing::warn;

use crate::state;

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
        let write = move || {
            while let Ok(members) = changes.recv() {
                if let Err(error) = keep(&path, &members) {
                    warn!(
                        "cannot write {}: {error}; the next start will look for configured nodes \
                         only",
                        path.display()
                    );
                }
            }
        };
        thread::Builder::new()
            .name("members".into())
            .spawn(write)
            .context("cannot start the thread that keeps the members on disk")?;
        Ok((Self { writer }, known))
    }

    pub(super) fn keep(&self, members: Addresses) {
        // The thread ends with the agent.
        let _ = self.writer.send(members);
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
    use super::*;

    #[test]
    fn what_was_kept_is_there_at_the_next_start() {
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
}
