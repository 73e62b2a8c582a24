//! Tags: one of IEEE 802.1Q, or one of 802.1ad with one of 802.1Q inside.

use super::scene::{CLIENT, NODE, OURS, PORT, Scene, UNTAGGED};
use crate::{
    layout::{Action, Vlan},
    testing::{Arp, Ethernet, Host, Nd, Subject, Tag},
    wire::nd,
};

/// A VIP of VLAN 100.
const IN_VLAN: Host = Host::number(110);
/// A VIP of customer VLAN 100 in service VLAN 200.
const IN_SERVICE_VLAN: Host = Host::number(111);

const VLAN_100: Vlan = Vlan {
    id: 100,
    service: 0,
};
const VLAN_100_IN_200: Vlan = Vlan {
    id: 100,
    service: 200,
};
/// Priority 5 and drop eligibility (IEEE 802.1Q §9.6), to be given back as they are.
const PRIORITY: u16 = 0b1011 << 12;

/// The VIP of a VLAN is answered there, and the reply carries the tag.
pub fn one_tag_is_matched_and_kept(subject: &mut impl Subject) {
    let mut scene = tagged_scene(subject);
    for tag in [Tag::Customer(100), Tag::Customer(PRIORITY | 100)] {
        answers_both(&mut scene, &IN_VLAN, &[tag]);
    }
}

/// The same with two tags.
pub fn two_tags_are_matched_and_kept(subject: &mut impl Subject) {
    let mut scene = tagged_scene(subject);
    for tags in [
        [Tag::Service(200), Tag::Customer(100)],
        [Tag::Service(PRIORITY | 200), Tag::Customer(PRIORITY | 100)],
    ] {
        answers_both(&mut scene, &IN_SERVICE_VLAN, &tags);
    }
}

/// IEEE 802.1Q §6.9, §9.6: VLAN id 0 means no VLAN, only a priority.
pub fn priority_tag_is_no_vlan(subject: &mut impl Subject) {
    let mut scene = tagged_scene(subject);
    answers_both(&mut scene, &OURS, &[Tag::Customer(PRIORITY)]);
    answers_both(&mut scene, &OURS, &[Tag::Service(0), Tag::Customer(0)]);
    answers_both(
        &mut scene,
        &IN_VLAN,
        &[Tag::Service(PRIORITY), Tag::Customer(100)],
    );
}

/// VIPs of one VLAN are not answered in another, nor without a tag, nor the other way round.
pub fn vip_is_not_answered_in_another_vlan(subject: &mut impl Subject) {
    let mut scene = tagged_scene(subject);
    let (customer, service) = (Tag::Customer, Tag::Service);
    let cases: [(&Host, &[&[Tag]]); 3] = [
        (
            &OURS,
            &[
                &[customer(100)],
                &[customer(1)],
                &[service(200), customer(100)],
                &[service(200), customer(0)],
            ],
        ),
        (
            &IN_VLAN,
            &[
                &[],
                &[customer(0)],
                &[customer(101)],
                &[customer(0xffe)],
                &[service(200), customer(100)],
                &[service(100), customer(0)],
            ],
        ),
        (
            &IN_SERVICE_VLAN,
            &[
                &[],
                &[customer(100)],
                &[customer(200)],
                &[service(100), customer(200)],
                &[service(201), customer(100)],
                &[service(200), customer(101)],
                &[service(0), customer(100)],
            ],
        ),
    ];
    for (vip, stacks) in cases {
        for tags in stacks {
            scene.passes(&Arp::request(&CLIENT, vip.v4).tagged(tags).bytes());
            scene.passes(&Nd::solicitation(&CLIENT, vip.v6).tagged(tags).bytes());
        }
    }
}

/// Frames with any other stack of tags are passed on.
pub fn other_stacks_of_tags_pass(subject: &mut impl Subject) {
    let mut scene = tagged_scene(subject);
    let (customer, service) = (Tag::Customer(100), Tag::Service(200));
    for tags in [
        &[customer, customer][..],
        &[service],
        &[service, service],
        &[customer, service],
        &[service, customer, customer],
        &[service, service, customer],
    ] {
        for vip in [&OURS, &IN_VLAN, &IN_SERVICE_VLAN] {
            scene.passes(&Arp::request(&CLIENT, vip.v4).tagged(tags).bytes());
            scene.passes(&Nd::solicitation(&CLIENT, vip.v6).tagged(tags).bytes());
        }
    }
}

/// One address may be owned in one VLAN and another node's in the next.
pub fn vip_is_suppressed_by_vlan(subject: &mut impl Subject) {
    let mut scene = tagged_scene(subject);
    scene.vip(&OURS, PORT, VLAN_100, Action::Suppress);
    answers_both(&mut scene, &OURS, &[]);
    let tags = [Tag::Customer(100)];
    scene.drops(&Arp::request(&CLIENT, OURS.v4).tagged(&tags).bytes());
    scene.drops(&Nd::solicitation(&CLIENT, OURS.v6).tagged(&tags).bytes());
}

/// A solicitation without an option grows by one behind its tags.
pub fn tagged_ns_without_an_option_is_answered(subject: &mut impl Subject) {
    let mut scene = tagged_scene(subject);
    let tags = [Tag::Service(200), Tag::Customer(100)];
    let probe = Nd::unreachability_probe(&CLIENT, NODE.mac, IN_SERVICE_VLAN.v6);
    let reply = advertised(&IN_SERVICE_VLAN).tagged(&tags).bytes();
    assert_eq!(reply.len(), 86 + 8);
    scene.answers(&probe.tagged(&tags).bytes(), &reply);
}

fn tagged_scene<S: Subject>(subject: &mut S) -> Scene<'_, S> {
    let mut scene = Scene::new(subject);
    scene.vip(&OURS, PORT, UNTAGGED, Action::Answer);
    scene.vip(&IN_VLAN, PORT, VLAN_100, Action::Answer);
    scene.vip(&IN_SERVICE_VLAN, PORT, VLAN_100_IN_200, Action::Answer);
    scene
}

#[track_caller]
fn answers_both(scene: &mut Scene<'_, impl Subject>, vip: &Host, tags: &[Tag]) {
    scene.answers(
        &Arp::request(&CLIENT, vip.v4).tagged(tags).bytes(),
        &Arp::reply(&NODE, vip.v4, &CLIENT).tagged(tags).bytes(),
    );
    scene.answers(
        &Nd::solicitation(&CLIENT, vip.v6).tagged(tags).bytes(),
        &advertised(vip).tagged(tags).bytes(),
    );
}

fn advertised(vip: &Host) -> Nd {
    Nd {
        ethernet: Ethernet::new(CLIENT.mac, NODE.mac),
        source: vip.v6,
        destination: CLIENT.v6,
        flags: nd::FLAG_SOLICITED | nd::FLAG_OVERRIDE,
        ..Nd::advertisement(&NODE, vip.v6)
    }
}
