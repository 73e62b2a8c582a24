//! Neighbor Discovery messages (RFC 4861 §4.3, §4.4, §4.6.1).

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Mac, checksum::Sum};

/// ICMPv6 type of a Neighbor Solicitation (NS).
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of a Neighbor Advertisement (NA).
pub const ADVERTISEMENT: u8 = 136;
/// The hop limit of every valid ND message, which shows that it has crossed no router (RFC 4861
/// §7.1).
pub const HOP_LIMIT: u8 = 255;
/// IPv6 next header: ICMPv6.
pub const NEXT_HEADER: u8 = 58;
/// Option type: source link-layer address.
pub const OPTION_SOURCE: u8 = 1;
/// Option type: target link-layer address.
pub const OPTION_TARGET: u8 = 2;

/// NA flag R: the sender is a router.
pub const FLAG_ROUTER: u8 = 0x80;
/// NA flag S: an answer to a solicitation.
pub const FLAG_SOLICITED: u8 = 0x40;
/// NA flag O: overrides the receiver's link-layer address.
pub const FLAG_OVERRIDE: u8 = 0x20;

/// The unspecified address `::`.
pub const UNSPECIFIED: [u8; 16] = [0; 16];
/// The all-nodes group `ff02::1`.
pub const ALL_NODES: [u8; 16] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// The Ethernet address of [`ALL_NODES`] (RFC 2464 §7).
pub const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// An NS or NA without its options.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Message {
    /// [`SOLICITATION`] or [`ADVERTISEMENT`].
    pub kind: u8,
    /// Zero.
    pub code: u8,
    /// Internet checksum, in network order.
    pub checksum: [u8; 2],
    /// The NA's flags; zero in an NS.
    pub flags: u8,
    /// Sent as zero, ignored on receipt.
    pub reserved: [u8; 3],
    /// The requested or advertised address.
    pub target: [u8; 16],
}

/// A source or target link-layer address option for Ethernet (RFC 2464 §6).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct LinkLayerOption {
    /// [`OPTION_SOURCE`] or [`OPTION_TARGET`].
    pub kind: u8,
    /// One, in units of eight bytes.
    pub length: u8,
    /// The address.
    pub mac: Mac,
}

impl LinkLayerOption {
    /// An option of this kind.
    #[inline(always)]
    pub const fn bytes(&self) -> [u8; 8] {
        let [m0, m1, m2, m3, m4, m5] = self.mac;
        [self.kind, self.length, m0, m1, m2, m3, m4, m5]
    }
}

/// The length in bytes of an NA with one option, as we send it.
pub const ADVERTISEMENT_LENGTH: u16 = (size_of::<Message>() + size_of::<LinkLayerOption>()) as u16;

/// An NA for `target` at `mac`, from `source` to `destination`, with its checksum.
#[inline(always)]
pub fn advertisement(
    source: &[u8; 16],
    destination: &[u8; 16],
    target: &[u8; 16],
    mac: Mac,
    flags: u8,
) -> (Message, LinkLayerOption) {
    let option = LinkLayerOption {
        kind: OPTION_TARGET,
        length: 1,
        mac,
    };
    let mut message = Message {
        kind: ADVERTISEMENT,
        code: 0,
        checksum: [0; 2],
        flags,
        reserved: [0; 3],
        target: *target,
    };
    message.checksum = (Sum::icmpv6(ADVERTISEMENT_LENGTH)
        + Sum::of(source)
        + Sum::of(destination)
        + Sum::of(&message.head())
        + Sum::of(target)
        + Sum::of(&option.bytes()))
    .finish();
    (message, option)
}

/// The length in bytes of an NS without options.
pub const SOLICITATION_LENGTH: u16 = size_of::<Message>() as u16;

/// An NS for `target` without options, from `source` to `destination`, with its checksum.
pub fn solicitation(source: &[u8; 16], destination: &[u8; 16], target: &[u8; 16]) -> Message {
    let mut message = Message {
        kind: SOLICITATION,
        code: 0,
        checksum: [0; 2],
        flags: 0,
        reserved: [0; 3],
        target: *target,
    };
    message.checksum = (Sum::icmpv6(SOLICITATION_LENGTH)
        + Sum::of(source)
        + Sum::of(destination)
        + Sum::of(&message.head())
        + Sum::of(target))
    .finish();
    message
}

impl Message {
    /// The eight bytes before the target.
    #[inline(always)]
    pub const fn head(&self) -> [u8; 8] {
        let [c0, c1] = self.checksum;
        let [r0, r1, r2] = self.reserved;
        [self.kind, self.code, c0, c1, self.flags, r0, r1, r2]
    }
}

/// Whether this is a multicast address (RFC 4291 §2.7).
pub const fn is_multicast(address: &[u8; 16]) -> bool {
    address[0] == 0xff
}

/// The solicited-node group of an address, `ff02::1:ffXX:XXXX` (RFC 4291 §2.7.1).
pub const fn solicited_node(address: &[u8; 16]) -> [u8; 16] {
    let [.., x, y, z] = *address;
    [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]
}

/// Whether this is a solicited-node group, `ff02::1:ff00:0/104`.
#[inline(always)]
pub fn is_solicited_node(address: &[u8; 16]) -> bool {
    solicited_node(address) == *address
}
