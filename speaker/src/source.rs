//! What a source of configuration (files or a cluster) tells the agent.

use std::{collections::BTreeSet, net::IpAddr};

use speaker_core::intent::{Key, Object};

/// A change of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Objects that are gone.
    pub delete: Vec<Key>,
    /// Objects that are new or have changed.
    pub apply: Vec<Object>,
    /// Everything that is refused now, for people to read.
    pub refused: Vec<String>,
    /// The nodes whose agents share the VIPs, if that has changed.
    pub peers: Option<BTreeSet<IpAddr>>,
}
