//! What is counted and reported.

use super::scene::{
    CLIENT, NODE, OURS, OURS_V4, OURS_V6, STRANGER, Scene, THEIRS, THEIRS_V4, assert_shows,
};
use crate::{
    layout::{Counters, Event, EventKind},
    respond::Reason,
    testing::{Arp, Nd, Subject},
};

/// Each VIP has counters of its own, with the time of the last request.
pub fn requests_are_counted_by_vip(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    let start = scene.subject.now_ns();
    for _ in 0..3 {
        scene
            .subject
            .handle(&Arp::request(&CLIENT, OURS.v4).bytes());
    }
    scene.lease(-1);
    scene
        .subject
        .handle(&Arp::request(&CLIENT, OURS.v4).bytes());
    scene
        .subject
        .handle(&Arp::probe(&CLIENT, THEIRS.v4).bytes());
    let end = scene.subject.now_ns();

    let ours = scene.subject.counters(OURS_V4);
    assert!((start..=end).contains(&ours.last_request_ns));
    let expected = Counters {
        answered: 3,
        suppressed: 0,
        refused: 1,
        last_request_ns: ours.last_request_ns,
    };
    assert_eq!((ours, ours.requests()), (expected, 4));
    let theirs = scene.subject.counters(THEIRS_V4);
    let expected = Counters {
        suppressed: 1,
        last_request_ns: theirs.last_request_ns,
        ..Counters::default()
    };
    assert_eq!(theirs, expected);
    assert_eq!(scene.subject.counters(OURS_V6), Counters::default());
}

/// Without a watcher, only events that the agent needs are reported.
pub fn unwatched_requests_are_not_reported(subject: &mut impl Subject) {
    let scene = Scene::new(subject);
    scene
        .subject
        .handle(&Arp::request(&CLIENT, OURS.v4).bytes());
    scene
        .subject
        .handle(&Arp::request(&CLIENT, THEIRS.v4).bytes());
    scene
        .subject
        .handle(&Nd::solicitation(&CLIENT, OURS.v6).bytes());
    assert_eq!(scene.subject.take_events(), []);
}

/// A watcher sees each frame that is handled, why, and what went back.
pub fn watcher_sees_every_frame_handled(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    scene.subject.set_watched(true);

    let request = Arp::request(&CLIENT, OURS.v4).bytes();
    let reply = scene.subject.handle(&request).frame;
    assert_told(
        &mut scene,
        EventKind::Answered,
        None,
        &request,
        Some(&reply),
    );

    let solicitation = Nd::unreachability_probe(&CLIENT, NODE.mac, OURS.v6).bytes();
    let reply = scene.subject.handle(&solicitation).frame;
    assert_told(
        &mut scene,
        EventKind::Answered,
        None,
        &solicitation,
        Some(&reply),
    );

    let probe = Nd::duplicate_detection(&CLIENT, OURS.v6).bytes();
    let reply = scene.subject.handle(&probe).frame;
    assert_told(&mut scene, EventKind::Probed, None, &probe, Some(&reply));

    let suppressed = Arp::request(&CLIENT, THEIRS.v4).bytes();
    scene.drops(&suppressed);
    assert_told(&mut scene, EventKind::Suppressed, None, &suppressed, None);

    let claim = Arp::announcement(&STRANGER, OURS.v4).bytes();
    scene.subject.handle(&claim);
    assert_told(&mut scene, EventKind::Claimed, None, &claim, None);

    let rejected = Nd {
        hop_limit: 64,
        ..Nd::solicitation(&CLIENT, OURS.v6)
    }
    .bytes();
    scene.subject.handle(&rejected);
    let reason = Some(Reason::NdHopLimit);
    assert_told(&mut scene, EventKind::Rejected, reason, &rejected, None);

    scene.lease(-1);
    scene.drops(&request);
    assert_told(&mut scene, EventKind::Refused, None, &request, None);

    // Frames that do not concern VIPs are not shown.
    scene.passes(&Arp::request(&CLIENT, STRANGER.v4).bytes());
    scene.subject.set_watched(false);
    scene.drops(&request);
    assert_eq!(scene.subject.take_events(), []);
}

/// Of a long frame, an event holds the beginning and the length.
pub fn event_holds_the_beginning_of_a_long_frame(subject: &mut impl Subject) {
    let mut scene = Scene::new(subject);
    for trailer in [80, 84, 86, 88, 200, 1_000] {
        let claim = Arp {
            trailer: (0..trailer).map(|n| n as u8).collect(),
            ..Arp::announcement(&STRANGER, OURS.v4)
        };
        scene.reports_claim(&claim.bytes());
    }
}

#[track_caller]
fn assert_told(
    scene: &mut Scene<'_, impl Subject>,
    kind: EventKind,
    reason: Option<Reason>,
    frame: &[u8],
    reply: Option<&[u8]>,
) {
    let events = scene.subject.take_events();
    let kinds: std::vec::Vec<_> = events.iter().map(|event| event.kind).collect();
    let (told, answer) = match (&events[..], reply) {
        ([told], None) => (told, None),
        ([told, answer], Some(reply)) => (told, Some((answer, reply))),
        _ => panic!("told {kinds:?}"),
    };
    assert_eq!(told.kind, kind);
    assert_eq!(told.reason, reason.map_or(0, |reason| reason as u8));
    assert_is_of_the_link(scene, told);
    assert_shows(told, frame);
    if let Some((answer, reply)) = answer {
        assert_eq!(answer.kind, EventKind::Reply);
        assert_is_of_the_link(scene, answer);
        assert_shows(answer, reply);
    }
}

#[track_caller]
fn assert_is_of_the_link<S: Subject>(scene: &Scene<'_, S>, event: &Event) {
    assert_eq!(event.ifindex, S::IFINDEX);
    assert!(event.time_ns <= scene.subject.now_ns());
}
