//! The maps' keys and values, byte for byte as the kernel holds them.
//!
//! Map, struct and field names are user interface: `bpftool map dump` prints them. All fields but
//! the addresses (network order, as on the wire) are in the host's byte order.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::wire::Mac;

/// Version of everything in this module. Pins live under a directory named after it, so that a
/// new agent never reads an old layout by mistake.
pub const LAYOUT_VERSION: u32 = 1;

/// Links that may be attached at once.
pub const MAX_LINKS: usize = 256;
/// Entries per family.
pub const MAX_VIPS: usize = 65_536;
/// Counter slots: one for each entry of either family.
pub const MAX_SLOTS: usize = 2 * MAX_VIPS;
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

/// Value of `links`, by interface index.
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

/// Value of `counters`, by slot. Shared by all CPUs and added to atomically: its size does not
/// grow with the machine, and one VIP's requests rarely arrive on two CPUs at once.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Counters {
    /// Requests, solicitations and probes for the VIP.
    pub requests: u64,
    /// Answered.
    pub answered: u64,
    /// Dropped because another node owns the VIP.
    pub suppressed: u64,
    /// Dropped because the lease has lapsed.
    pub refused: u64,
    /// When the last request came, in nanoseconds of `CLOCK_BOOTTIME`.
    pub last_request_ns: u64,
}

/// The one value of `lease`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Lease {
    /// The agent is alive, or expected back, until then; nanoseconds of `CLOCK_BOOTTIME`, the
    /// monotonic clock that goes on while the host is suspended.
    pub agent_deadline_ns: u64,
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
    /// The frame's first bytes; behind its end, zeros.
    pub frame: [u8; SNAPSHOT_BYTES],
}
