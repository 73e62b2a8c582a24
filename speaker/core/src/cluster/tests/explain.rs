//! What a node says about VIPs and other nodes.

use super::*;

#[test]
fn explain_names_the_owner_and_the_standing_of_each_candidate() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let answering = lab.answering();
    let [owner] = answering[..] else {
        panic!("{answering:?} answer");
    };
    let order = metallb_order(placement(3).first_ip, &placement(3).candidates);
    for node in 0..3 {
        let told = lab.explain(node);
        assert_eq!(told.owner, Some(name(owner)));
        assert_eq!((told.epoch, &told.cause), (1, &Some(Cause::First)));
        assert!(told.since.is_some_and(|since| since < lab.now));
        let names = told.candidates.iter().map(|candidate| &candidate.name);
        assert!(names.eq(order.iter().map(|(name, _)| name)));
        for candidate in told.candidates {
            let expected = if candidate.name == name(owner) {
                CandidateStanding::Owner
            } else {
                CandidateStanding::Ready
            };
            assert_eq!(candidate.standing, expected);
        }
    }
    lab.feed(owner, Input::Drain(true));
    lab.run(Duration::from_secs(1));
    let told = lab.explain((owner + 1) % 3);
    let drained = told
        .candidates
        .iter()
        .find(|candidate| candidate.name == name(owner));
    assert_eq!(drained.unwrap().standing, CandidateStanding::Draining);
    let by = name(owner);
    let why = Reason::Drain;
    let moved = Cause::HandedOver { by, why };
    assert_eq!((told.epoch, told.cause), (2, Some(moved.clone())));
    assert_eq!(told.history, [(name(owner), moved)]);
}

#[test]
fn explain_distinguishes_vips_of_other_nodes_from_unknown_ones() {
    let mut lab = Lab::new(3);
    let only = vec![(name(0), 0)];
    let elsewhere = vip(1);
    let mine = Placement {
        candidates: only,
        ..placement(3)
    };
    lab.feed(0, Input::Vips(vec![(elsewhere, Some(mine))]));
    lab.run(Duration::from_secs(2));
    let told = lab.nodes[1].agent.explain(elsewhere).unwrap();
    assert_eq!((told.owner, told.state), (Some(name(0)), None));
    assert_eq!(told.candidates, []);
    assert_eq!(lab.nodes[1].agent.explain(vip(2)), None);
}

#[test]
fn repeated_events_about_a_peer_are_reported_once_a_minute() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(2));
    lab.nodes[0].events.clear();
    let own = lab.nodes[0].agent.envelope(Body::WatchMe, None);
    let from = [endpoints(7).messages, endpoints(8).messages];
    for _ in 0..600 {
        for from in from {
            for bytes in [vec![0], own.clone()] {
                lab.feed(0, Input::Message { from, bytes });
            }
        }
        lab.run(Duration::from_millis(150));
    }
    let told = |event: Event| {
        let events = lab.nodes[0].events.iter();
        events.filter(|other| **other == event).count()
    };
    for from in from {
        assert_eq!(told(Event::Unreadable(from)), 2);
        assert_eq!(told(Event::NameTaken(from)), 2);
    }
}
