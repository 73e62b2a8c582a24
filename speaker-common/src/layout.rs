//! The layouts of the maps' keys and values.
//!
//! Map, struct and field names are user interface: `bpftool map dump` prints them. Addresses are in
//! network byte order, as on the wire; all other fields are in host byte order.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::{probe::Key, wire::Mac};

/// The version of all layouts. It names the directory of the pins, so that an agent never reads the
/// maps of another layout.
pub const LAYOUT_VERSION: u32 = 2;

/// The number of cells in `links`.
pub const LINK_CELLS: usize = 1_024;
/// The number of cells in which a link may be.
const LINK_PROBES: u32 = 4;
/// The most VIP entries per address family.
pub const MAX_VIPS: usize = 65_536;
/// The number of counter slots: one for each entry of either family.
pub const MAX_SLOTS: usize = 2 * MAX_VIPS;
/// The number of words in `filter`, 2^20 bits: with 50,000 VIPs, one in twenty addresses that are
/// no VIP is looked up in vain.
pub const FILTER_WORDS: usize = 1 << 14;
/// The size of the event ring in bytes: a power of two, and a multiple of the page size.
pub const EVENT_RING_BYTES: usize = 1 << 20;
/// The bytes of a frame that an event holds: enough for the longest frame that is handled.
pub const SNAPSHOT_BYTES: usize = 128;

/// The VLAN IDs of a frame's tags. All zero if the frame is untagged, or tagged for priority only
/// (VLAN ID 0, IEEE 802.1Q §9.6).
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct Vlan {
    /// The VLAN of a frame with one 802.1Q tag, or of the 802.1Q tag inside an 802.1ad one.
    pub id: u16,
    /// The VLAN of the 802.1ad service tag; 0 if there is none.
    pub service: u16,
}

/// Key of `vips_v4`.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct VipKeyV4 {
    /// The VIP.
    pub address: [u8; 4],
    /// [`Link::port`] of the links that answer for it.
    pub port: u32,
    /// The VLAN on that port.
    pub vlan: Vlan,
}

/// Key of `vips_v6`.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct VipKeyV6 {
    /// The VIP.
    pub address: [u8; 16],
    /// [`Link::port`] of the links that answer for it.
    pub port: u32,
    /// The VLAN on that port.
    pub vlan: Vlan,
}

/// The bit of `filter` that says whether an address may be a VIP.
///
/// The bit of an address is set before the address is entered in `vips_v4` or `vips_v6`, for any
/// port and VLAN, and may stay set afterwards. A frame about an address whose bit is not set
/// concerns no VIP, and costs no hash look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterBit {
    /// The index of the word.
    pub word: u32,
    /// The bit within the word.
    pub mask: u64,
}

impl FilterBit {
    /// The bit of an IPv4 address.
    #[inline(always)]
    pub const fn v4(address: &[u8; 4]) -> Self {
        Self::of(u32::from_be_bytes(*address) as u64)
    }

    /// The bit of an IPv6 address.
    #[inline(always)]
    pub const fn v6(address: &[u8; 16]) -> Self {
        let address = u128::from_be_bytes(*address);
        let (prefix, interface) = ((address >> 64) as u64, address as u64);
        Self::of(interface ^ prefix.rotate_left(32))
    }

    /// Fibonacci hashing: neighboring addresses of a subnet get different bits.
    #[inline(always)]
    const fn of(address: u64) -> Self {
        const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
        const SHIFT: u32 = u64::BITS - (FILTER_WORDS as u32 * u64::BITS).ilog2();
        let bit = address.wrapping_mul(GOLDEN_RATIO) >> SHIFT;
        Self {
            word: (bit / 64) as u32,
            mask: 1 << (bit % 64),
        }
    }
}

/// What this node does with requests for a VIP.
#[repr(u8)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    TryFromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub enum Action {
    /// The node owns the VIP: answer, while the lease is valid.
    Answer = 1,
    /// Another node owns the VIP: keep this node's own kernel from answering.
    Suppress = 2,
}

/// Value of `vips_v4` and `vips_v6`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Vip {
    /// What to do with requests.
    pub action: Action,
    /// Nonzero once all announcements after the take-over have been sent. If not, the next agent
    /// sends them: an earlier one did not get so far. The program does not read it.
    pub announced: u8,
    #[doc(hidden)]
    pub unused: [u8; 2],
    /// The slot of its [`Counters`].
    pub slot: u32,
}

impl Vip {
    /// An entry with this action and counter slot, yet to be announced.
    pub const fn new(action: Action, slot: u32) -> Self {
        Self {
            action,
            announced: 0,
            unused: [0; 2],
            slot,
        }
    }

    /// Whether its announcements have all been sent.
    pub const fn is_announced(&self) -> bool {
        self.announced != 0
    }

    /// The same entry, announced or not.
    pub const fn with_announced(self, announced: bool) -> Self {
        Self {
            announced: announced as u8,
            ..self
        }
    }
}

/// How requests on a link are answered.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Link {
    /// The MAC to which requests are sent, and which answers contain: the interface's, or its
    /// bond's.
    pub mac: Mac,
    #[doc(hidden)]
    pub unused: [u8; 2],
    /// The key of VIPs: the index of the interface, or of its bond.
    pub port: u32,
}

impl Link {
    /// A link with this MAC and port.
    pub const fn new(mac: Mac, port: u32) -> Self {
        Self {
            mac,
            unused: [0; 2],
            port,
        }
    }
}

/// Value of `links`: an array that is searched like a hash table, with a few loads per look-up.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LinkCell {
    /// The link.
    pub link: Link,
    /// Its interface index; 0 if the cell is empty.
    pub ifindex: u32,
}

impl LinkCell {
    /// An empty cell.
    pub const FREE: Self = Self {
        link: Link::new([0; 6], 0),
        ifindex: 0,
    };

    /// The cells that may hold the link of an interface. It is entered in the first free one, and
    /// looked up in all of them.
    #[inline(always)]
    pub fn of(ifindex: u32) -> impl Iterator<Item = u32> {
        (0..LINK_PROBES).map(move |probe| ifindex.wrapping_add(probe) % LINK_CELLS as u32)
    }
}

/// Value of `counters`, by slot. All CPUs share it and add atomically: its size does not grow with
/// the number of CPUs, and requests for one VIP rarely arrive on two CPUs at once.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Counters {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were dropped because another node owns the VIP.
    pub suppressed: u64,
    /// Requests that were dropped because the lease has lapsed.
    pub refused: u64,
    /// When the last request arrived, in nanoseconds of `CLOCK_BOOTTIME`.
    pub last_request_ns: u64,
}

impl Counters {
    /// All ARP requests, solicitations and address probes for the VIP.
    pub const fn requests(&self) -> u64 {
        self.answered + self.suppressed + self.refused
    }
}

/// The most keys of probes at a time: the present one, and those that a rotation replaces.
pub const PROBE_KEYS: usize = 3;

/// The only value of `probes`: which probes this node answers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Probes {
    /// This node's number.
    pub node: u64,
    /// The keys of the tag. A probe may use any of the first `count`, and its reply uses the same.
    pub keys: [Key; PROBE_KEYS],
    /// The number of valid `keys`.
    pub count: u32,
    /// The UDP port of probes; 0 if none are answered.
    pub port: u16,
    #[doc(hidden)]
    pub unused: [u8; 2],
}

impl Probes {
    /// No probes are answered.
    pub const NONE: Self = Self {
        node: 0,
        keys: [Key([0; 2]); PROBE_KEYS],
        count: 0,
        port: 0,
        unused: [0; 2],
    };

    /// Probes for the node of this number, at this UDP port and with one of these keys, are
    /// answered. `None` if there are more than [`PROBE_KEYS`].
    pub fn new(node: u64, port: u16, keys: &[Key]) -> Option<Self> {
        let mut probes = Self {
            node,
            port,
            count: keys.len() as u32,
            ..Self::NONE
        };
        probes.keys.get_mut(..keys.len())?.copy_from_slice(keys);
        Some(probes)
    }
}

/// The only value of `tap`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Tap {
    /// Nonzero: put every handled frame and its reply into the ring.
    pub watched: u32,
}

/// The kind of an event.
#[repr(u8)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    TryFromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub enum EventKind {
    /// A request for a VIP was answered.
    Answered = 1,
    /// A request for a VIP that another node owns was dropped.
    Suppressed = 2,
    /// A request for a VIP was dropped because the lease has lapsed.
    Refused = 3,
    /// A frame was not answered, for [`Event::reason`].
    Rejected = 4,
    /// The frame was sent by the program.
    Reply = 5,
    /// Another MAC claims a VIP that this node owns.
    Claimed = 6,
    /// Another host probed whether the VIP is free (RFC 5227 §2.1.1, RFC 4862 §5.4), and got the
    /// answer that it is not.
    Probed = 7,
}

/// A record of the event ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// The time, in nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// The interface on which the frame arrived.
    pub ifindex: u32,
    /// The frame's length on the wire.
    pub length: u16,
    /// What happened.
    pub kind: EventKind,
    /// For [`EventKind::Rejected`], the number of the [`Reason`](crate::respond::Reason).
    pub reason: u8,
    /// The frame's first bytes, copied in pairs; zeros after its last pair.
    pub frame: [u8; SNAPSHOT_BYTES],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{AgentLease, PeersLease};

    /// Sizes are part of the layout: a change requires a new [`LAYOUT_VERSION`].
    #[test]
    fn sizes_are_those_of_the_layout_version() {
        assert_eq!(LAYOUT_VERSION, 2);
        assert_eq!(size_of::<LinkCell>(), 16);
        assert_eq!(size_of::<VipKeyV4>(), 12);
        assert_eq!(size_of::<VipKeyV6>(), 24);
        assert_eq!(size_of::<Vip>(), 8);
        assert_eq!(size_of::<Counters>(), 32);
        assert_eq!(size_of::<AgentLease>(), 40);
        assert_eq!(size_of::<PeersLease>(), 32);
        assert_eq!(size_of::<Probes>(), 64);
        assert_eq!(size_of::<Tap>(), 4);
        assert_eq!(size_of::<Event>(), 144);
    }

    #[test]
    fn neighbouring_addresses_have_different_filter_bits() {
        use std::collections::BTreeSet;
        let bits = |addresses: &mut dyn Iterator<Item = FilterBit>| {
            addresses
                .inspect(|bit| assert!((bit.word as usize) < FILTER_WORDS))
                .map(|bit| (bit.word, bit.mask))
                .collect::<BTreeSet<_>>()
                .len()
        };
        let v4 = |n: u16| FilterBit::v4(&(0x0a00_0000 + u32::from(n)).to_be_bytes());
        let v6 = |n: u16| FilterBit::v6(&((0x2001_0db8 << 96) + u128::from(n)).to_be_bytes());
        let most = usize::from(u16::MAX) * 9 / 10;
        assert!(bits(&mut (0..u16::MAX).map(v4)) > most);
        assert!(bits(&mut (0..u16::MAX).map(v6)) > most);
    }
}
