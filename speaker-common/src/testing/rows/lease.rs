//! Which VIPs are answered for: entries, links, and the kernel-held lease.

use super::scene::{
    CLIENT, NODE, OURS, OURS_V4, OURS_V6, PORT, SECOND_NS, STRANGER, Scene, THEIRS, THEIRS_V4,
    THEIRS_V6, UNTAGGED,
};
use crate::{
    layout::Action,
    lease::INERT_AFTER_NS,
    respond::{Reason, Verdict},
    testing::{Arp, Host, Nd, Subject},
};
use std::vec::Vec;

/// The node's own kernel must not answer for a VIP that is another node's: kube-proxy may have
/// bound it on every node.
pub fn request_for_another_nodes_vip_is_dropped(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for frame in requests(&THEIRS) {
        scene.drops(&frame);
    }
    let (v4, v6) = (
        scene.subject.counters(THEIRS_V4),
        scene.subject.counters(THEIRS_V6),
    );
    assert_eq!((v4.requests(), v4.suppressed, v4.answered), (2, 2, 0));
    assert_eq!((v6.requests(), v6.suppressed, v6.answered), (3, 3, 0));
}

/// This node's kernel may see replies and advertisements of other nodes' VIPs.
pub fn reply_for_another_nodes_vip_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.passes(&Arp::reply(&STRANGER, THEIRS.v4, &NODE).bytes());
    scene.passes(&Nd::advertisement(&STRANGER, THEIRS.v6).bytes());
}

/// Once the agent is gone for too long, neither the program nor the node's own kernel answers.
pub fn request_is_dropped_when_the_lease_has_lapsed(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.lease(-1);
    for frame in requests(&OURS).into_iter().chain(requests(&THEIRS)) {
        scene.drops(&frame);
    }
    let (v4, v6) = (
        scene.subject.counters(OURS_V4),
        scene.subject.counters(OURS_V6),
    );
    assert_eq!((v4.requests(), v4.refused, v4.answered), (2, 2, 0));
    assert_eq!((v6.requests(), v6.refused, v6.answered), (3, 3, 0));
}

/// An agent that is back answers again at once.
pub fn request_is_answered_when_the_lease_is_renewed(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let request = Arp::request(&CLIENT, OURS.v4).bytes();
    let reply = Arp::reply(&NODE, OURS.v4, &CLIENT).bytes();
    scene.answers(&request, &reply);
    scene.lease(-1);
    scene.drops(&request);
    scene.lease(60 * SECOND_NS as i64);
    scene.answers(&request, &reply);
}

/// Pins of an agent that is gone for good do not silence what serves the node next.
pub fn everything_passes_once_the_program_is_inert(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    if !scene.subject.has_run_for(INERT_AFTER_NS + SECOND_NS) {
        return;
    }
    scene.lease(-(INERT_AFTER_NS as i64) + SECOND_NS as i64);
    for frame in requests(&OURS) {
        scene.drops(&frame);
    }
    scene.lease(-(INERT_AFTER_NS as i64));
    for frame in requests(&OURS).into_iter().chain(requests(&THEIRS)) {
        scene.passes(&frame);
    }
}

/// The agent enters a link before it answers there.
pub fn request_on_an_unknown_link_passes(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.subject.set_link(None);
    for frame in requests(&OURS).into_iter().chain(requests(&THEIRS)) {
        scene.rejects(&frame, Reason::UnknownLink);
    }
}

/// VIPs are bound to ports: the one interface, or the bond that has it as a member.
pub fn vip_is_not_answered_on_another_port(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let elsewhere = Host::number(120);
    scene.vip(&elsewhere, PORT + 1, UNTAGGED, Action::Answer);
    for frame in requests(&elsewhere) {
        scene.passes(&frame);
    }
    scene.link(NODE.mac, PORT + 1);
    for frame in requests(&OURS) {
        scene.passes(&frame);
    }
    for frame in requests(&elsewhere) {
        scene.goes_back(&frame);
    }
}

/// A member of a bond answers with the bond's MAC, to requests for it.
pub fn bond_member_answers_with_the_bonds_mac(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let bond = Host {
        mac: [0x02, 0xb0, 0, 0, 0, 1],
        ..NODE
    };
    scene.link(bond.mac, PORT);
    scene.answers(
        &Arp::request(&CLIENT, OURS.v4).bytes(),
        &Arp::reply(&bond, OURS.v4, &CLIENT).bytes(),
    );
    let probe = Nd::unreachability_probe(&CLIENT, bond.mac, OURS.v6);
    scene.goes_back(&probe.bytes());
    let probe = Nd::unreachability_probe(&CLIENT, NODE.mac, OURS.v6);
    scene.rejects(&probe.bytes(), Reason::OtherHost);
}

/// All ways to ask for a VIP: two of IPv4, three of IPv6.
fn requests(vip: &Host) -> Vec<Vec<u8>> {
    std::vec![
        Arp::request(&CLIENT, vip.v4).bytes(),
        Arp::probe(&CLIENT, vip.v4).bytes(),
        Nd::solicitation(&CLIENT, vip.v6).bytes(),
        Nd::unreachability_probe(&CLIENT, NODE.mac, vip.v6).bytes(),
        Nd::duplicate_detection(&CLIENT, vip.v6).bytes(),
    ]
}

impl<S: Subject> Scene<'_, S> {
    #[track_caller]
    fn goes_back(&mut self, frame: &[u8]) {
        assert_eq!(self.subject.handle(frame).verdict, Verdict::Transmit);
        self.subject.take_events();
    }
}
