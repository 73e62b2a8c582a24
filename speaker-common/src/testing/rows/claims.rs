//! Another host claims a VIP of this node.
//!
//! The agent knows whether that is a node of the cluster or a foreign host: the event carries the
//! frame.

use super::scene::{CLIENT, NODE, OURS, OURS_TOO, PORT, STRANGER, Scene, THEIRS, UNTAGGED};
use crate::{
    layout::{VipKeyV4, VipKeyV6},
    testing::{Arp, Ethernet, Nd, Subject, option},
    wire::{BROADCAST, nd},
};

/// RFC 5227 §2.4: a sender address that is ours, with a hardware address that is not, is never
/// answered, and reported to the agent.
pub fn arp_announcement_of_an_owned_vip_is_a_claim(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let announcement = Arp::announcement(&STRANGER, OURS.v4);
    scene.reports_claim(&announcement.bytes());
    let as_reply = Arp {
        operation: 2,
        ..announcement.clone()
    };
    scene.reports_claim(&as_reply.bytes());
    // The message counts, not the frame's source.
    let with_our_source = Arp {
        ethernet: Ethernet::new(BROADCAST, NODE.mac),
        ..announcement
    };
    scene.reports_claim(&with_our_source.bytes());
}

/// The same in a request for any other address, a VIP of ours among them.
pub fn arp_request_from_an_owned_vip_is_a_claim(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for target in [CLIENT.v4, OURS_TOO.v4] {
        let request = Arp {
            spa: OURS.v4,
            ..Arp::request(&STRANGER, target)
        };
        scene.reports_claim(&request.bytes());
    }
}

/// The same in a reply to one host.
pub fn arp_reply_for_an_owned_vip_is_a_claim(subject: &mut impl Subject) {
    Scene::new(subject).reports_claim(&Arp::reply(&STRANGER, OURS.v4, &NODE).bytes());
}

/// The owner's own announcement, returned by a loop or a mirror port, is no claim.
pub fn arp_with_our_own_mac_is_no_claim(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.passes(&Arp::announcement(&NODE, OURS.v4).bytes());
    let as_reply = Arp {
        operation: 2,
        ..Arp::announcement(&NODE, OURS.v4)
    };
    scene.passes(&as_reply.bytes());
    let relayed = Arp {
        ethernet: Ethernet::new(BROADCAST, STRANGER.mac),
        ..Arp::announcement(&NODE, OURS.v4)
    };
    scene.passes(&relayed.bytes());
}

/// RFC 5227 §3: the owner's announcement needs no answer. The node's own kernel learns from it
/// where the VIP is.
pub fn announcement_of_another_nodes_vip_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.passes(&Arp::announcement(&STRANGER, THEIRS.v4).bytes());
    scene.passes(&Arp::reply(&STRANGER, THEIRS.v4, &NODE).bytes());
    scene.passes(&Nd::advertisement(&STRANGER, THEIRS.v6).bytes());
}

/// Claims are reported whether or not the lease is valid: the claimant may be the node that took
/// over.
pub fn claim_is_reported_after_the_lease_has_lapsed(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.lease(-1);
    scene.reports_claim(&Arp::announcement(&STRANGER, OURS.v4).bytes());
    scene.reports_claim(&Nd::advertisement(&STRANGER, OURS.v6).bytes());
}

/// A claimant that asks for another node's VIP is not answered by this node's kernel either.
pub fn silence_comes_before_a_claim(subject: &mut impl Subject) {
    let request = Arp {
        spa: OURS.v4,
        ..Arp::request(&STRANGER, THEIRS.v4)
    };
    Scene::new(subject).drops(&request.bytes());
}

/// An advertisement of an owned VIP with another MAC, in its option or, without one, as the
/// frame's source (RFC 4861 §4.4).
pub fn na_for_an_owned_vip_is_a_claim(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let advertisement = Nd::advertisement(&STRANGER, OURS.v6);
    scene.reports_claim(&advertisement.bytes());
    scene.reports_claim(
        &Nd {
            options: std::vec::Vec::new(),
            ..advertisement.clone()
        }
        .bytes(),
    );
    // Sent by a proxy: the option counts.
    scene.reports_claim(
        &Nd {
            options: option(nd::OPTION_TARGET, CLIENT.mac),
            ..Nd::advertisement(&NODE, OURS.v6)
        }
        .bytes(),
    );
}

/// The owner's own advertisement, returned by the network, is no claim.
pub fn na_with_our_own_mac_is_no_claim(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.passes(&Nd::advertisement(&NODE, OURS.v6).bytes());
    scene.passes(
        &Nd {
            options: std::vec::Vec::new(),
            ..Nd::advertisement(&NODE, OURS.v6)
        }
        .bytes(),
    );
}

/// An advertisement of an address that is no VIP is passed on.
pub fn na_for_another_address_passes(subject: &mut impl Subject) {
    Scene::new(subject).passes(&Nd::advertisement(&STRANGER, STRANGER.v6).bytes());
}

/// Only a host that holds the address itself sends from it.
pub fn ns_from_an_owned_vip_for_itself_is_a_claim(subject: &mut impl Subject) {
    let solicitation = Nd {
        source: OURS.v6,
        ..Nd::solicitation(&STRANGER, OURS.v6)
    };
    Scene::new(subject).reports_claim(&solicitation.bytes());
}

/// An address that was removed from the tables is no VIP any more.
pub fn removed_vip_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let (port, vlan) = (PORT, UNTAGGED);
    let v4 = VipKeyV4 {
        address: OURS.v4,
        port,
        vlan,
    };
    let v6 = VipKeyV6 {
        address: OURS.v6,
        port,
        vlan,
    };
    scene.subject.set_vip_v4(v4, None);
    scene.subject.set_vip_v6(v6, None);
    scene.passes(&Arp::request(&CLIENT, OURS.v4).bytes());
    scene.passes(&Arp::announcement(&STRANGER, OURS.v4).bytes());
    scene.passes(&Nd::solicitation(&CLIENT, OURS.v6).bytes());
    scene.passes(&Nd::advertisement(&STRANGER, OURS.v6).bytes());
}
