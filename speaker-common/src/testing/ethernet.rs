//! The Ethernet header and its tags.

use std::vec::Vec;

use crate::wire::Mac;

/// A host with a MAC and an address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its MAC.
    pub mac: Mac,
    /// Its IPv4 address.
    pub v4: [u8; 4],
    /// Its IPv6 address.
    pub v6: [u8; 16],
}

impl Host {
    /// Number `n` of a small network: `02:00:00:00:00:n`, `192.0.2.n`, `2001:db8::n`.
    pub const fn number(n: u8) -> Self {
        Self {
            mac: [0x02, 0, 0, 0, 0, n],
            v4: [192, 0, 2, n],
            v6: [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n],
        }
    }
}

/// A tag in front of the EtherType: priority, drop eligibility and VLAN id in the low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// IEEE 802.1Q, EtherType 0x8100.
    Customer(u16),
    /// IEEE 802.1ad, EtherType 0x88a8.
    Service(u16),
}

/// What is in front of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// To.
    pub destination: Mac,
    /// From.
    pub source: Mac,
    /// Outermost first.
    pub tags: Vec<Tag>,
}

impl Ethernet {
    /// Without tags.
    pub const fn new(destination: Mac, source: Mac) -> Self {
        Self {
            destination,
            source,
            tags: Vec::new(),
        }
    }

    /// The frame with this payload, no padding added.
    pub fn frame(&self, ether_type: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = [self.destination, self.source].concat();
        for tag in &self.tags {
            let (tpid, tci) = match *tag {
                Tag::Customer(tci) => (0x8100_u16, tci),
                Tag::Service(tci) => (0x88a8, tci),
            };
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(ether_type.to_be_bytes());
        frame.extend(payload);
        frame
    }
}
