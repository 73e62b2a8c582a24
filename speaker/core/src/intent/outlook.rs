//! What distinguishes one node from another.

use super::{Advertisement, Node, NotAnnounced, Terms};

/// The label of nodes that load balancers must not use (Kubernetes, well-known labels).
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The properties of a node that affect all VIPs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outlook {
    /// It takes none.
    Unfit(Unfit),
    /// For each advertisement by name, whether it selects the node, and the preference it gives.
    Fit(Vec<(bool, u32)>),
}

/// Why a node takes no VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// Its label excludes it.
    Excluded,
    /// Its condition `NetworkUnavailable` is true.
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
