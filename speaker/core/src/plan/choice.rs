//! Which interfaces the agent may use.

use std::collections::BTreeSet;

use crate::link::{Kind, Link};

/// Interfaces that carry no clients of VIPs, by the beginning of their name: what container
/// runtimes and network plugins make on a node. The list is MetalLB's, and Cilium's own.
pub const EXCLUDED: [&str; 15] = [
    "docker",
    "cbr",
    "dummy",
    "virbr",
    "lxcbr",
    "veth",
    "cali",
    "tunl",
    "flannel",
    "kube-ipvs",
    "cni",
    "nodelocaldns",
    "lxc",
    "cilium_",
    "ovs-system",
];

/// The operator's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// All but those whose name begins as in [`EXCLUDED`], loopback, and what belongs to a bond or
    /// bridge.
    #[default]
    Usual,
    /// Exactly these (`--interface`).
    Named(BTreeSet<String>),
}

impl Choice {
    pub(crate) fn admits(&self, link: &Link) -> bool {
        match self {
            Self::Named(names) => names.contains(&link.name),
            Self::Usual => {
                link.kind != Kind::Loopback
                    && link.master.is_none()
                    && !EXCLUDED.iter().any(|prefix| link.name.starts_with(prefix))
            }
        }
    }
}
