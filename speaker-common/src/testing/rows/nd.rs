//! Neighbor Solicitations that are answered (RFC 4861 §7.2, RFC 4862 §5.4).

use std::vec::Vec;

use super::scene::{CLIENT, NODE, OURS, OURS_V6, STRANGER, Scene};
use crate::{
    frame::RESIZABLE,
    layout::EventKind,
    respond::Reason,
    testing::{Ethernet, Nd, Subject, option},
    wire::nd,
};

/// RFC 7527 §4.2: a nonce of six bytes.
const NONCE: [u8; 8] = [14, 1, 1, 2, 3, 4, 5, 6];
/// An unknown option of three units.
const UNKNOWN: [u8; 24] = {
    let mut option = [0x77; 24];
    option[0] = 253;
    option[1] = 3;
    option
};

/// RFC 4861 §7.2.4: solicited and overriding, with the target's MAC, from the VIP to the asker,
/// hop limit 255.
pub fn ns_is_answered(subject: &mut impl Subject) {
    Scene::new(subject).answers(
        b"\x33\x33\xff\x00\x00\x64\x02\x00\x00\x00\x00\x02\x86\xdd\
          \x60\x00\x00\x00\x00\x20\x3a\xff\
          \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\
          \xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff\x00\x00\x64\
          \x87\x00\x1b\x61\x00\x00\x00\x00\
          \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x64\
          \x01\x01\x02\x00\x00\x00\x00\x02",
        b"\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x86\xdd\
          \x60\x00\x00\x00\x00\x20\x3a\xff\
          \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x64\
          \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\
          \x88\x00\x89\xad\x60\x00\x00\x00\
          \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x64\
          \x02\x01\x02\x00\x00\x00\x00\x01",
    );
}

/// A solicitation to the VIP itself is answered like one to its group.
pub fn ns_to_our_mac_is_answered(subject: &mut impl Subject) {
    let solicitation = Nd {
        ethernet: Ethernet::new(NODE.mac, CLIENT.mac),
        destination: OURS.v6,
        ..Nd::solicitation(&CLIENT, OURS.v6)
    };
    Scene::new(subject).answers(&solicitation.bytes(), &reply().bytes());
}

/// RFC 4861 §4.3 and §7.3.3: a unicast probe for unreachability needs no option. MetalLB drops
/// these, and IPv6 traffic through it fails from time to time.
pub fn ns_without_an_option_is_answered(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let probe = Nd::unreachability_probe(&CLIENT, NODE.mac, OURS.v6).bytes();
    assert_eq!(probe.len(), 78);
    scene.answers(&probe, &reply().bytes());
    let multicast = Nd {
        options: Vec::new(),
        ..Nd::solicitation(&CLIENT, OURS.v6)
    };
    scene.answers(&multicast.bytes(), &reply().bytes());
}

/// RFC 4862 §5.4.3: a host that is about to take the VIP hears that it is taken, with all nodes,
/// for it has no address yet (RFC 4861 §7.2.4). The advertisement is not solicited.
pub fn ns_for_duplicate_detection_is_answered_to_all_nodes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.answers(
        b"\x33\x33\xff\x00\x00\x64\x02\x00\x00\x00\x00\x02\x86\xdd\
          \x60\x00\x00\x00\x00\x18\x3a\xff\
          \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
          \xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff\x00\x00\x64\
          \x87\x00\x4c\x27\x00\x00\x00\x00\
          \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x64",
        b"\x33\x33\x00\x00\x00\x01\x02\x00\x00\x00\x00\x01\x86\xdd\
          \x60\x00\x00\x00\x00\x20\x3a\xff\
          \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x64\
          \xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\
          \x88\x00\xf8\x64\x20\x00\x00\x00\
          \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x64\
          \x02\x01\x02\x00\x00\x00\x00\x01",
    );
    let events = scene.subject.take_events();
    assert!(matches!(&events[..], [event] if event.kind == EventKind::Probed));
    assert_eq!(scene.subject.counters(OURS_V6).answered, 1);
}

/// RFC 7527 §4.1: Linux adds a nonce to its solicitations for duplicates.
pub fn ns_for_duplicate_detection_with_a_nonce_is_answered(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let solicitation = Nd {
        options: NONCE.to_vec(),
        ..Nd::duplicate_detection(&CLIENT, OURS.v6)
    };
    let reply = Nd {
        ethernet: Ethernet::new(nd::ALL_NODES_MAC, NODE.mac),
        destination: nd::ALL_NODES,
        flags: nd::FLAG_OVERRIDE,
        ..reply()
    };
    scene.answers(&solicitation.bytes(), &reply.bytes());
}

/// RFC 4861 §9: options come in any order and number, and unknown ones are ignored. Nothing of
/// them is left in the reply, which ends with its one option.
pub fn ns_with_options_in_any_order_is_answered(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let source = option(nd::OPTION_SOURCE, CLIENT.mac);
    let (nonce, unknown) = (NONCE.to_vec(), UNKNOWN.to_vec());
    for options in [
        nonce.clone(),
        unknown.clone(),
        [&source[..], &nonce].concat(),
        [&nonce[..], &source].concat(),
        [&unknown[..], &nonce, &source].concat(),
        [&source[..], &unknown, &nonce].concat(),
        [&source[..], &source].concat(),
        // The most that is read.
        [UNKNOWN; 5].concat().into_iter().chain(source).collect(),
    ] {
        let solicitation = Nd {
            options,
            ..Nd::solicitation(&CLIENT, OURS.v6)
        };
        scene.answers(&solicitation.bytes(), &reply().bytes());
    }
}

/// An IPv6 packet ends where its header says (RFC 8200 §3): what follows it is neither read nor
/// sent back.
pub fn ns_with_a_trailer_is_answered_without_it(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for trailer in [1, 4, 8, 300] {
        let solicitation = Nd {
            trailer: std::vec![0x5a; trailer],
            ..Nd::solicitation(&CLIENT, OURS.v6)
        };
        scene.answers(&solicitation.bytes(), &reply().bytes());
    }
}

/// A frame that may lie in several buffers cannot be made shorter: it is left to the kernel as it
/// is.
pub fn ns_in_a_frame_of_several_buffers_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let plain = Nd::solicitation(&CLIENT, OURS.v6);
    let room = RESIZABLE - plain.bytes().len();
    let with_trailer = |bytes| Nd {
        trailer: std::vec![0x5a; bytes],
        ..plain.clone()
    };
    scene.answers(&with_trailer(room).bytes(), &reply().bytes());
    for trailer in [room + 1, 1_400] {
        scene.rejects(&with_trailer(trailer).bytes(), Reason::NoRoom);
    }
}

/// RFC 8200 §7, RFC 6437: traffic class and flow label of the asker mean nothing, and the reply
/// has none.
pub fn ns_with_a_flow_label_is_answered(subject: &mut impl Subject) {
    let mut solicitation = Nd::solicitation(&CLIENT, OURS.v6).bytes();
    solicitation[14..18].copy_from_slice(&[0x6c, 0x0f, 0xab, 0xcd]);
    Scene::new(subject).answers(&solicitation, &reply().bytes());
}

/// A solicitation for an address that is no VIP is passed on.
pub fn ns_for_another_address_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.passes(&Nd::solicitation(&CLIENT, STRANGER.v6).bytes());
    scene.passes(&Nd::duplicate_detection(&CLIENT, STRANGER.v6).bytes());
}

/// Another host's traffic, seen through promiscuous mode, is not answered.
pub fn ns_to_another_mac_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let probe = Nd::unreachability_probe(&CLIENT, STRANGER.mac, OURS.v6);
    scene.rejects(&probe.bytes(), Reason::OtherHost);
}

/// IEEE 802.3 §3.2.3: a frame has one sender.
pub fn ns_from_a_group_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let solicitation = Nd {
        ethernet: Ethernet::new(NODE.mac, nd::ALL_NODES_MAC),
        ..Nd::solicitation(&CLIENT, OURS.v6)
    };
    scene.rejects(&solicitation.bytes(), Reason::GroupSource);
}

/// The reply goes to the Ethernet source, whatever the option says, and is counted where the two
/// differ.
pub fn ns_reply_goes_to_the_ethernet_source(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let solicitation = Nd {
        options: option(nd::OPTION_SOURCE, STRANGER.mac),
        ..Nd::solicitation(&CLIENT, OURS.v6)
    };
    scene.answers(&solicitation.bytes(), &reply().bytes());
    assert_eq!(scene.subject.reason(Reason::SenderDiffers), 1);
    scene.answers(
        &Nd::solicitation(&CLIENT, OURS.v6).bytes(),
        &reply().bytes(),
    );
    assert_eq!(scene.subject.reason(Reason::SenderDiffers), 1);
}

/// What the node answers to the client.
fn reply() -> Nd {
    Nd {
        ethernet: Ethernet::new(CLIENT.mac, NODE.mac),
        destination: CLIENT.v6,
        source: OURS.v6,
        flags: nd::FLAG_SOLICITED | nd::FLAG_OVERRIDE,
        ..Nd::advertisement(&NODE, OURS.v6)
    }
}
