//! Wire formats that `network-types` lacks, and constants of those that it has.

pub mod checksum;
pub mod nd;
pub mod words;

/// An IEEE 802 MAC address, in transmission order.
pub type Mac = [u8; 6];

/// The Ethernet broadcast address.
pub const BROADCAST: Mac = [0xff; 6];

/// EtherTypes in memory order (IEEE 802 numbers, big-endian).
pub mod ether_type {
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806_u16.to_be();
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = 0x0800_u16.to_be();
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = 0x86dd_u16.to_be();
    /// An IEEE 802.1Q customer tag.
    pub const DOT1Q: u16 = 0x8100_u16.to_be();
    /// An IEEE 802.1ad service tag.
    pub const DOT1AD: u16 = 0x88a8_u16.to_be();
}

/// ARP for IPv4 over Ethernet (RFC 826).
pub mod arp {
    /// The beginning of a request: hardware type 1, protocol type 0x0800, address lengths 6 and 4,
    /// operation 1.
    pub const HEAD_REQUEST: [u8; 8] = [0, 1, 0x08, 0x00, 6, 4, 0, 1];
    /// The beginning of a reply: the same with operation 2.
    pub const HEAD_REPLY: [u8; 8] = [0, 1, 0x08, 0x00, 6, 4, 0, 2];
}

/// IPv4 protocol and IPv6 next header: UDP.
pub const UDP: u8 = 17;

/// Whether this is a group address (IEEE 802).
pub const fn is_group(mac: &Mac) -> bool {
    mac[0] & 1 != 0
}
