//! ARP and Neighbor Discovery messages, written and read by smoltcp: as an independent
//! implementation understands them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use smoltcp::wire::{ArpOperation, NdiscNeighborFlags as Flags};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
        Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscRepr, RawHardwareAddress,
    },
};

use crate::lab::Frame;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// To all hosts of a link.
pub const BROADCAST: Mac = [0xff; 6];
/// To all IPv6 nodes of a link (RFC 4861 §2.3).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The Ethernet address of [`ALL_NODES`] (RFC 2464 §7).
pub const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// A message that asks for an address or says where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp {
        /// Request or reply.
        operation: ArpOperation,
        /// The sender.
        sender: (Ipv4Addr, Mac),
        /// The target.
        target: (Ipv4Addr, Mac),
    },
    /// A Neighbor Solicitation (RFC 4861 §4.3).
    Solicitation {
        /// Of the IPv6 header.
        source: Ipv6Addr,
        /// Of the IPv6 header.
        destination: Ipv6Addr,
        /// The target.
        target: Ipv6Addr,
        /// The source link-layer address option.
        mac: Option<Mac>,
    },
    /// A Neighbor Advertisement (RFC 4861 §4.4).
    Advertisement {
        /// Of the IPv6 header.
        source: Ipv6Addr,
        /// Of the IPv6 header.
        destination: Ipv6Addr,
        /// R, S and O.
        flags: Flags,
        /// The target.
        target: Ipv6Addr,
        /// The target link-layer address option.
        mac: Option<Mac>,
    },
}

impl Message {
    /// A request for `target`.
    pub const fn arp_request(sender: (Ipv4Addr, Mac), target: Ipv4Addr) -> Self {
        Self::Arp {
            operation: ArpOperation::Request,
            sender,
            target: (target, [0; 6]),
        }
    }

    /// The solicitation for `target` of a host that does not know its MAC.
    pub fn solicitation(source: (Ipv6Addr, Mac), target: Ipv6Addr) -> Self {
        Self::Solicitation {
            source: source.0,
            destination: solicited_node(target),
            target,
            mac: Some(source.1),
        }
    }

    /// The message in an untagged frame. `None` if it is something else, or must be ignored: too
    /// short, hop limit other than 255, wrong checksum.
    pub fn of(frame: &Frame) -> Option<Self> {
        match frame.tags().is_empty() {
            true => Self::read(frame.ether_type(), frame.payload()),
            false => None,
        }
    }

    /// The message behind an EtherType.
    pub fn read(ether_type: u16, payload: &[u8]) -> Option<Self> {
        match EthernetProtocol::from(ether_type) {
            EthernetProtocol::Arp => read_arp(payload),
            EthernetProtocol::Ipv6 => read_nd(payload),
            _ => None,
        }
    }

    /// Whether it says that `vip` is at `mac`, to the asker or to all.
    pub fn says(&self, vip: IpAddr, mac: Mac) -> bool {
        match (*self, vip) {
            (Self::Arp { sender, .. }, IpAddr::V4(vip)) => sender == (vip, mac),
            (
                Self::Advertisement {
                    target, mac: its, ..
                },
                IpAddr::V6(vip),
            ) => (target, its) == (vip, Some(mac)),
            _ => false,
        }
    }

    /// The EtherType, and what follows it.
    pub fn packet(&self) -> (u16, Vec<u8>) {
        match *self {
            Self::Arp {
                operation,
                sender,
                target,
            } => {
                let arp = ArpRepr::EthernetIpv4 {
                    operation,
                    source_hardware_addr: EthernetAddress(sender.1),
                    source_protocol_addr: sender.0,
                    target_hardware_addr: EthernetAddress(target.1),
                    target_protocol_addr: target.0,
                };
                let mut bytes = vec![0; arp.buffer_len()];
                arp.emit(&mut ArpPacket::new_unchecked(&mut bytes));
                (EthernetProtocol::Arp.into(), bytes)
            }
            Self::Solicitation {
                source,
                destination,
                target,
                mac,
            } => {
                let lladdr = mac.map(|mac| RawHardwareAddress::from_bytes(&mac));
                let target_addr = target;
                let nd = NdiscRepr::NeighborSolicit {
                    target_addr,
                    lladdr,
                };
                write_nd(source, destination, nd)
            }
            Self::Advertisement {
                source,
                destination,
                flags,
                target,
                mac,
            } => {
                let lladdr = mac.map(|mac| RawHardwareAddress::from_bytes(&mac));
                let target_addr = target;
                let nd = NdiscRepr::NeighborAdvert {
                    flags,
                    target_addr,
                    lladdr,
                };
                write_nd(source, destination, nd)
            }
        }
    }

    /// The message in an untagged frame.
    pub fn frame(&self, source: Mac, destination: Mac) -> Vec<u8> {
        self.tagged_frame(source, destination, &[])
    }

    /// The message in a frame with 802.1Q tags, outermost first; of two, the outer one is 802.1ad.
    pub fn tagged_frame(&self, source: Mac, destination: Mac, vlans: &[u16]) -> Vec<u8> {
        let (ether_type, packet) = self.packet();
        let mut frame = vec![0; EthernetFrame::<&[u8]>::header_len()];
        EthernetRepr {
            src_addr: EthernetAddress(source),
            dst_addr: EthernetAddress(destination),
            ethertype: EthernetProtocol::from(ether_type),
        }
        .emit(&mut EthernetFrame::new_unchecked(&mut frame));
        let mut tags = Vec::new();
        for (at, vlan) in vlans.iter().enumerate() {
            let is_service = at + 1 < vlans.len();
            let protocol: u16 = if is_service { 0x88a8 } else { 0x8100 };
            tags.extend([protocol, *vlan].map(u16::to_be_bytes).as_flattened());
        }
        frame.splice(12..12, tags);
        frame.extend(packet);
        frame
    }
}

/// The group to which solicitations for an address are sent (RFC 4291 §2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b] = target.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a & 0xff, b)
}

/// The Ethernet address of an IPv6 group (RFC 2464 §7).
pub const fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A MAC as programs print it.
pub fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn read_arp(payload: &[u8]) -> Option<Message> {
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    } = ArpRepr::parse(&ArpPacket::new_checked(payload).ok()?).ok()?
    else {
        return None;
    };
    Some(Message::Arp {
        operation,
        sender: (source_protocol_addr, source_hardware_addr.0),
        target: (target_protocol_addr, target_hardware_addr.0),
    })
}

fn read_nd(payload: &[u8]) -> Option<Message> {
    let packet = Ipv6Packet::new_checked(payload).ok()?;
    let ip = Ipv6Repr::parse(&packet).ok()?;
    if ip.next_header != IpProtocol::Icmpv6 || ip.hop_limit != 255 {
        return None;
    }
    let icmp = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    let checksums = ChecksumCapabilities::default();
    let Icmpv6Repr::Ndisc(nd) =
        Icmpv6Repr::parse(&ip.src_addr, &ip.dst_addr, &icmp, &checksums).ok()?
    else {
        return None;
    };
    let mac = |option: Option<RawHardwareAddress>| option?.as_bytes().try_into().ok();
    match nd {
        NdiscRepr::NeighborSolicit {
            target_addr,
            lladdr,
        } => Some(Message::Solicitation {
            source: ip.src_addr,
            destination: ip.dst_addr,
            target: target_addr,
            mac: mac(lladdr),
        }),
        NdiscRepr::NeighborAdvert {
            flags,
            target_addr,
            lladdr,
        } => Some(Message::Advertisement {
            source: ip.src_addr,
            destination: ip.dst_addr,
            flags,
            target: target_addr,
            mac: mac(lladdr),
        }),
        _ => None,
    }
}

fn write_nd(source: Ipv6Addr, destination: Ipv6Addr, nd: NdiscRepr<'_>) -> (u16, Vec<u8>) {
    let icmp = Icmpv6Repr::Ndisc(nd);
    let ip = Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.buffer_len(),
        hop_limit: 255,
    };
    let mut bytes = vec![0; ip.buffer_len() + icmp.buffer_len()];
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes);
    ip.emit(&mut packet);
    icmp.emit(
        &source,
        &destination,
        &mut Icmpv6Packet::new_unchecked(packet.payload_mut()),
        &ChecksumCapabilities::default(),
    );
    (EthernetProtocol::Ipv6.into(), bytes)
}
