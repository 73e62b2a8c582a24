//! The connection to the other nodes, and messages that cannot be decrypted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use speaker_common::probe;
use tracing::{info, warn};

use super::members::Addresses;
use crate::peers::{Keys, MAKE_KEY, Names, Sockets, endpoint};

/// How long a start waits for peers' names if this node's own address depends on them.
const FIRST_LOOKUP: Duration = Duration::from_secs(1);
/// An address that no host has (RFC 5737 §3), reached by the default route.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// How often one sender's unreadable messages are logged.
const TELL: Duration = Duration::from_secs(10);
/// How many senders of unreadable messages are logged.
const TOLD: usize = 64;

pub(super) struct Net {
    pub(super) sockets: Sockets,
    pub(super) keys: Keys,
    pub(super) key_file: PathBuf,
    /// When the key file was last read.
    pub(super) read: Instant,
    /// Why it could not be read, which is logged once.
    failure: Option<String>,
    /// How many datagrams no key decrypts, and when the last arrived from a node of the cluster.
    pub(super) unreadable: u64,
    last_unreadable: Option<Instant>,
    /// The configured addresses of the cluster's nodes.
    pub(super) peers: BTreeSet<IpAddr>,
    told: BTreeMap<IpAddr, Instant>,
}

impl Net {
    pub(super) fn open(
        messages: SocketAddr,
        peers: &Names,
        key_file: Option<PathBuf>,
    ) -> Result<Self> {
        let Some(key_file) = key_file else {
            bail!(
                "nodes need a shared key to talk to each other: make one with `{MAKE_KEY}`, copy it \
                 to all nodes, and pass it as --cluster-key-file FILE"
            );
        };
        let keys = Keys::read(&key_file)
            .with_context(|| format!("cannot use {} (--cluster-key-file)", key_file.display()))?;
        Ok(Self {
            sockets: Sockets::bind(messages)?,
            keys,
            key_file,
            peers: peers.addresses().map(|peer| peer.ip()).collect(),
            read: Instant::now(),
            failure: None,
            unreadable: 0,
            last_unreadable: None,
            told: BTreeMap::new(),
        })
    }

    /// Reloads the key file. Returns whether the keys have changed.
    pub(super) fn read_keys(&mut self) -> bool {
        self.read = Instant::now();
        let keys = match Keys::read(&self.key_file) {
            Ok(keys) => keys,
            Err(error) => {
                let failure = error.to_string();
                if self.failure.as_ref() != Some(&failure) {
                    warn!(
                        "{}: {failure}; the previous keys stay in use (--cluster-key-file)",
                        self.key_file.display()
                    );
                }
                self.failure = Some(failure);
                return false;
            }
        };
        self.failure = None;
        if keys.probes() == self.keys.probes() {
            return false;
        }
        info!("the cluster keys have changed");
        self.keys = keys;
        true
    }

    pub(super) fn probe_keys(&self) -> Vec<probe::Key> {
        self.keys.probes().to_vec()
    }

    /// Whether nodes of the cluster with different keys have been heard recently.
    pub(super) fn hears_strangers(&self) -> bool {
        self.last_unreadable
            .is_some_and(|last| Instant::now() < last + TELL)
    }

    /// Sets where the cluster's nodes are.
    pub(super) fn expect(&mut self, peers: &Names) {
        self.peers = peers.addresses().map(|peer| peer.ip()).collect();
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

/// The address at which other nodes reach this one: the given one, or the one from which it would
/// send to a peer.
pub(super) async fn own_address(
    bind: Option<SocketAddr>,
    names: &mut Names,
    remembered: &Addresses,
) -> Result<SocketAddr> {
    let is_given = bind.is_some_and(|bind| !bind.ip().is_unspecified());
    if !is_given && names.addresses().next().is_none() && remembered.is_empty() {
        names.look_up_first(FIRST_LOOKUP).await;
    }
    let known = names.addresses().chain(remembered.values().copied());
    let known: Vec<SocketAddr> = known.collect();
    // All nodes must use the same family, whichever their resolvers return first.
    let is_ipv4 = bind.is_none_or(|bind| bind.is_ipv4());
    let peer = known.iter().find(|peer| peer.is_ipv4() == is_ipv4);
    let peer = peer.or(known.first()).copied();
    let own = if is_given || peer.is_some() || !names.is_needed() {
        endpoint(bind, peer)?
    } else {
        let Ok(own) = endpoint(bind, Some(ELSEWHERE)) else {
            bail!(
                "no peer (--peer) can be resolved yet, and without a default route this node's own \
                 address is unknown: set --gossip-bind to the address at which other nodes reach it"
            );
        };
        warn!(
            "no peer (--peer) can be resolved yet: listening on {}, the address of the default \
             route; if other nodes reach this one at another address, set --gossip-bind",
            own.ip()
        );
        own
    };
    names.listen(own);
    Ok(own)
}
