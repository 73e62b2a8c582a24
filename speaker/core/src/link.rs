//! The node's network interfaces, as the kernel tells of them.

use std::{
    collections::BTreeSet,
    fmt::{self, Display, Formatter},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use speaker_common::wire::Mac;

/// The smallest MTU that IPv6 works with, in bytes (RFC 8200 §5).
pub const IPV6_MTU_MIN: u32 = 1280;

/// A network interface and what matters of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface index: what the kernel means by this link for as long as it exists.
    pub index: u32,
    /// The name, which can change.
    pub name: String,
    /// The MAC address; all zero where the link has none of six bytes.
    pub mac: Mac,
    /// Switched on (`ip link set up`).
    pub admin_up: bool,
    /// Something is at the other end.
    pub carrier: bool,
    /// The largest payload of a frame, in bytes.
    pub mtu: u32,
    /// What the link is made of.
    pub kind: Kind,
    /// The index of the bond, bridge or VRF that the link belongs to.
    pub master: Option<u32>,
    /// A member that its bond takes nothing in from: another one is in use, or the link is in an
    /// 802.3ad aggregator that is not the active one.
    pub stands_by: bool,
    /// The addresses on it, with the length of their prefix.
    pub addresses: BTreeSet<(IpAddr, u8)>,
    /// The hardware takes VLAN tags off what it receives (`rx-vlan-offload`): native XDP sees
    /// tagged frames as untagged.
    pub strips_vlan_tags: bool,
    /// The XDP program on it, whoever attached it.
    pub xdp: Option<Xdp>,
}

impl Link {
    /// Whether IPv6 can be used on the link (RFC 8200 §5). On one where it cannot, the kernel
    /// takes all IPv6 off, the groups too, and does not bring them back by itself.
    pub const fn has_ipv6(&self) -> bool {
        self.mtu >= IPV6_MTU_MIN
    }

    /// Whether frames get through.
    pub const fn is_up(&self) -> bool {
        self.admin_up && self.carrier
    }

    /// Whether the link has an address for itself alone: the kernel gives it one with IPv6, and
    /// takes it off with IPv6.
    pub(crate) fn has_link_local(&self) -> bool {
        let local = |address: &IpAddr| match address {
            IpAddr::V6(address) => address.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        };
        self.addresses.iter().any(|(address, _)| local(address))
    }

    /// Whether the kernel has this very address on the link.
    pub fn holds(&self, address: IpAddr) -> bool {
        let with_any_prefix = (address, 0)..=(address, u8::MAX);
        self.addresses.range(with_any_prefix).next().is_some()
    }
}

/// What a link is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A network card, real or of a virtual machine.
    Plain,
    /// `lo`.
    Loopback,
    /// One end of a virtual cable.
    Veth,
    /// A bridge.
    Bridge,
    /// A bond.
    Bond {
        /// The index of the member that it sends through; `None` in modes that use several.
        /// Which members it receives through, they tell: [`Link::stands_by`].
        active: Option<u32>,
    },
    /// A VLAN on another link.
    Vlan {
        /// The index of the link below; 0 where that is in another network namespace.
        parent: u32,
        /// The VLAN's number.
        id: u16,
        /// The tag is an IEEE 802.1ad service tag, not an 802.1Q one.
        service: bool,
    },
    /// Another MAC address on another link.
    Macvlan {
        /// The index of the link below; 0 where that is in another network namespace.
        parent: u32,
    },
    /// A VRF.
    Vrf,
    /// Anything else, by the kernel's name for it (`vxlan`, `tun`, …).
    Other(String),
}

/// An XDP program on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// Where it runs.
    pub mode: XdpMode,
    /// The kernel's id of the program.
    pub program: u32,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack, before anything else there.
    Generic,
    /// In the network card.
    Offloaded,
}

impl Display for XdpMode {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
        })
    }
}

/// What has become of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// It appeared, or is now like this.
    Set(Link),
    /// The link of this index is gone. Another one may get its index later.
    Gone(u32),
}
