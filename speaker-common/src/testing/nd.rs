//! Neighbor Discovery messages.

use std::vec::Vec;

use super::{Ethernet, Host, Tag};
use crate::wire::{Mac, nd};

/// The checksum field of an ND frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The correct checksum.
    Right,
    /// The correct checksum with these bits flipped.
    Flipped(u16),
}

/// A Neighbor Solicitation or Advertisement, each field as it will be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are named as in RFC 8200 and RFC 4861"
)]
pub struct Nd {
    pub ethernet: Ethernet,
    pub version: u8,
    pub hop_limit: u8,
    pub source: [u8; 16],
    pub destination: [u8; 16],
    /// Extension headers with their next-header values: (own number, bytes from the second on).
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub kind: u8,
    pub code: u8,
    pub checksum: Checksum,
    pub flags: u8,
    pub target: [u8; 16],
    pub options: Vec<u8>,
    /// Added to the length in the IPv6 header.
    pub length_error: i16,
    /// What follows the packet.
    pub trailer: Vec<u8>,
}

/// An option of one unit with this type and address.
pub fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1], &mac[..]].concat()
}

impl Nd {
    /// `asker` asks the group of `target` who has it, and includes its own MAC.
    pub fn solicitation(asker: &Host, target: [u8; 16]) -> Self {
        let group = nd::solicited_node(&target);
        let [.., x, y, z] = target;
        Self {
            ethernet: Ethernet::new([0x33, 0x33, 0xff, x, y, z], asker.mac),
            version: 6,
            hop_limit: 255,
            source: asker.v6,
            destination: group,
            extensions: Vec::new(),
            kind: 135,
            code: 0,
            checksum: Checksum::Right,
            flags: 0,
            target,
            options: option(1, asker.mac),
            length_error: 0,
            trailer: Vec::new(),
        }
    }

    /// `asker` asks `owner` whether it still has `target`: unicast, without an option, as Linux
    /// sends it (RFC 4861 §7.3.3, §4.3).
    pub fn unreachability_probe(asker: &Host, owner: Mac, target: [u8; 16]) -> Self {
        Self {
            ethernet: Ethernet::new(owner, asker.mac),
            destination: target,
            options: Vec::new(),
            ..Self::solicitation(asker, target)
        }
    }

    /// `asker` asks whether `target` is free (RFC 4862 §5.4.2).
    pub fn duplicate_detection(asker: &Host, target: [u8; 16]) -> Self {
        Self {
            source: nd::UNSPECIFIED,
            options: Vec::new(),
            ..Self::solicitation(asker, target)
        }
    }

    /// `owner` tells all nodes that it has `target`.
    pub fn advertisement(owner: &Host, target: [u8; 16]) -> Self {
        Self {
            ethernet: Ethernet::new(nd::ALL_NODES_MAC, owner.mac),
            destination: nd::ALL_NODES,
            kind: 136,
            flags: 0x20,
            options: option(2, owner.mac),
            ..Self::solicitation(owner, target)
        }
    }

    /// With these tags, outermost first.
    pub fn tagged(mut self, tags: &[Tag]) -> Self {
        self.ethernet.tags = tags.to_vec();
        self
    }

    /// The ICMPv6 message with its checksum.
    pub fn message(&self) -> Vec<u8> {
        let mut message = std::vec![self.kind, self.code, 0, 0, self.flags, 0, 0, 0];
        message.extend(self.target);
        message.extend(&self.options);
        let right = !sum(&self.source, &self.destination, &message);
        let sent = match self.checksum {
            Checksum::Right => right,
            Checksum::Flipped(bits) => right ^ bits,
        };
        message[2..4].copy_from_slice(&sent.to_be_bytes());
        message
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        const ICMPV6: u8 = 58;
        let message = self.message();
        let next = |at: usize| self.extensions.get(at).map_or(ICMPV6, |(own, _)| *own);
        let mut body = Vec::new();
        for (at, (_, rest)) in self.extensions.iter().enumerate() {
            body.push(next(at + 1));
            body.extend(rest);
        }
        body.extend(message);

        let length = u16::try_from(body.len()).expect("a frame is shorter than 64 KiB");
        let mut packet = std::vec![self.version << 4, 0, 0, 0];
        packet.extend(length.wrapping_add_signed(self.length_error).to_be_bytes());
        packet.push(next(0));
        packet.push(self.hop_limit);
        packet.extend(self.source);
        packet.extend(self.destination);
        packet.extend(body);
        packet.extend(&self.trailer);
        self.ethernet.frame(0x86dd, &packet)
    }
}

/// The ones' complement sum of an ICMPv6 message with its pseudo-header (RFC 8200 §8.1): 0xffff if
/// the message's checksum is correct. Written plainly, for comparison with the code under test.
pub fn sum(source: &[u8; 16], destination: &[u8; 16], message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).expect("a message is shorter than 4 GiB");
    let mut bytes = [*source, *destination].concat();
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0, 58]);
    bytes.extend(message);
    sum_of(&bytes)
}

/// The ones' complement sum of bytes (RFC 1071), written plainly.
pub(super) fn sum_of(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in bytes.chunks(2) {
        let second = word.get(1).copied().unwrap_or_default();
        sum += u32::from(u16::from_be_bytes([word[0], second]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
