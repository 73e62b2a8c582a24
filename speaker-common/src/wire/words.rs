//! Headers in words, as the responder reads and writes them.
//!
//! Addresses are words in memory order: the compiler keeps these in registers, whereas it would
//! split arrays of bytes on the stack, at offsets that the kernel's verifier does not allow.

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use super::{Mac, checksum::Sum, nd};

/// A MAC.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Station {
    first: u32,
    last: u16,
}

impl Station {
    /// The words of this MAC.
    #[inline(always)]
    pub const fn new([a, b, c, d, e, f]: Mac) -> Self {
        Self {
            first: u32::from_ne_bytes([a, b, c, d]),
            last: u16::from_ne_bytes([e, f]),
        }
    }

    /// Whether this is a group address: the group bit is the lowest bit of the first byte.
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.first.to_be() >> 24 & 1 != 0
    }

    /// Its share of a checksum, at an even offset.
    #[inline(always)]
    pub fn sum(self) -> Sum {
        let Self { first, last } = self;
        Sum::of(&first.to_ne_bytes()) + Sum::of(&u32::from(last).to_ne_bytes())
    }
}

/// The Ethernet addresses of a frame.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Stations {
    /// To.
    pub destination: Station,
    /// From.
    pub source: Station,
}

/// What follows the EtherType of a tag (IEEE 802.1Q §9.6).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Tag {
    control: u16,
    /// The EtherType of what follows.
    pub ether_type: u16,
}

impl Tag {
    /// The VLAN ID: the low twelve bits.
    #[inline(always)]
    pub const fn vlan(self) -> u16 {
        u16::from_be(self.control) & 0x0fff
    }
}

/// An ARP message.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Arp {
    /// Hardware and protocol type, their address lengths, and the operation.
    pub head: u64,
    /// The sender's MAC.
    pub sha: Station,
    /// The sender's address.
    pub spa: u32,
    /// The target's MAC.
    pub tha: Station,
    /// The target's address.
    pub tpa: u32,
}

/// An IPv4 header without options (RFC 791 §3.1).
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Ipv4 {
    /// Version and length of the header, type of service, total length, identification, flags and
    /// fragment offset, time to live, protocol, checksum.
    pub head: [u8; 12],
    /// From.
    pub source: u32,
    /// To.
    pub destination: u32,
}

/// A UDP header (RFC 768).
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Udp {
    /// From this port.
    pub source: u16,
    /// To this port.
    pub destination: u16,
    /// The length of header and payload in bytes.
    pub length: u16,
    /// The checksum over a pseudo-header, this header and the payload.
    pub checksum: u16,
}

/// An IPv6 address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Ipv6Address([u64; 2]);

impl Ipv6Address {
    /// `::`
    pub const UNSPECIFIED: Self = Self::new(nd::UNSPECIFIED);
    /// `ff02::1`
    pub const ALL_NODES: Self = Self::new(nd::ALL_NODES);

    /// The address with these bytes.
    #[inline(always)]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(transmute!(bytes))
    }

    /// Its bytes.
    #[inline(always)]
    pub const fn bytes(self) -> [u8; 16] {
        transmute!(self.0)
    }

    /// Whether it is a multicast address (RFC 4291 §2.7).
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.0[0].to_be() >> 56 == 0xff
    }

    /// Whether it is a solicited-node group, `ff02::1:ff00:0/104` (RFC 4291 §2.7.1).
    #[inline(always)]
    pub const fn is_solicited_node(self) -> bool {
        const PREFIX: [u64; 2] = Ipv6Address::new(nd::solicited_node(&nd::UNSPECIFIED)).0;
        self.0[0] == PREFIX[0] && (self.0[1].to_be() ^ PREFIX[1].to_be()) >> 24 == 0
    }

    /// Its share of a checksum.
    #[inline(always)]
    pub const fn sum(self) -> Sum {
        Sum::of(&self.bytes())
    }
}

/// An IPv6 header.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct Ipv6 {
    /// Version, traffic class, flow label, payload length, next header, hop limit.
    pub head: [u8; 8],
    /// From.
    pub source: Ipv6Address,
    /// To.
    pub destination: Ipv6Address,
}

/// An NS or NA without its options.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct NdMessage {
    /// Type, code, checksum, flags.
    pub head: [u8; 8],
    /// The requested or advertised address.
    pub target: Ipv6Address,
}

/// A packet that holds a message, without its options.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct NdPacket {
    /// The packet's header.
    pub ip: Ipv6,
    /// The message after it.
    pub message: NdMessage,
}

/// The first unit of an option.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub struct NdOption {
    /// Its type.
    pub kind: u8,
    /// Its length in units of eight bytes.
    pub length: u8,
    /// The address, if it is a link-layer address option.
    pub station: Station,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BROADCAST, is_group};

    #[test]
    fn words_and_bytes_agree() {
        for mac in [[0x02, 0, 0, 0, 0, 1], [1, 2, 3, 4, 5, 6], BROADCAST] {
            assert_eq!(Station::new(mac).is_group(), is_group(&mac));
            let [a, b, c, d, e, f] = mac;
            let sum = Sum::of(&[a, b, c, d, e, f, 0, 0]);
            assert_eq!(Station::new(mac).sum().finish(), sum.finish());
        }
        let solicited = nd::solicited_node(&[0x5a; 16]);
        let mut nearly = solicited;
        nearly[12] = 0;
        for address in [
            nd::UNSPECIFIED,
            nd::ALL_NODES,
            solicited,
            nearly,
            [0x20; 16],
        ] {
            let words = Ipv6Address::new(address);
            assert_eq!(words.bytes(), address);
            assert_eq!(words.is_multicast(), nd::is_multicast(&address));
            assert_eq!(words.is_solicited_node(), nd::is_solicited_node(&address));
        }
    }
}
