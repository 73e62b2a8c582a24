//! Which interfaces the agent may use.

use std::collections::BTreeSet;

use crate::{
    link::{Kind, Link},
    links::Links,
};

/// Name prefixes of interfaces without clients of VIPs, as container runtimes and network plugins
/// create them on a node. The list is MetalLB's, and adds Cilium's interfaces.
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
    /// All but loopback, what belongs to another device (other than to a VRF, which leaves the
    /// frames of its members alone), and names with a prefix of [`EXCLUDED`].
    #[default]
    Usual,
    /// Exactly these (`--interface`).
    Named(BTreeSet<String>),
}

impl Choice {
    pub(crate) fn admits(&self, link: &Link, links: &Links) -> bool {
        let is_vrf = |master| links.get(master).is_some_and(|it| it.kind == Kind::Vrf);
        match self {
            Self::Named(names) => names.contains(&link.name),
            Self::Usual => {
                link.kind != Kind::Loopback
                    && link.master.is_none_or(is_vrf)
                    && !EXCLUDED.iter().any(|prefix| link.name.starts_with(prefix))
            }
        }
    }
}
