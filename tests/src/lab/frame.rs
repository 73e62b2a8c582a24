//! A frame as it was seen on a wire.

use std::{fmt, time::SystemTime};

/// A frame, with its time and direction.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// When the kernel saw it. Comparable between all hosts of all labs of one machine.
    pub at: SystemTime,
    /// Whether the watching side sent it; otherwise it received it.
    pub sent: bool,
    /// From the Ethernet destination on, without frame check sequence. VLAN tags are where they are
    /// on the wire, even if the kernel stripped the outer one.
    pub bytes: Vec<u8>,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The EtherType that announces it: 0x8100 (IEEE 802.1Q) or 0x88a8 (802.1ad).
    pub protocol: u16,
    /// The VLAN, from 0 to 4095.
    pub vlan: u16,
}

impl Frame {
    /// The Ethernet destination.
    pub fn destination(&self) -> [u8; 6] {
        self.array(0)
    }

    /// The Ethernet source.
    pub fn source(&self) -> [u8; 6] {
        self.array(6)
    }

    /// The tags, outermost first.
    pub fn tags(&self) -> Vec<Tag> {
        let mut tags = Vec::new();
        while let protocol @ (0x8100 | 0x88a8) = self.word(12 + 4 * tags.len()) {
            tags.push(Tag {
                protocol,
                vlan: self.word(14 + 4 * tags.len()) & 0x0fff,
            });
        }
        tags
    }

    /// The EtherType behind all tags.
    pub fn ether_type(&self) -> u16 {
        self.word(12 + 4 * self.tags().len())
    }

    /// What follows the EtherType, padding included.
    pub fn payload(&self) -> &[u8] {
        self.bytes
            .get(14 + 4 * self.tags().len()..)
            .unwrap_or_default()
    }

    fn word(&self, offset: usize) -> u16 {
        u16::from_be_bytes(self.array(offset))
    }

    /// The bytes at `offset`; zeros where the frame is too short to have them.
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.bytes
            .get(offset..offset + N)
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or([0; N])
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.sent { "sent" } else { "received" };
        write!(f, "{way} ")?;
        mac(f, self.source())?;
        write!(f, " > ")?;
        mac(f, self.destination())?;
        for Tag { vlan, .. } in self.tags() {
            write!(f, ", vlan {vlan}")?;
        }
        let kind = match self.ether_type() {
            0x0800 => "IPv4",
            0x0806 => "ARP",
            0x86dd => "IPv6",
            other => return write!(f, ", EtherType {other:#06x}, {} bytes", self.bytes.len()),
        };
        write!(f, ", {kind}, {} bytes", self.bytes.len())
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}:")?;
        self.bytes
            .iter()
            .try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

fn mac(f: &mut fmt::Formatter<'_>, address: [u8; 6]) -> fmt::Result {
    let [a, b, c, d, e, g] = address;
    write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
}
