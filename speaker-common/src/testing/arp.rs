//! ARP messages.

use std::vec::Vec;

use super::{Ethernet, Host, Tag};
use crate::wire::{BROADCAST, Mac};

/// An ARP frame, each field as it will be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named as in RFC 826")]
pub struct Arp {
    pub ethernet: Ethernet,
    pub hardware_type: u16,
    pub protocol_type: u16,
    pub hardware_length: u8,
    pub protocol_length: u8,
    pub operation: u16,
    pub sha: Mac,
    pub spa: [u8; 4],
    pub tha: Mac,
    pub tpa: [u8; 4],
    /// What follows the message: nothing on veth, 18 bytes of padding on a wire.
    pub trailer: Vec<u8>,
}

impl Arp {
    /// `asker` asks all hosts who has `address`.
    pub fn request(asker: &Host, address: [u8; 4]) -> Self {
        Self {
            ethernet: Ethernet::new(BROADCAST, asker.mac),
            hardware_type: 1,
            protocol_type: 0x0800,
            hardware_length: 6,
            protocol_length: 4,
            operation: 1,
            sha: asker.mac,
            spa: asker.v4,
            tha: [0; 6],
            tpa: address,
            trailer: Vec::new(),
        }
    }

    /// `asker` asks whether `address` is free (RFC 5227 §2.1.1).
    pub fn probe(asker: &Host, address: [u8; 4]) -> Self {
        Self {
            spa: [0; 4],
            ..Self::request(asker, address)
        }
    }

    /// `claimant` announces `address` as its own (RFC 5227 §2.3).
    pub fn announcement(claimant: &Host, address: [u8; 4]) -> Self {
        Self {
            spa: address,
            ..Self::request(claimant, address)
        }
    }

    /// `owner` tells `asker` that it has `address`.
    pub fn reply(owner: &Host, address: [u8; 4], asker: &Host) -> Self {
        Self {
            ethernet: Ethernet::new(asker.mac, owner.mac),
            operation: 2,
            sha: owner.mac,
            spa: address,
            tha: asker.mac,
            tpa: asker.v4,
            ..Self::request(owner, address)
        }
    }

    /// With these tags, outermost first.
    pub fn tagged(mut self, tags: &[Tag]) -> Self {
        self.ethernet.tags = tags.to_vec();
        self
    }

    /// The message without its Ethernet header and trailer.
    pub fn message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        message.extend(self.hardware_type.to_be_bytes());
        message.extend(self.protocol_type.to_be_bytes());
        message.push(self.hardware_length);
        message.push(self.protocol_length);
        message.extend(self.operation.to_be_bytes());
        message.extend(self.sha);
        message.extend(self.spa);
        message.extend(self.tha);
        message.extend(self.tpa);
        message
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let payload = [self.message(), self.trailer.clone()].concat();
        self.ethernet.frame(0x0806, &payload)
    }
}
