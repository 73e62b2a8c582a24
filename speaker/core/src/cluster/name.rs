//! Names of nodes, and numbers of lives and epochs.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A node's name: in Kubernetes, the name of its Node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The node's number in probes: the first eight bytes of its name's SHA-256, little-endian.
    pub fn number(&self) -> u64 {
        let hash: [u8; 32] = Sha256::digest(self.as_str()).into();
        u64::from_le_bytes(*hash.first_chunk().expect("a SHA-256 has 32 bytes"))
    }
}

impl From<&str> for NodeName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for NodeName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().into()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A period in which a node holds its lease without interruption; other protocols say incarnation.
/// Later lives have higher numbers.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Life(pub u64);

/// Counts the owners of a VIP: later owners have higher numbers.
pub type Epoch = u64;

/// The addresses of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoints {
    /// Messages between agents.
    pub messages: SocketAddr,
    /// Liveness probes.
    pub probes: SocketAddr,
}

impl Endpoints {
    /// The endpoints of a node that listens for messages at this address, and for probes on the
    /// next port. `None` if there is no such port.
    pub fn at(messages: SocketAddr) -> Option<Self> {
        let port = messages.port().checked_add(1)?;
        let probes = SocketAddr::new(messages.ip(), port);
        Some(Self { messages, probes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_number_begins_its_names_hash() {
        // SHA-256("abc") begins ba7816bf 8f01cfea.
        assert_eq!(NodeName::from("abc").number(), 0xeacf_018f_bf16_78ba);
    }
}
