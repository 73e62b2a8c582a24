//! What sets one node apart from another.

use super::{Advertisement, Node, NotAnnounced, Terms};

/// The label of nodes that no load balancer is to use (Kubernetes, well-known labels).
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What decides about all VIPs of a node at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outlook {
    /// It takes none.
    Unfit(Unfit),
    /// For each advertisement in the order of their names, whether it selects the node, and how
    /// much it prefers it.
    Fit(Vec<(bool, u32)>),
}

/// Why a node takes no VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// By its label.
    Excluded,
    /// By its condition `NetworkUnavailable`.
    NetworkUnavailable,
}

impl Outlook {
    pub(super) fn of<'a>(
        node: &Node,
        terms: &Terms,
        advertisements: impl Iterator<Item = &'a Advertisement>,
    ) -> Self {
        if node.network_unavailable {
            return Self::Unfit(Unfit::NetworkUnavailable);
        }
        if node.labels.contains_key(EXCLUDE) && !terms.ignore_exclude_label {
            return Self::Unfit(Unfit::Excluded);
        }
        let of = |it: &Advertisement| (it.selects_node(&node.labels), it.preference(&node.labels));
        Self::Fit(advertisements.map(of).collect())
    }
}

impl Unfit {
    pub(super) fn reason(self, node: &Node) -> NotAnnounced {
        let node = node.name.to_string();
        match self {
            Self::Excluded => NotAnnounced::NodeExcluded { node },
            Self::NetworkUnavailable => NotAnnounced::NetworkUnavailable { node },
        }
    }
}
