//! Where the agent's configuration comes from, and what it is told by either source.

use std::{collections::BTreeSet, net::IpAddr};

use speaker_core::intent::{Key, Object};

/// What has become different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Objects that are gone.
    pub delete: Vec<Key>,
    /// Objects that are new or other than before.
    pub apply: Vec<Object>,
    /// Everything that is refused now, for people to read.
    pub refused: Vec<String>,
    /// The nodes whose agents share the VIPs, if they are others than before.
    pub peers: Option<BTreeSet<IpAddr>>,
}
