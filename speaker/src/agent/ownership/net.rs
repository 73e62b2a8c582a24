//! The way to the other nodes, and what cannot be read of what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use speaker_common::probe;
use tracing::{info, warn};

use crate::peers::{Keys, Sockets};

/// How often one sender's unreadable messages are told of.
const TELL: Duration = Duration::from_secs(10);
/// Senders whose unreadable messages are told of.
const TOLD: usize = 64;

pub(super) struct Net {
    pub(super) sockets: Sockets,
    pub(super) keys: Keys,
    pub(super) key_file: PathBuf,
    /// When the key file was read last.
    pub(super) read: Instant,
    /// Datagrams that no key opens, and when the last one came from one of the cluster's nodes.
    pub(super) unreadable: u64,
    last_unreadable: Option<Instant>,
    /// Where the cluster's nodes are configured to be.
    pub(super) peers: BTreeSet<IpAddr>,
    told: BTreeMap<IpAddr, Instant>,
}

impl Net {
    pub(super) fn open(
        messages: SocketAddr,
        peers: &[SocketAddr],
        key_file: Option<PathBuf>,
    ) -> Result<Self> {
        let Some(key_file) = key_file else {
            bail!(
                "nodes need a shared key to talk to each other: create one with `openssl rand \
                 -base64 32 > FILE`, copy it to all nodes, and pass it as --cluster-key-file FILE"
            );
        };
        let keys = Keys::read(&key_file)
            .with_context(|| format!("{} (--cluster-key-file)", key_file.display()))?;
        Ok(Self {
            sockets: Sockets::bind(messages)?,
            keys,
            key_file,
            peers: peers.iter().map(SocketAddr::ip).collect(),
            read: Instant::now(),
            unreadable: 0,
            last_unreadable: None,
            told: BTreeMap::new(),
        })
    }

    /// Reloads the key file. Returns whether the keys have changed.
    pub(super) fn read_keys(&mut self) -> bool {
        self.read = Instant::now();
        match Keys::read(&self.key_file) {
            Ok(keys) if keys.probes() == self.keys.probes() => false,
            Ok(keys) => {
                info!("the cluster keys have changed");
                self.keys = keys;
                true
            }
            Err(error) => {
                warn!(
                    "{}: {error}; the previous keys stay in use (--cluster-key-file)",
                    self.key_file.display()
                );
                false
            }
        }
    }

    pub(super) fn probe_keys(&self) -> Vec<probe::Key> {
        self.keys.probes().to_vec()
    }

    /// Whether nodes of the cluster have been heard lately that have other keys.
    pub(super) fn hears_strangers(&self) -> bool {
        self.last_unreadable
            .is_some_and(|last| Instant::now() < last + TELL)
    }

    pub(super) fn cannot_read(&mut self, from: SocketAddr) {
        self.unreadable += 1;
        let now = Instant::now();
        if self.peers.contains(&from.ip()) {
            self.last_unreadable = Some(now);
        }
        self.told.retain(|_, told| now < *told + TELL);
        if self.told.contains_key(&from.ip()) || self.told.len() == TOLD {
            return;
        }
        self.told.insert(from.ip(), now);
        warn!(
            "a message from {from} cannot be decrypted with this node's keys: check that {} is the \
             same there (--cluster-key-file)",
            self.key_file.display()
        );
    }
}
