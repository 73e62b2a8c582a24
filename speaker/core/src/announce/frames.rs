//! The frames of announcements.
//!
//! Frames are untagged: they are sent on the logical link, and a VLAN device adds its tag. They may
//! be shorter than the 60 bytes of IEEE 802.3 §4.2.3.3: the driver pads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network_types::{arp::ArpHdr, eth::EthHdr, ip::Ipv6Hdr};
use speaker_common::{
    frame::{Bytes, Frame as _, Header},
    wire::{
        BROADCAST, Mac, arp, ether_type,
        nd::{
            ADVERTISEMENT_LENGTH, ALL_NODES, ALL_NODES_MAC, FLAG_OVERRIDE, HOP_LIMIT, Message,
            NEXT_HEADER, SOLICITATION_LENGTH, UNSPECIFIED, advertisement, solicitation,
            solicited_node,
        },
    },
};

use zerocopy::IntoBytes as _;

use crate::headers::bytes;

const ARP_BYTES: usize = EthHdr::LEN + ArpHdr::LEN;
const ND_BYTES: usize = EthHdr::LEN + Ipv6Hdr::LEN + ADVERTISEMENT_LENGTH as usize;

/// The frames that tell the hosts on a link the MAC of a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frames {
    /// IPv4: both forms of gratuitous ARP, because some receivers accept only one of them.
    Arp {
        /// The ARP announcement (RFC 5227 §3).
        request: Bytes<ARP_BYTES>,
        /// The unsolicited reply (RFC 5944 §4.6).
        reply: Bytes<ARP_BYTES>,
    },
    /// IPv6: an unsolicited neighbor advertisement (RFC 4861 §7.2.6).
    Nd(Bytes<ND_BYTES>),
}

impl Frames {
    /// Announces that `vip` is at `mac`.
    pub fn new(vip: IpAddr, mac: Mac) -> Self {
        match vip {
            IpAddr::V4(vip) => Self::Arp {
                // RFC 5227 §1.1, §2.3: the target hardware address is ignored, and set to zero.
                request: arp_frame(arp::HEAD_REQUEST, (vip, mac), (vip, [0; 6])),
                // RFC 5944 §4.6: the target hardware address is the sender's. Only then does Linux
                // take the reply for gratuitous, and let it override an entry at once.
                reply: arp_frame(arp::HEAD_REPLY, (vip, mac), (vip, mac)),
            },
            IpAddr::V6(vip) => Self::Nd(nd_frame(vip, mac)),
        }
    }

    /// The number of frames that announce this VIP.
    pub(super) fn count(vip: IpAddr) -> usize {
        match vip {
            IpAddr::V4(_) => 2,
            IpAddr::V6(_) => 1,
        }
    }

    /// The frames, in the order in which they are sent.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let (first, second) = match self {
            Self::Arp { request, reply } => (request.as_slice(), Some(reply.as_slice())),
            Self::Nd(advertisement) => (advertisement.as_slice(), None),
        };
        std::iter::once(first).chain(second)
    }
}

/// The frame that asks the hosts on a link whether one of them has `vip`, without claiming an
/// address: an ARP probe (RFC 5227 §2.1.1), or a solicitation as in duplicate address detection
/// (RFC 4862 §5.4.2).
pub fn conflict_probe(vip: IpAddr, mac: Mac) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => {
            let sender = (Ipv4Addr::UNSPECIFIED, mac);
            let frame = arp_frame(arp::HEAD_REQUEST, sender, (vip, [0; 6]));
            frame.as_slice().to_vec()
        }
        IpAddr::V6(vip) => {
            let target = vip.octets();
            let group = solicited_node(&target);
            let [.., x, y, z] = group;
            let message = solicitation(&UNSPECIFIED, &group, &target);
            let ethernet = ethernet([0x33, 0x33, 0xff, x, y, z], mac, ether_type::IPV6);
            let ip = ipv6(SOLICITATION_LENGTH, UNSPECIFIED, group);
            [&ethernet[..], &ip, message.as_bytes()].concat()
        }
    }
}

fn ipv6(length: u16, source: [u8; 16], destination: [u8; 16]) -> [u8; Ipv6Hdr::LEN] {
    bytes(&Ipv6Hdr {
        vcf: [0x60, 0, 0, 0],
        payload_len: length.to_be_bytes(),
        next_hdr: NEXT_HEADER,
        hop_limit: HOP_LIMIT,
        src_addr: source,
        dst_addr: destination,
    })
}

/// An ARP broadcast.
fn arp_frame(
    head: [u8; 8],
    (spa, sha): (Ipv4Addr, Mac),
    (tpa, tha): (Ipv4Addr, Mac),
) -> Bytes<ARP_BYTES> {
    let [h0, h1, p0, p1, hlen, plen, o0, o1] = head;
    let mut frame = unwritten();
    store(&mut frame, 0, ethernet(BROADCAST, sha, ether_type::ARP));
    store(
        &mut frame,
        EthHdr::LEN,
        bytes::<_, { ArpHdr::LEN }>(&ArpHdr {
            htype: [h0, h1],
            ptype: [p0, p1],
            hlen,
            plen,
            oper: [o0, o1],
            sha,
            spa: spa.octets(),
            tha,
            tpa: tpa.octets(),
        }),
    );
    frame
}

/// RFC 4861 §7.2.6: to all nodes, unsolicited, and overriding, because the VIP is ours. The source
/// is the VIP itself: receivers do not check it (§7.1.2), and a link may lack a link-local address.
fn nd_frame(vip: Ipv6Addr, mac: Mac) -> Bytes<ND_BYTES> {
    const IP: usize = EthHdr::LEN;
    const ICMP: usize = IP + Ipv6Hdr::LEN;

    let vip = vip.octets();
    let (message, option) = advertisement(&vip, &ALL_NODES, &vip, mac, FLAG_OVERRIDE);
    let mut frame = unwritten();
    store(
        &mut frame,
        0,
        ethernet(ALL_NODES_MAC, mac, ether_type::IPV6),
    );
    store(&mut frame, IP, ipv6(ADVERTISEMENT_LENGTH, vip, ALL_NODES));
    store(&mut frame, ICMP, message);
    store(&mut frame, ICMP + size_of::<Message>(), option);
    frame
}

fn ethernet(destination: Mac, source: Mac, ether_type: u16) -> [u8; EthHdr::LEN] {
    bytes(&EthHdr {
        dst_addr: destination,
        src_addr: source,
        ether_type,
    })
}

/// An unwritten frame, filled with 0xa5.
fn unwritten<const N: usize>() -> Bytes<N> {
    let mut frame = Bytes::new(&[]).expect("nothing fits everywhere");
    frame.resize(N).expect("as long as its capacity");
    frame
}

fn store<const N: usize>(frame: &mut Bytes<N>, offset: usize, header: impl Header) {
    frame
        .store(offset, header)
        .expect("a constant offset within the frame");
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];

    fn frames(vip: &str) -> Vec<Vec<u8>> {
        let vip = vip.parse().unwrap();
        let frames = Frames::new(vip, MAC);
        assert_eq!(frames.iter().count(), Frames::count(vip));
        frames.iter().map(<[u8]>::to_vec).collect()
    }

    #[rustfmt::skip]
    #[test]
    fn ipv4_is_announced_in_both_forms_of_arp() {
        let request = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 192, 0, 2, 10,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 192, 0, 2, 10,
        ];
        let reply = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02,
            0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 192, 0, 2, 10,
            0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 192, 0, 2, 10,
        ];
        assert_eq!(frames("192.0.2.10"), [request, reply]);
    }

    #[rustfmt::skip]
    #[test]
    fn a_conflict_probe_does_not_claim_the_address() {
        let probe = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0, 0, 0, 0,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 192, 0, 2, 10,
        ];
        assert_eq!(conflict_probe("192.0.2.10".parse().unwrap(), MAC), probe);
        let solicitation = [
            0x33, 0x33, 0xff, 0x00, 0x00, 0x10, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x86, 0xdd,
            0x60, 0x00, 0x00, 0x00, 0x00, 0x18, 0x3a, 0xff,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff, 0x00, 0x00, 0x10,
            0x87, 0x00, 0x4d, 0x5d, 0x00, 0x00, 0x00, 0x00,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let told = conflict_probe("2001:db8::10".parse().unwrap(), MAC);
        assert_eq!(told[..56], solicitation[..56]);
        assert_eq!(told[58..], solicitation[58..]);
        // RFC 1071: the sum over everything, the checksum included, is all ones.
        let words = |bytes: &[u8]| -> u32 {
            let words = bytes.chunks(2);
            words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
        };
        let sum = words(&told[22..]) + 0x18 + 0x3a;
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[rustfmt::skip]
    #[test]
    fn ipv6_is_announced_to_all_nodes_unsolicited_with_override() {
        let advertisement = [
            0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x86, 0xdd,
            0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01,
            0x88, 0x00, 0x92, 0x74, 0x20, 0x00, 0x00, 0x00,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            0x02, 0x01, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55,
        ];
        assert_eq!(frames("2001:db8::10"), [advertisement]);
    }

    #[test]
    fn every_byte_of_a_frame_is_written() {
        // 0xa5 is in none of the inputs, and in a checksum only by chance.
        for vip in ["192.0.2.10", "2001:db8::10"] {
            for frame in frames(vip) {
                assert!(!frame.contains(&0xa5), "{frame:02x?}");
            }
        }
    }
}
