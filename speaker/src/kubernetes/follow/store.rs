//! The last known objects of the cluster, stored for a start without its API server.

use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use humantime::format_rfc3339_seconds;
use serde::{Deserialize, Serialize};
use speaker_core::intent::Object;

use crate::blocking::blocking;

use crate::state;

/// Changes with what [`Known`] means.
const VERSION: u32 = 3;

/// A file under the state directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    path: PathBuf,
}

/// The content of the file.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) objects: Vec<Object>,
    pub(super) peers: BTreeSet<IpAddr>,
    /// When it was written, for people.
    pub(super) written: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    objects: Vec<Object>,
    peers: BTreeSet<IpAddr>,
}

impl Store {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(state::OBJECTS),
        }
    }

    /// What was last stored; `None` if nothing was, or by a different version.
    pub(super) async fn load(&self) -> Result<Option<Known>> {
        let path = self.path.clone();
        let load = move || {
            let bytes = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                read => read?,
            };
            let content: Content = serde_json::from_slice(&bytes)?;
            if content.version != VERSION {
                return Ok(None);
            }
            let written = fs::metadata(&path)?.modified()?;
            anyhow::Ok(Some(Known {
                objects: content.objects,
                peers: content.peers,
                written: format_rfc3339_seconds(written).to_string(),
            }))
        };
        let loaded = blocking(load).await;
        loaded.with_context(|| format!("cannot read {}", self.path.display()))
    }

    /// Replaces what was stored, atomically.
    pub(super) async fn keep(&self, objects: Vec<Object>, peers: BTreeSet<IpAddr>) -> Result<()> {
        let path = self.path.clone();
        let keep = move || {
            let content = Content {
                version: VERSION,
                objects,
                peers,
            };
            let bytes = serde_json::to_vec(&content)?;
            if fs::read(&path).is_ok_and(|kept| kept == bytes) {
                return Ok(());
            }
            // Without fsync: after a power failure, the previous file is most likely intact, and a
            // start without any file waits for the API server.
            let new = path.with_file_name(state::NEW_OBJECTS);
            fs::write(&new, bytes)?;
            fs::rename(new, path)?;
            anyhow::Ok(())
        };
        let kept = blocking(keep).await;
        kept.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use speaker_core::intent::Node;

    use super::*;

    #[tokio::test]
    async fn stored_objects_survive_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        assert!(store.load().await.unwrap().is_none());
        let objects = vec![Object::Node(Node::standalone("n1"))];
        let peers = BTreeSet::from(["192.0.2.1".parse().unwrap()]);
        store.keep(objects.clone(), peers.clone()).await.unwrap();
        let known = Store::new(state.path()).load().await.unwrap().unwrap();
        assert_eq!((known.objects, known.peers), (objects, peers));
    }

    #[tokio::test]
    async fn an_unreadable_store_is_reported_and_harmless() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        fs::write(&store.path, "{\"version\": 3, \"objects\": 7").unwrap();
        let error = format!("{:#}", store.load().await.unwrap_err());
        let file = store.path.display();
        assert!(
            error.starts_with(&format!("cannot read {file}: ")),
            "{error}"
        );
        fs::write(
            &store.path,
            "{\"version\": 0, \"objects\": [], \"peers\": []}",
        )
        .unwrap();
        assert!(store.load().await.unwrap().is_none(), "of another version");
    }
}
