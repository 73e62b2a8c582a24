//! Neighbor Discovery messages that RFC 4861 §7.1 tells a host to discard: left to the node's own
//! kernel, and counted by reason.

use std::vec::Vec;

use super::scene::{CLIENT, OURS, PORT, STRANGER, Scene, UNTAGGED};
use crate::{
    layout::Action,
    respond::{MAX_OPTION_UNITS, Reason},
    testing::{Checksum, Host, Nd, Subject, option},
    wire::nd,
};

/// "The IP Hop Limit field has a value of 255, i.e., the packet could not possibly have been
/// forwarded by a router."
pub fn nd_with_another_hop_limit_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for hop_limit in [0, 1, 64, 254] {
        for message in both() {
            let message = Nd {
                hop_limit,
                ..message
            };
            scene.rejects(&message.bytes(), Reason::NdHopLimit);
        }
    }
}

/// "ICMP Code is 0."
pub fn nd_with_a_code_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for message in both() {
        let message = Nd { code: 1, ..message };
        scene.rejects(&message.bytes(), Reason::NdCode);
    }
}

/// "ICMP Checksum is valid." One that is not gives no reply whose checksum is right: it gives
/// none.
pub fn nd_with_a_wrong_checksum_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for bit in 0..u16::BITS {
        for message in both() {
            let message = Nd {
                checksum: Checksum::Flipped(1 << bit),
                ..message
            };
            scene.rejects(&message.bytes(), Reason::NdChecksum);
        }
    }
}

/// "ICMP length (derived from the IP length) is 24 or more octets."
pub fn short_nd_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for length in 0..24_i16 {
        let message = Nd {
            options: Vec::new(),
            length_error: length - 24,
            ..Nd::solicitation(&CLIENT, OURS.v6)
        };
        scene.rejects(&message.bytes(), Reason::NdLength);
    }
}

/// A packet that is longer than its frame was cut off on its way.
pub fn nd_longer_than_its_frame_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for message in both() {
        let message = Nd {
            length_error: 8,
            ..message
        };
        scene.rejects(&message.bytes(), Reason::NdLength);
    }
    let whole = Nd::solicitation(&CLIENT, OURS.v6).bytes();
    for cut in 56..whole.len() {
        scene.rejects(&whole[..cut], Reason::NdLength);
    }
}

/// "All included options have a length that is greater than zero."
pub fn nd_with_an_option_of_length_zero_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let empty = [253, 0, 0, 0, 0, 0, 0, 0];
    for message in both() {
        for options in [
            empty.to_vec(),
            [&message.options[..], &empty].concat(),
            [&empty, &message.options[..]].concat(),
        ] {
            let message = Nd {
                options,
                ..message.clone()
            };
            scene.rejects(&message.bytes(), Reason::NdOption);
        }
    }
}

/// RFC 4861 §4.6: options fill the message, in units of eight bytes.
pub fn nd_with_an_option_past_its_end_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for message in both() {
        for options in [
            [253, 2, 0, 0, 0, 0, 0, 0].to_vec(),
            [253, 255, 0, 0, 0, 0, 0, 0].to_vec(),
            [&message.options[..], &[253, 1, 0, 0]].concat(),
        ] {
            let message = Nd {
                options,
                ..message.clone()
            };
            scene.rejects(&message.bytes(), Reason::NdOption);
        }
    }
}

/// RFC 2464 §6: the link-layer address option of Ethernet is one unit long.
pub fn nd_with_a_link_layer_address_of_another_length_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for message in both() {
        let kind = message.options[0];
        let message = Nd {
            options: [&[kind, 2][..], &[0; 14]].concat(),
            ..message
        };
        scene.rejects(&message.bytes(), Reason::NdOption);
    }
}

/// More options than any host sends are not read, so that the time that a frame takes is bounded.
pub fn nd_with_too_many_options_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let most = usize::from(MAX_OPTION_UNITS);
    for message in both() {
        for units in [most + 1, most + 2, 100] {
            let message = Nd {
                options: message.options.repeat(units),
                ..message.clone()
            };
            scene.rejects(&message.bytes(), Reason::NdTooLong);
        }
    }
}

/// "Target Address is not a multicast address." No VIP is one; an entry that says so is not
/// believed.
pub fn nd_with_a_multicast_target_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let group = Host {
        v6: nd::ALL_NODES,
        ..OURS
    };
    scene.vip(&group, PORT, UNTAGGED, Action::Answer);
    let solicitation = Nd::solicitation(&CLIENT, nd::ALL_NODES);
    scene.rejects(&solicitation.bytes(), Reason::NdTarget);
}

/// "If the IP source address is the unspecified address, there is no source link-layer address
/// option in the message."
pub fn ns_unspecified_with_a_source_option_passes(subject: &mut impl Subject) {
    let solicitation = Nd {
        options: option(nd::OPTION_SOURCE, CLIENT.mac),
        ..Nd::duplicate_detection(&CLIENT, OURS.v6)
    };
    Scene::new(subject).rejects(&solicitation.bytes(), Reason::NdSource);
}

/// "If the IP source address is the unspecified address, the IP destination address is a
/// solicited-node multicast address."
pub fn ns_unspecified_to_another_destination_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let nearly = {
        let mut group = nd::solicited_node(&OURS.v6);
        group[12] = 0xfe;
        group
    };
    for destination in [OURS.v6, nd::ALL_NODES, nearly] {
        let solicitation = Nd {
            destination,
            ..Nd::duplicate_detection(&CLIENT, OURS.v6)
        };
        scene.rejects(&solicitation.bytes(), Reason::NdSource);
    }
}

/// RFC 4291 §2.7: "Multicast addresses must not be used as source addresses in IPv6 packets."
pub fn ns_from_a_multicast_address_passes(subject: &mut impl Subject) {
    let solicitation = Nd {
        source: nd::ALL_NODES,
        ..Nd::solicitation(&CLIENT, OURS.v6)
    };
    Scene::new(subject).rejects(&solicitation.bytes(), Reason::NdSource);
}

/// RFC 8200 §3: the version is 6.
pub fn nd_of_another_version_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for version in [0, 4, 5, 7, 15] {
        for message in both() {
            let message = Nd { version, ..message };
            scene.rejects(&message.bytes(), Reason::NdVersion);
        }
    }
}

/// Behind extension headers the message is the kernel's: it decides whether to read it (RFC 6980
/// forbids it behind a fragment header).
pub fn nd_behind_extension_headers_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let (hop_by_hop, routing, fragment, destination) = (0, 43, 44, 60);
    let one_unit = [0, 1, 4, 0, 0, 0, 0].to_vec();
    let two_units = [&[1][..], &[1, 12, 0, 0, 0, 0, 0, 0], &[0; 6]].concat();
    for extensions in [
        [(hop_by_hop, one_unit.clone())].to_vec(),
        [(destination, two_units.clone())].to_vec(),
        [(routing, one_unit.clone())].to_vec(),
        // The first fragment, with a length byte that is none, and more to come.
        [(fragment, [0x77, 0, 1, 0, 0, 0, 9].to_vec())].to_vec(),
        [
            (hop_by_hop, two_units.clone()),
            (destination, one_unit.clone()),
            (routing, two_units),
            (fragment, one_unit.iter().map(|_| 0).collect()),
        ]
        .to_vec(),
    ] {
        for message in both() {
            let message = Nd {
                extensions: extensions.clone(),
                ..message
            };
            scene.rejects(&message.bytes(), Reason::NdExtension);
        }
    }
    // What follows the header of a later fragment is no header (RFC 8200 §4.5).
    let later = Nd {
        extensions: [(fragment, [0, 0, 8, 0, 0, 0, 9].to_vec())].to_vec(),
        ..Nd::solicitation(&CLIENT, OURS.v6)
    };
    scene.passes(&later.bytes());
    let no_nd = Nd {
        extensions: [(hop_by_hop, one_unit)].to_vec(),
        kind: 143,
        ..Nd::solicitation(&CLIENT, OURS.v6)
    };
    scene.passes(&no_nd.bytes());
}

/// A solicitation for a VIP of ours, and an advertisement that claims it.
fn both() -> [Nd; 2] {
    [
        Nd::solicitation(&CLIENT, OURS.v6),
        Nd::advertisement(&STRANGER, OURS.v6),
    ]
}
