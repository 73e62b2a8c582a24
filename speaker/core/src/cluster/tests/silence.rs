//! When a member is given up.

use super::{super::peer::Vote, *};

/// Six nodes, one of them, and a member that it does not watch.
fn unwatched() -> (Lab, usize, NodeName) {
    let mut lab = Lab::new(6);
    lab.run(Duration::from_secs(5));
    let unwatched = |at: usize| {
        let mut peers = lab.nodes[at].agent.peers.iter();
        let (name, _) = peers.find(|(_, peer)| peer.watch.is_none())?;
        Some((at, name.clone()))
    };
    let (at, member) = (0..6).find_map(unwatched).unwrap();
    (lab, at, member)
}

#[test]
fn a_member_that_asks_to_be_watched_may_be_alone_until_it_replies() {
    let (mut lab, at, member) = unwatched();
    let in_company = |lab: &Lab| {
        let agent = &lab.nodes[at].agent;
        agent.peers[&member].evidence.in_company.is_some()
    };
    assert!(in_company(&lab));
    let now = lab.now;
    lab.nodes[at].agent.on_watch_me(&member, now);
    assert!(!in_company(&lab));
    lab.run(Duration::from_millis(100));
    assert!(in_company(&lab));
}

#[test]
fn an_unwatched_member_is_given_up_on_the_word_of_two_watchers() {
    let (mut lab, at, member) = unwatched();
    let agent = &mut lab.nodes[at].agent;
    let watchers = agent.watchers_of(&member);
    let mut is_given_up = |voters: usize, probed: bool| {
        let vote = Vote {
            probed,
            retractions: 0,
        };
        let voters = watchers.iter().take(voters);
        let evidence = &mut agent.peers.get_mut(&member).unwrap().evidence;
        evidence.votes = voters.map(|voter| (voter.clone(), vote)).collect();
        agent.judge(lab.now);
        agent.peers[&member].evidence.gone
    };
    assert!(!is_given_up(1, true));
    assert!(!is_given_up(2, false), "they rely on others themselves");
    assert!(is_given_up(2, true));
}

/// Two nodes, of which the second is lost for good just after it has replied to the first, and that
/// time.
fn lost() -> (Lab, Instant) {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let replied = company(&lab).unwrap();
    while company(&lab) == Some(replied) {
        lab.run(Duration::from_millis(1));
    }
    lab.deaf = Some(1);
    lab.away = [1].into();
    let replied = company(&lab).unwrap();
    (lab, replied)
}

fn company(lab: &Lab) -> Option<Instant> {
    lab.nodes[0].agent.peers[&name(1)].evidence.in_company
}

fn stall(lab: &mut Lab, until: Instant) {
    lab.away.insert(0);
    lab.run(until - lab.now);
    lab.away.remove(&0);
}

/// It does not believe itself alone for 200 ms, and is probed after 100 and 133 ms.
#[test]
fn a_node_that_stalls_doubts_that_a_lost_member_was_in_company_unless_it_tried_to_reach_it() {
    for (begins, ends, expected) in [
        (10, 190, true),
        (110, 190, true),
        (10, 230, false),
        (110, 230, false),
        (140, 230, true),
        (300, 500, true),
    ] {
        let (mut lab, replied) = lost();
        let at = |after| replied + Duration::from_millis(after);
        lab.run(at(begins) - lab.now);
        stall(&mut lab, at(ends));
        lab.run(Duration::from_millis(50));
        assert_eq!(company(&lab).is_some(), expected, "{begins} to {ends} ms");
    }
}

#[test]
fn a_reply_read_after_a_long_stall_says_nothing_about_company() {
    for (stalled, expected) in [(100, true), (230, false)] {
        let (mut lab, _) = lost();
        let (sent, number) = (lab.now, name(1).number());
        let agent = &mut lab.nodes[0].agent;
        let member = agent.peers.get_mut(&name(1)).unwrap();
        member.watch.as_mut().unwrap().sent(1, sent);
        let life = member.life;
        let probe = agent.request(number, life, 1, 0, 0);
        let reply = lab.answer(1, &probe, lab.ns(sent)).unwrap();
        stall(&mut lab, sent + Duration::from_millis(stalled));
        lab.feed(0, Input::Probe(reply));
        assert_eq!(company(&lab), expected.then_some(sent), "{stalled} ms");
    }
}

#[test]
fn a_lost_member_that_asked_in_vain_to_be_watched_may_have_been_alone() {
    let (mut lab, replied) = lost();
    let bytes = lab.nodes[1].agent.envelope(Body::WatchMe, None);
    let from = endpoints(1).messages;
    stall(&mut lab, replied + Duration::from_millis(190));
    lab.run(Duration::from_millis(1));
    assert_eq!(company(&lab), Some(replied));
    lab.feed(0, Input::Message { from, bytes });
    assert_eq!(company(&lab), None);
}
