//! The maps' keys and values, byte for byte as the kernel holds them.
//!
//! Map, struct and field names are user interface: `bpftool map dump` prints them. All fields but
//! the addresses (network order, as on the wire) are in the host's byte order.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::{probe::Key, wire::Mac};

/// Version of everything in this module. Pins live under a directory named after it, so that a
/// new agent never reads an old layout by mistake.
pub const LAYOUT_VERSION: u32 = 2;

/// Cells of `links`.
pub const LINK_CELLS: usize = 1_024;
/// Cells that a link may be in.
const LINK_PROBES: u32 = 4;
/// Entries per family.
pub const MAX_VIPS: usize = 65_536;
/// Counter slots: one for each entry of either family.
pub const MAX_SLOTS: usize = 2 * MAX_VIPS;
/// Words of `filter`: 2^20 bits, so that of 50,000 VIPs' worth of foreign addresses one in twenty
/// is looked up in vain.
pub const FILTER_WORDS: usize = 1 << 14;
/// Bytes of the event ring; a power of two and a multiple of the page size.
pub const EVENT_RING_BYTES: usize = 1 << 20;
/// Bytes of a frame that an event holds: the longest frame that is ever handled.
pub const SNAPSHOT_BYTES: usize = 128;

/// The tags of a frame, by VLAN id. All zero: untagged, or tagged for priority only (VID 0,
/// IEEE 802.1Q §9.6).
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
    /// The VLAN of the 802.1ad service tag, 0 where there is none.
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

/// Where `filter` says whether an address may be a VIP.
///
/// The bit is set for every address in `vips_v4` or `vips_v6`, whatever its port and VLAN, before
/// it is entered there; it may stay set afterwards. A frame about an address whose bit is not set
/// is none of ours, and costs no look-up in a hash.
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

    /// Fibonacci hashing: neighbours in a subnet get bits of their own.
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

/// What this node does when it is asked for a VIP.
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
    /// Another node owns it: keep this node's own kernel from answering.
    Suppress = 2,
}

/// Value of `vips_v4` and `vips_v6`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Vip {
    /// What to do.
    pub action: Action,
    #[doc(hidden)]
    pub unused: [u8; 3],
    /// Where its [`Counters`] are.
    pub slot: u32,
}

impl Vip {
    /// An entry with this action and counter slot.
    pub const fn new(action: Action, slot: u32) -> Self {
        Self {
            action,
            unused: [0; 3],
            slot,
        }
    }
}

/// Where a link's requests are answered from, and what VIPs are bound to there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Link {
    /// The MAC that requests are sent to and answers name: the interface's own, or its bond's.
    pub mac: Mac,
    #[doc(hidden)]
    pub unused: [u8; 2],
    /// What VIPs are bound to: the interface's own index, or its bond's.
    pub port: u32,
}

impl Link {
    /// A link with this MAC, bound to this port.
    pub const fn new(mac: Mac, port: u32) -> Self {
        Self {
            mac,
            unused: [0; 2],
            port,
        }
    }
}

/// Value of `links`: an array that is searched like a hash, in which a look-up costs a few loads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LinkCell {
    /// The link.
    pub link: Link,
    /// Its interface index; 0 in a cell that holds none.
    pub ifindex: u32,
}

impl LinkCell {
    /// A cell that holds no link.
    pub const FREE: Self = Self {
        link: Link::new([0; 6], 0),
        ifindex: 0,
    };

    /// The cells that may hold the link of an interface. It is entered in the first that is free,
    /// and looked for in all of them.
    #[inline(always)]
    pub fn of(ifindex: u32) -> impl Iterator<Item = u32> {
        (0..LINK_PROBES).map(move |probe| ifindex.wrapping_add(probe) % LINK_CELLS as u32)
    }
}

/// Value of `counters`, by slot. Shared by all CPUs and added to atomically: its size does not
/// grow with the machine, and one VIP's requests rarely arrive on two CPUs at once.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Counters {
    /// Answered.
    pub answered: u64,
    /// Dropped because another node owns the VIP.
    pub suppressed: u64,
    /// Dropped because the lease has lapsed.
    pub refused: u64,
    /// When the last request came, in nanoseconds of `CLOCK_BOOTTIME`.
    pub last_request_ns: u64,
}

impl Counters {
    /// Requests, solicitations and probes for the VIP: whatever became of them.
    pub const fn requests(&self) -> u64 {
        self.answered + self.suppressed + self.refused
    }
}

/// Keys of probes that are known at one time: the present one, and those that a rotation replaces.
pub const PROBE_KEYS: usize = 3;

/// The one value of `probes`: which probes this node answers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Probes {
    /// This node's number.
    pub node: u64,
    /// The keys of the tag. Probes may come under any of the first `count`, and are answered under
    /// the one that they came under.
    pub keys: [Key; PROBE_KEYS],
    /// How many of `keys` there are.
    pub count: u32,
    /// The UDP port that probes are sent to; 0: none are answered.
    pub port: u16,
    #[doc(hidden)]
    pub unused: [u8; 2],
}

impl Probes {
    /// No probe is answered.
    pub const NONE: Self = Self {
        node: 0,
        keys: [Key([0; 2]); PROBE_KEYS],
        count: 0,
        port: 0,
        unused: [0; 2],
    };

    /// The probes that reach the node of this number at this UDP port under one of these keys;
    /// `None` where there are more than [`PROBE_KEYS`].
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

/// The one value of `tap`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Tap {
    /// Not zero: put every frame that is handled into the ring, and its reply.
    pub watched: u32,
}

/// What an event tells.
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
    /// A frame was not answered for [`Event::reason`].
    Rejected = 4,
    /// The frame is what the program sent.
    Reply = 5,
    /// Another MAC claims a VIP that this node owns.
    Claimed = 6,
    /// Another host probed whether the VIP is free (RFC 5227 §2.1.1, RFC 4862 §5.4), and was told
    /// that it is not.
    Probed = 7,
}

/// A record of the event ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// When, in nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// The interface that the frame came in on.
    pub ifindex: u32,
    /// The frame's length on the wire.
    pub length: u16,
    /// What happened.
    pub kind: EventKind,
    /// Why, for [`EventKind::Rejected`]: the number of a [`Reason`](crate::respond::Reason).
    pub reason: u8,
    /// The frame's first bytes, two by two; behind its last pair, zeros.
    pub frame: [u8; SNAPSHOT_BYTES],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{AgentLease, PeersLease};

    /// Sizes are part of the layout: a change wants a new [`LAYOUT_VERSION`].
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
    fn neighbours_have_filter_bits_of_their_own() {
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
