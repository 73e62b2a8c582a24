//! UDP datagrams.

use core::net::IpAddr;
use std::vec::Vec;

use super::{Checksum, Ethernet, Host, Tag, nd::sum_of};

/// A UDP datagram in a frame, each field as it will be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are named as in RFC 768, RFC 791 and RFC 8200"
)]
pub struct Datagram {
    pub ethernet: Ethernet,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Type of service or traffic class.
    pub service: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    pub protocol: u8,
    /// IPv4: flags and fragment offset.
    pub fragment: u16,
    /// IPv4: options.
    pub options: Vec<u8>,
    pub header_checksum: Checksum,
    pub source_port: u16,
    pub destination_port: u16,
    pub payload: Vec<u8>,
    pub checksum: Checksum,
    /// Added to the length in the IP header.
    pub ip_length_error: i16,
    /// Added to the length in the UDP header.
    pub udp_length_error: i16,
    /// What follows the packet.
    pub trailer: Vec<u8>,
}

impl Datagram {
    /// From one host to another, by their IPv4 addresses.
    pub fn v4(from: &Host, to: &Host, ports: [u16; 2], payload: &[u8]) -> Self {
        Self {
            ethernet: Ethernet::new(to.mac, from.mac),
            source: from.v4.into(),
            destination: to.v4.into(),
            service: 0,
            ttl: 64,
            protocol: 17,
            fragment: 0x4000,
            options: Vec::new(),
            header_checksum: Checksum::Right,
            source_port: ports[0],
            destination_port: ports[1],
            payload: payload.to_vec(),
            checksum: Checksum::Right,
            ip_length_error: 0,
            udp_length_error: 0,
            trailer: Vec::new(),
        }
    }

    /// From one host to another, by their IPv6 addresses.
    pub fn v6(from: &Host, to: &Host, ports: [u16; 2], payload: &[u8]) -> Self {
        Self {
            source: from.v6.into(),
            destination: to.v6.into(),
            ..Self::v4(from, to, ports, payload)
        }
    }

    /// With these tags, outermost first.
    pub fn tagged(mut self, tags: &[Tag]) -> Self {
        self.ethernet.tags = tags.to_vec();
        self
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let udp = self.udp();
        let (ether_type, packet) = match self.destination {
            IpAddr::V4(_) => (0x0800, [self.header_v4(&udp), udp].concat()),
            IpAddr::V6(_) => (0x86dd, [self.header_v6(&udp), udp].concat()),
        };
        let packet = [packet, self.trailer.clone()].concat();
        self.ethernet.frame(ether_type, &packet)
    }

    fn udp(&self) -> Vec<u8> {
        let length = length(8 + self.payload.len());
        let mut udp = Vec::new();
        udp.extend(self.source_port.to_be_bytes());
        udp.extend(self.destination_port.to_be_bytes());
        udp.extend(
            length
                .wrapping_add_signed(self.udp_length_error)
                .to_be_bytes(),
        );
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let pseudo_header = [
            &address(self.source)[..],
            &address(self.destination),
            &length.to_be_bytes(),
            &[0, 17],
        ];
        // RFC 768: zero is sent as all ones.
        let right = match !sum_of(&[&pseudo_header.concat(), &udp[..]].concat()) {
            0 => 0xffff,
            checksum => checksum,
        };
        udp[6..8].copy_from_slice(&sent(self.checksum, right).to_be_bytes());
        udp
    }

    fn header_v4(&self, udp: &[u8]) -> Vec<u8> {
        let words = 5 + self.options.len() / 4;
        let total = length(4 * words + udp.len()).wrapping_add_signed(self.ip_length_error);
        let mut header = std::vec![0x40 | words as u8, self.service];
        header.extend(total.to_be_bytes());
        header.extend([0, 0]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(address(self.source));
        header.extend(address(self.destination));
        header.extend(&self.options);
        let checksum = sent(self.header_checksum, !sum_of(&header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn header_v6(&self, udp: &[u8]) -> Vec<u8> {
        let length = length(udp.len()).wrapping_add_signed(self.ip_length_error);
        let mut header = std::vec![0x60 | self.service >> 4, self.service << 4, 0, 0];
        header.extend(length.to_be_bytes());
        header.extend([self.protocol, self.ttl]);
        header.extend(address(self.source));
        header.extend(address(self.destination));
        header
    }
}

fn sent(checksum: Checksum, right: u16) -> u16 {
    match checksum {
        Checksum::Right => right,
        Checksum::Flipped(bits) => right ^ bits,
    }
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("a packet is shorter than 64 KiB")
}

fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
