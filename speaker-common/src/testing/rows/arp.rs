//! ARP (RFC 826, RFC 5227).

use super::scene::{CLIENT, NODE, OURS, OURS_V4, STRANGER, Scene};
use crate::{
    layout::EventKind,
    respond::Reason,
    testing::{Arp, Ethernet, Subject},
};

/// 14 bytes of Ethernet and 28 of ARP, padded to the least that goes over a wire (IEEE 802.3
/// §3.2.8, without the frame check sequence).
const ON_THE_WIRE: usize = 60;

/// Frames that are neither ARP nor Neighbor Discovery are passed on, whatever they contain.
pub fn other_protocols_pass(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let ethernet = Ethernet::new(NODE.mac, CLIENT.mac);
    let icmpv6 = |kind| {
        let mut packet = std::vec![0; 64];
        packet[0] = 0x60;
        packet[6] = 58;
        packet[7] = 255;
        packet[40] = kind;
        ethernet.frame(0x86dd, &packet)
    };
    let mut tcp_v4 = std::vec![0; 40];
    (tcp_v4[0], tcp_v4[9]) = (0x45, 6);
    let mut tcp_v6 = std::vec![0; 60];
    (tcp_v6[0], tcp_v6[6]) = (0x60, 6);
    for frame in [
        ethernet.frame(0x0800, &tcp_v4),
        ethernet.frame(0x86dd, &tcp_v6),
        // Echo request, router solicitation, MLDv2 report, redirect.
        icmpv6(128),
        icmpv6(133),
        icmpv6(143),
        icmpv6(137),
        // LLDP, and a length instead of an EtherType.
        ethernet.frame(0x88cc, &[0; 46]),
        ethernet.frame(46, &[0; 46]),
        // Nothing behind the EtherType.
        ethernet.frame(0x0800, &[]),
        ethernet.frame(0x86dd, &[]),
        ethernet.frame(0x86dd, &[0x60; 7]),
        ethernet.frame(0x8100, &[0; 3]),
    ] {
        scene.passes(&frame);
    }
}

/// RFC 826: the reply goes back to the asker alone, its fields swapped.
pub fn arp_request_is_answered_unicast(subject: &mut impl Subject) {
    Scene::new(subject).answers(
        b"\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x02\x08\x06\
          \x00\x01\x08\x00\x06\x04\x00\x01\
          \x02\x00\x00\x00\x00\x02\xc0\x00\x02\x02\
          \x00\x00\x00\x00\x00\x00\xc0\x00\x02\x64",
        b"\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x06\
          \x00\x01\x08\x00\x06\x04\x00\x02\
          \x02\x00\x00\x00\x00\x01\xc0\x00\x02\x64\
          \x02\x00\x00\x00\x00\x02\xc0\x00\x02\x02",
    );
}

/// A reply is as long as its request: 42 bytes over veth, 60 over a wire.
pub fn arp_reply_keeps_the_length_of_the_request(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for padding in [0, 1, ON_THE_WIRE - 42, 500] {
        let request = Arp {
            trailer: std::vec![0x5a; padding],
            ..Arp::request(&CLIENT, OURS.v4)
        };
        let reply = Arp {
            trailer: request.trailer.clone(),
            ..reply()
        };
        scene.answers(&request.bytes(), &reply.bytes());
    }
}

/// RFC 1122 §2.3.2.1: caches are validated by unicast requests.
pub fn arp_request_to_our_mac_is_answered(subject: &mut impl Subject) {
    let request = Arp {
        ethernet: Ethernet::new(NODE.mac, CLIENT.mac),
        ..Arp::request(&CLIENT, OURS.v4)
    };
    Scene::new(subject).answers(&request.bytes(), &reply().bytes());
}

/// RFC 826: the target hardware address of a request is ignored.
pub fn arp_target_hardware_address_is_not_read(subject: &mut impl Subject) {
    let request = Arp {
        tha: [0xff; 6],
        ..Arp::request(&CLIENT, OURS.v4)
    };
    Scene::new(subject).answers(&request.bytes(), &reply().bytes());
}

/// RFC 5227 §2.1.1: a host that probes for the VIP is told that it is taken. It has no address
/// yet, and the reply has none for it.
pub fn arp_probe_is_answered(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let reply = Arp {
        tpa: [0; 4],
        ..reply()
    };
    scene.answers(&Arp::probe(&CLIENT, OURS.v4).bytes(), &reply.bytes());
    let events = scene.subject.take_events();
    assert!(matches!(&events[..], [event] if event.kind == EventKind::Probed));
    assert_eq!(scene.subject.counters(OURS_V4).answered, 1);
}

/// A request for an address that is no VIP is passed on.
pub fn arp_request_for_another_address_passes(subject: &mut impl Subject) {
    Scene::new(subject).passes(&Arp::request(&CLIENT, STRANGER.v4).bytes());
}

/// Another host's traffic, seen through promiscuous mode, is not answered.
pub fn arp_request_to_another_mac_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for destination in [STRANGER.mac, [0x01, 0x00, 0x5e, 0, 0, 1], [0; 6]] {
        let request = Arp {
            ethernet: Ethernet::new(destination, CLIENT.mac),
            ..Arp::request(&CLIENT, OURS.v4)
        };
        scene.rejects(&request.bytes(), Reason::OtherHost);
    }
}

/// IEEE 802.3 §3.2.3: a frame has one sender. A reply to a group would be heard by everybody.
pub fn arp_request_from_a_group_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for source in [[0xff; 6], [0x01, 0, 0, 0, 0, 2]] {
        let request = Arp {
            ethernet: Ethernet::new([0xff; 6], source),
            ..Arp::request(&CLIENT, OURS.v4)
        };
        scene.rejects(&request.bytes(), Reason::GroupSource);
    }
}

/// The reply goes to the Ethernet source of the request, names the hardware address that the
/// message names, and is counted where the two differ.
pub fn arp_reply_goes_to_the_ethernet_source(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let request = Arp {
        ethernet: Ethernet::new([0xff; 6], STRANGER.mac),
        ..Arp::request(&CLIENT, OURS.v4)
    };
    let reply = Arp {
        ethernet: Ethernet::new(STRANGER.mac, NODE.mac),
        ..reply()
    };
    scene.answers(&request.bytes(), &reply.bytes());
    assert_eq!(scene.subject.reason(Reason::SenderDiffers), 1);
    scene.answers(
        &Arp::request(&CLIENT, OURS.v4).bytes(),
        &self::reply().bytes(),
    );
    assert_eq!(scene.subject.reason(Reason::SenderDiffers), 1);
}

/// RFC 826: hardware, protocol and lengths are those of IPv4 over Ethernet.
pub fn arp_of_another_format_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let request = Arp::request(&CLIENT, OURS.v4);
    for arp in [
        Arp {
            hardware_type: 6,
            ..request.clone()
        },
        Arp {
            protocol_type: 0x86dd,
            ..request.clone()
        },
        Arp {
            hardware_length: 8,
            ..request.clone()
        },
        Arp {
            protocol_length: 16,
            ..request.clone()
        },
    ] {
        scene.rejects(&arp.bytes(), Reason::ArpFormat);
    }
}

/// Neither request nor reply: RARP, InARP and what is not assigned.
pub fn arp_of_another_operation_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for operation in [0, 3, 4, 8, 9, 0x0100, 0xffff] {
        let arp = Arp {
            operation,
            ..Arp::request(&CLIENT, OURS.v4)
        };
        scene.rejects(&arp.bytes(), Reason::ArpOperation);
    }
}

/// A frame that ends within the message is not read beyond its end.
pub fn truncated_arp_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let whole = Arp::request(&CLIENT, OURS.v4).bytes();
    for length in 14..whole.len() {
        scene.rejects(&whole[..length], Reason::ArpTruncated);
    }
}

/// A reply is not answered.
pub fn arp_reply_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.passes(&Arp::reply(&STRANGER, STRANGER.v4, &NODE).bytes());
    let about_the_vip = Arp {
        tpa: OURS.v4,
        ..Arp::reply(&STRANGER, STRANGER.v4, &NODE)
    };
    scene.passes(&about_the_vip.bytes());
}

/// What the node answers to the client.
fn reply() -> Arp {
    Arp::reply(&NODE, OURS.v4, &CLIENT)
}
