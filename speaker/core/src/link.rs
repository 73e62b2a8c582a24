//! The node's network interfaces, as the kernel describes them.

use std::{
    collections::BTreeSet,
    fmt::{self, Display, Formatter},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use speaker_common::wire::Mac;

/// The minimum MTU of IPv6, in bytes (RFC 8200 §5).
pub const IPV6_MTU_MIN: u32 = 1280;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface index, which identifies the link as long as it exists.
    pub index: u32,
    /// The name, which can change.
    pub name: String,
    /// The MAC address; all zero if the link has none of six bytes.
    pub mac: Mac,
    /// Switched on (`ip link set up`).
    pub admin_up: bool,
    /// The link has carrier.
    pub carrier: bool,
    /// The largest payload of a frame, in bytes.
    pub mtu: u32,
    /// The kind of device.
    pub kind: Kind,
    /// The index of the bond, bridge or VRF that the link belongs to.
    pub master: Option<u32>,
    /// A standby member, from which its bond receives nothing: another one is active, or the link
    /// is in an inactive 802.3ad aggregator.
    pub stands_by: bool,
    /// Its addresses, with prefix lengths.
    pub addresses: BTreeSet<(IpAddr, u8)>,
    /// The hardware removes VLAN tags from received frames (`rx-vlan-offload`): native XDP sees
    /// tagged frames as untagged.
    pub strips_vlan_tags: bool,
    /// The XDP program on it, whoever attached it.
    pub xdp: Option<Xdp>,
}

impl Link {
    /// Whether IPv6 can be used on the link (RFC 8200 §5). If not, the kernel removes all IPv6
    /// addresses and groups from it, and does not restore them by itself.
    pub const fn has_ipv6(&self) -> bool {
        self.mtu >= IPV6_MTU_MIN
    }

    /// Whether the link is switched on and has carrier.
    pub const fn is_up(&self) -> bool {
        self.admin_up && self.carrier
    }

    /// Whether the link has a link-local IPv6 address, which the kernel adds and removes with IPv6.
    pub(crate) fn has_link_local(&self) -> bool {
        let local = |address: &IpAddr| match address {
            IpAddr::V6(address) => address.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        };
        self.addresses.iter().any(|(address, _)| local(address))
    }

    /// Whether this address is one of the link's own.
    pub fn holds(&self, address: IpAddr) -> bool {
        let with_any_prefix = (address, 0)..=(address, u8::MAX);
        self.addresses.range(with_any_prefix).next().is_some()
    }
}

/// The kind of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A network card, real or of a virtual machine.
    Plain,
    /// `lo`.
    Loopback,
    /// One end of a veth pair.
    Veth,
    /// A bridge.
    Bridge,
    /// A bond.
    Bond {
        /// The index of the member through which it sends; `None` in modes that use several. For
        /// the members through which it receives, see [`Link::stands_by`].
        active: Option<u32>,
    },
    /// A VLAN on another link.
    Vlan {
        /// The index of the link below; 0 if that is in another network namespace.
        parent: u32,
        /// The VLAN ID.
        id: u16,
        /// The tag is an IEEE 802.1ad service tag, not an 802.1Q tag.
        service: bool,
    },
    /// A macvlan on another link.
    Macvlan {
        /// The index of the link below; 0 if that is in another network namespace.
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
    /// The mode in which it runs.
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

/// A change of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// The link appeared, or changed to this.
    Set(Link),
    /// The link of this index is gone. A later one may get the same index.
    Gone(u32),
    /// Messages from the kernel were lost. The changes before this one say how the links differ
    /// now; any link may also have changed and changed back.
    Missed,
}
