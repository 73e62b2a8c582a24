//! What holds for every frame, checked with an independent decoder.

use std::vec::Vec;

use fastrand::Rng;
use proptest::prelude::*;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
        Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet,
        NdiscNeighborFlags, NdiscRepr, RawHardwareAddress, UdpPacket,
    },
};

use super::{Tables as _, Verdict};
use crate::{
    frame::Bytes,
    layout::{Link, Vlan},
    lease::Standing,
    probe::Kind,
    respond,
    testing::{
        Host, Nd, Node, Outcome, Subject, alone_until,
        random::{self, World, probe_in},
    },
    wire::{Mac, nd},
};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(500),
        ..ProptestConfig::default()
    })]

    /// Whatever the bytes and the tables, there is a verdict.
    #[test]
    fn any_bytes_are_handled(bytes in prop::collection::vec(any::<u8>(), 0..200), seed: u64) {
        let world = World::random(&mut Rng::with_seed(seed));
        node(&world).handle(&bytes);
    }

    /// A frame that is not sent back is passed or dropped unchanged.
    #[test]
    fn only_replies_are_written(seed: u64) {
        let (_, handled) = handled(seed);
        for Handled { request, outcome, .. } in handled {
            if outcome.verdict != Verdict::Transmit {
                prop_assert_eq!(outcome.frame, request);
            }
        }
    }

    /// Only requests for a VIP that is owned on this link and VLAN are answered, under a valid
    /// lease.
    #[test]
    fn only_owned_vips_are_answered(seed: u64) {
        let (world, handled) = handled(seed);
        for Handled { request, before, .. } in answered(handled) {
            let (vlan, inner) = untag(&request);
            let owned = match Asked::parse(&inner) {
                Asked::V4 { target, .. } => world.owns_v4(target, vlan),
                Asked::V6 { target, .. } => world.owns_v6(target, vlan),
            };
            prop_assert!(owned);
            prop_assert_eq!(before.standing(), Standing::Valid);
        }
    }

    /// Every reply is what the RFCs require for this request, as smoltcp reads it.
    #[test]
    fn every_reply_is_valid(seed: u64) {
        let (world, handled) = handled(seed);
        for Handled { request, outcome, .. } in answered(handled) {
            let link = world.link().expect("answered on a link");
            assert_is_reply(&link, &request, &outcome.frame);
        }
    }

    /// Every answered probe is a datagram with correct checksums, back to the sender, as smoltcp
    /// reads it.
    #[test]
    fn every_answered_probe_is_a_valid_datagram(seed: u64) {
        let (_, handled) = handled(seed);
        for Handled { request, outcome, .. } in handled {
            if outcome.verdict == Verdict::Transmit && probe_in(&request).is_some() {
                assert_is_probes_reply(&request, &outcome.frame);
            }
        }
    }

    /// If the driver leaves no room for the reply, the request is passed.
    #[test]
    fn a_request_without_room_for_its_reply_passes(seed: u64) {
        let (_, handled) = handled(seed);
        for Handled { request, before, .. } in answered(handled) {
            if let Some(mut tight) = Bytes::<80>::new(&request) {
                let grows = untag(&request).1[12] == 0x86;
                let verdict = respond::handle(&mut tight, &before);
                prop_assert_eq!(verdict == Verdict::Transmit, !grows);
                if grows {
                    prop_assert_eq!(tight.as_slice(), &request[..]);
                }
            }
        }
    }
}

/// If any bit of a solicitation that its checksum covers changes on the way, there is no answer.
#[test]
fn a_corrupted_solicitation_is_never_answered() {
    const IPV6: usize = 14;
    let (client, vip) = (Host::number(2), Host::number(4));
    let mut node = node_that_owns(&vip);
    for solicitation in [
        Nd::solicitation(&client, vip.v6),
        Nd::unreachability_probe(&client, Host::number(1).mac, vip.v6),
        Nd::duplicate_detection(&client, vip.v6),
    ] {
        let right = solicitation.bytes();
        assert_eq!(node.handle(&right).verdict, Verdict::Transmit);
        // Length, next header and hop limit, the addresses and the message. The checksum does not
        // cover class and flow label, which precede them.
        for at in IPV6 + 4..right.len() {
            for bit in 0..8 {
                let mut corrupted = right.clone();
                corrupted[at] ^= 1 << bit;
                let outcome = node.handle(&corrupted);
                assert_ne!(outcome.verdict, Verdict::Transmit, "byte {at}, bit {bit}");
            }
        }
    }
}

/// A frame and its outcome.
struct Handled {
    /// The node that received it.
    before: Node,
    request: Vec<u8>,
    outcome: Outcome,
}

/// A world, frames, and their outcomes there.
fn handled(seed: u64) -> (World, Vec<Handled>) {
    const FRAMES: usize = 50;
    let mut rng = Rng::with_seed(seed);
    let world = World::random(&mut rng);
    let mut node = node(&world);
    let handled = (0..FRAMES)
        .map(|_| {
            let frame = random::frame(&mut rng);
            let before = node.clone();
            let outcome = node.handle(&frame);
            Handled {
                before,
                request: frame,
                outcome,
            }
        })
        .collect();
    (world, handled)
}

/// The answers to requests for VIPs.
fn answered(handled: Vec<Handled>) -> impl Iterator<Item = Handled> {
    handled.into_iter().filter(|handled| {
        handled.outcome.verdict == Verdict::Transmit && probe_in(&handled.request).is_none()
    })
}

fn node(world: &World) -> Node {
    let mut node = Node::new();
    world.enter(&mut node);
    node
}

fn node_that_owns(vip: &Host) -> Node {
    use crate::layout::{Action, Vip, VipKeyV6};
    let mut node = Node::new();
    node.set_link(Some(Link::new(Host::number(1).mac, 7)));
    node.set_lease(alone_until(u64::MAX));
    let key = VipKeyV6 {
        address: vip.v6,
        port: 7,
        vlan: Vlan::default(),
    };
    node.set_vip_v6(key, Some(Vip::new(Action::Answer, 0)));
    node
}

/// What a request asks for, read without the code under test.
enum Asked {
    V4 {
        target: [u8; 4],
        sha: Mac,
        spa: [u8; 4],
    },
    V6 {
        target: [u8; 16],
        source: [u8; 16],
    },
}

impl Asked {
    fn parse(untagged: &[u8]) -> Self {
        let frame = EthernetFrame::new_checked(untagged).unwrap();
        if frame.ethertype() == EthernetProtocol::Arp {
            let arp = ArpPacket::new_checked(frame.payload()).unwrap();
            Self::V4 {
                target: arp.target_protocol_addr().try_into().unwrap(),
                sha: arp.source_hardware_addr().try_into().unwrap(),
                spa: arp.source_protocol_addr().try_into().unwrap(),
            }
        } else {
            let ip = Ipv6Packet::new_checked(frame.payload()).unwrap();
            let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
            Self::V6 {
                target: icmp.target_addr().octets(),
                source: ip.src_addr().octets(),
            }
        }
    }
}

fn assert_is_reply(link: &Link, request: &[u8], reply: &[u8]) {
    let (vlan, asked) = untag(request);
    let (reply_vlan, answered) = untag(reply);
    let tags = request.len() - asked.len();
    assert_eq!(reply_vlan, vlan);
    assert_eq!(reply[12..12 + tags], request[12..12 + tags]);

    let frame = EthernetFrame::new_checked(&answered[..]).unwrap();
    let sender = EthernetFrame::new_checked(&asked[..]).unwrap().src_addr();
    assert_eq!(frame.src_addr(), EthernetAddress(link.mac));
    match Asked::parse(&asked) {
        Asked::V4 { target, sha, spa } => {
            assert_eq!(reply.len(), request.len());
            assert_eq!(frame.dst_addr(), sender);
            let arp = ArpPacket::new_checked(frame.payload()).unwrap();
            let expected = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(link.mac),
                source_protocol_addr: target.into(),
                target_hardware_addr: EthernetAddress(sha),
                target_protocol_addr: spa.into(),
            };
            assert_eq!(ArpRepr::parse(&arp).unwrap(), expected);
        }
        Asked::V6 { target, source } => {
            assert_eq!(reply.len(), 86 + tags);
            let ip = Ipv6Packet::new_checked(frame.payload()).unwrap();
            assert_eq!((ip.version(), ip.hop_limit()), (6, 255));
            assert_eq!(ip.next_header(), IpProtocol::Icmpv6);
            assert_eq!(ip.src_addr().octets(), target);
            let (to, to_mac, flags) = if source == nd::UNSPECIFIED {
                let everyone = EthernetAddress(nd::ALL_NODES_MAC);
                (nd::ALL_NODES, everyone, NdiscNeighborFlags::OVERRIDE)
            } else {
                let flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
                (source, sender, flags)
            };
            assert_eq!(ip.dst_addr().octets(), to);
            assert_eq!(frame.dst_addr(), to_mac);
            let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
            let parsed = Icmpv6Repr::parse(
                &ip.src_addr(),
                &ip.dst_addr(),
                &icmp,
                &ChecksumCapabilities::default(),
            )
            .unwrap();
            let expected = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                flags,
                target_addr: target.into(),
                lladdr: Some(RawHardwareAddress::from(EthernetAddress(link.mac))),
            });
            assert_eq!(parsed, expected, "{reply:02x?}");
        }
    }
}

fn assert_is_probes_reply(request: &[u8], reply: &[u8]) {
    let ((_, asked), (_, answered)) = (untag(request), untag(reply));
    assert_eq!(reply.len(), request.len());
    let (from, to, datagram) = addresses_and_datagram(&answered);
    let (asker, asked_at, question) = addresses_and_datagram(&asked);
    assert_eq!((from, to), (asked_at, asker));
    let udp = UdpPacket::new_checked(datagram).unwrap();
    assert!(udp.verify_checksum(&from, &to) && udp.checksum() != 0);
    let question = UdpPacket::new_checked(question).unwrap();
    assert_eq!(
        (udp.src_port(), udp.dst_port()),
        (question.dst_port(), question.src_port())
    );
    let (_, probe) = probe_in(reply).unwrap();
    assert_eq!(probe.kind, Kind::Reply);
}

fn addresses_and_datagram(untagged: &[u8]) -> (IpAddress, IpAddress, &[u8]) {
    let frame = EthernetFrame::new_checked(untagged).unwrap();
    if frame.ethertype() == EthernetProtocol::Ipv4 {
        let ip = Ipv4Packet::new_checked(frame.payload()).unwrap();
        assert!(ip.verify_checksum());
        let (source, destination) = (ip.src_addr(), ip.dst_addr());
        (source.into(), destination.into(), ip.payload())
    } else {
        let ip = Ipv6Packet::new_checked(frame.payload()).unwrap();
        let (source, destination) = (ip.src_addr(), ip.dst_addr());
        (source.into(), destination.into(), ip.payload())
    }
}

/// The VLAN of a frame, and the frame without its tags.
fn untag(frame: &[u8]) -> (Vlan, Vec<u8>) {
    let mut vlan = Vlan::default();
    let mut rest = &frame[12..];
    while let [0x81 | 0x88, 0x00 | 0xa8, a, b, behind @ ..] = rest {
        let id = u16::from_be_bytes([*a, *b]) & 0xfff;
        if rest[0] == 0x88 {
            vlan.service = id;
        } else {
            vlan.id = id;
        }
        rest = behind;
    }
    (vlan, [&frame[..12], rest].concat())
}
