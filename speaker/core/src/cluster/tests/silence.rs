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
    let in_company = |lab: &Lab| lab.nodes[at].agent.peers[&member].evidence.in_company;
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
