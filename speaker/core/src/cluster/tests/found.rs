//! Faults that the simulator once found, as schedules by hand.

use speaker_common::probe::FLAG_RENEWS;

use super::{super::peer::Vote, *};

/// What the node sends is lost, so no member replies to it. It reads that another one has given up a
/// third, and has given that one up itself.
#[test]
fn a_node_that_gets_no_replies_considers_nobody_down() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let now = lab.now;
    let agent = &mut lab.nodes[0].agent;
    let heard = agent.peers[&name(1)].watch.as_ref().unwrap().heard;
    let lost = agent.peers.get_mut(&name(2)).unwrap();
    lost.evidence.gone = true;
    lost.evidence.probed = true;
    let vote = Vote {
        probed: true,
        retractions: 0,
    };
    lost.evidence.votes.insert(name(1), vote);
    let mut hears = |heard| {
        let left = agent.peers.get_mut(&name(1)).unwrap();
        left.watch.as_mut().unwrap().heard = heard;
        agent.judge(now);
        !agent.peers[&name(2)].is_live()
    };
    assert!(!hears(None));
    assert!(hears(heard));
}

/// One node was cut off and considered the others down. When it is back, the agent of one of them
/// is restarting.
#[test]
fn a_joining_node_believes_members_about_other_members() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let owner = lab.answering()[0];
    let (back, third) = ((owner + 1) % 3, (owner + 2) % 3);
    lab.feed(owner, Input::Stop(Stop::Return(Duration::from_secs(60))));
    lab.run(Duration::from_millis(5));
    lab.away = [owner].into();
    let agent = &mut lab.nodes[back].agent;
    agent.end_life(LifeOver::Minority, agent.lease.life, lab.now);
    agent.mark_down(&name(owner), DownReason::Unreachable, lab.now);
    for _ in 0..100 {
        lab.run(Duration::from_millis(100));
        assert_eq!(lab.answering(), [owner]);
    }
    assert!(lab.nodes[back].agent.is_joined());
    assert!(lab.nodes[third].agent.is_joined());
}

#[test]
fn the_kernel_of_a_restarting_node_is_renewed_again_after_a_late_reply() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let owner = lab.answering()[0];
    let other = 1 - owner;
    lab.feed(owner, Input::Stop(Stop::Return(Duration::from_secs(60))));
    lab.run(Duration::from_millis(5));
    lab.away = [owner].into();
    let watched = lab.nodes[other].agent.peers.get_mut(&name(owner)).unwrap();
    watched.evidence.gone = true;
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.answering(), [owner]);
}

/// The other one's agent restarts, but its kernel, which was alone, answers.
#[test]
fn a_node_that_is_frozen_while_it_joins_asks_again_before_it_claims() {
    let mut lab = Lab::new(2);
    let (owner, other) = (0, 1);
    lab.away = [other].into();
    lab.run(Duration::from_secs(10));
    lab.nodes[other].answers.clear();
    assert_eq!(lab.answering(), [owner]);
    lab.feed(owner, Input::Stop(Stop::Return(Duration::from_secs(60))));
    lab.run(Duration::from_millis(5));
    lab.away = [owner].into();
    lab.restart(other, None);
    lab.feed(other, Input::Vips(vec![(VIP, Some(placement(2)))]));
    lab.feed(other, Input::Planned);
    lab.run(Duration::from_millis(1_200));
    // Not so long that its own lease would end.
    lab.now += Duration::from_millis(2_800);
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [owner]);
}

#[test]
fn two_nodes_that_start_answer_within_a_heartbeat() {
    let mut lab = Lab::new(2);
    lab.run(timing().heartbeat() / 2);
    assert_eq!(lab.answering().len(), 1);
}

#[test]
fn a_claim_completes_only_while_the_kernel_answers() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    lab.away = [1].into();
    lab.run(Duration::from_secs(2));
    assert!(lab.nodes[0].agent.lease.alone);
    lab.feed(0, Input::Vips(vec![(vip(1), Some(placement(1)))]));
    // The other node consents, and in the kernel its probe has ended the period alone.
    let (number, life) = (name(0).number(), lab.nodes[0].agent.lease.life);
    let round = *lab.nodes[0].agent.rounds.keys().next().unwrap();
    let other = &lab.nodes[1].agent;
    let probe = other.request(number, life, 1, FLAG_RENEWS, 0);
    let verdict = Body::Verdict {
        round,
        denied: Vec::new(),
        vouched: Vec::new(),
    };
    let bytes = other.envelope(verdict, None);
    lab.probe(1, 0, &probe, lab.ns(lab.now));
    let from = endpoints(1).messages;
    lab.feed(0, Input::Message { from, bytes });
    assert!(!lab.nodes[0].answers.contains(&vip(1)));
    lab.away.clear();
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.owners(vip(1)), [0]);
}

#[test]
fn a_node_that_loses_a_vip_stops_announcing_ownership() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let owner = lab.answering()[0];
    let (other, third) = ((owner + 1) % 3, (owner + 2) % 3);
    // A member has yet to be told when the VIP is lost to another node.
    lab.away = [third].into();
    let agent = &mut lab.nodes[owner].agent;
    agent.reassert(VIP, 5, lab.now);
    let origin = record::Origin::met(lab.now);
    let record = agent.record(VIP, lab.now);
    let holder = record::Holder {
        name: name(other),
        life: Life(7),
    };
    record.set(holder, 7, origin);
    agent.lose(VIP, &name(other));
    lab.run(Duration::from_millis(25));
    lab.away.clear();
    lab.run(Duration::from_millis(500));
    let known = lab.explain(third);
    assert_eq!((known.owner, known.epoch), (Some(name(owner)), 1));
}

#[test]
fn a_node_that_claims_constantly_keeps_its_lease() {
    let mut lab = Lab::new(1);
    for number in 2..100 {
        lab.feed(0, Input::Vips(vec![(vip(number), Some(placement(1)))]));
        lab.run(Duration::from_millis(50));
        assert_eq!(lab.owners(vip(number)), [0]);
    }
    let lapsed = |event: &Event| matches!(event, Event::LifeOver(_));
    assert!(!lab.nodes[0].events.iter().any(lapsed));
}

#[test]
fn an_owner_announces_its_vips_again_after_a_split() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let owner = lab.answering()[0];
    let apart = (owner + 1) % 3;
    lab.nodes[owner].announced.clear();
    // The others consider this one down, and it has taken the VIP.
    for by in [owner, (owner + 2) % 3] {
        let agent = &mut lab.nodes[by].agent;
        agent.mark_down(&name(apart), DownReason::Unreachable, lab.now);
    }
    lab.nodes[apart].answers.insert(VIP);
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.answering(), [owner]);
    assert!(!lab.nodes[owner].announced.is_empty());
    lab.nodes[owner].announced.clear();
    // An agent that restarts continues the same life.
    let adopted = lab.left_behind(apart);
    lab.restart(apart, Some(adopted));
    lab.run(Duration::from_secs(5));
    assert!(lab.nodes[owner].announced.is_empty());
}

/// A late probe has ended its time alone, and whoever joined then found it silent.
#[test]
fn a_new_agent_of_a_kernel_that_was_silent_owns_nothing() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(1));
    let owner = lab.answering()[0];
    let mut adopted = lab.left_behind(owner);
    adopted.lease.tenure = Tenure::Unarmed;
    let life = adopted.lease.life;
    lab.restart(owner, Some(adopted));
    assert!(lab.nodes[owner].lease.life > life.0);
    assert!(!lab.nodes[owner].answers.contains(&VIP));
}

#[test]
fn a_node_without_peers_first_listens_for_nodes_that_look_for_it() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(1));
    lab.away = [0].into();
    lab.run(Duration::from_secs(10));
    assert_eq!(lab.answering(), [1]);
    lab.away.clear();
    lab.start(0, Configured::default());
    for _ in 0..1_000 {
        assert_eq!(lab.answering(), [1]);
        lab.run(Duration::from_millis(1));
    }
    assert!(lab.nodes[0].agent.is_joined());
}

/// A VIP with all nodes as candidates, this one the best.
fn placement_with_best(best: usize, nodes: usize) -> Placement {
    let candidates = (0..nodes).map(|node| (name(node), i64::from(node == best)));
    Placement {
        candidates: candidates.collect(),
        ..placement(nodes)
    }
}

#[test]
fn a_withdrawn_claim_leaves_the_vip_to_others() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let vips = || Input::Vips(vec![(vip(1), Some(placement_with_best(0, 2)))]);
    lab.feed(1, vips());
    // The consent of the other node is lost.
    lab.nodes[0].agent.handle(vips(), lab.now);
    lab.obey(0);
    lab.loss = 1.0;
    lab.work();
    assert!(lab.nodes[1].agent.records[&vip(1)].is_owned_by(&name(0)));
    lab.feed(0, Input::Drain(true));
    lab.loss = 0.0;
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.owners(vip(1)), [1]);
}

#[test]
fn a_wrong_belief_about_the_owner_is_corrected() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let placement = || Some(placement_with_best(0, 2));
    lab.feed(0, Input::Vips(vec![(vip(1), placement())]));
    lab.feed(1, Input::Vips(vec![(vip(1), placement())]));
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.owners(vip(1)), [0]);
    let seat = lab.nodes[0].agent.seats.get_mut(&vip(1)).unwrap();
    seat.mine = seat::Mine::No;
    lab.nodes[0].agent.records.remove(&vip(1));
    lab.nodes[0].answers.remove(&vip(1));
    lab.feed(0, Input::Drain(true));
    // The two meet again.
    lab.nodes[0]
        .agent
        .peers
        .get_mut(&name(1))
        .unwrap()
        .handshake
        .restart(lab.now);
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.owners(vip(1)), [1]);
}

/// A node took all VIPs while it could not reach another one, whose kernel was alone and whose
/// agent is still away for an announced restart.
#[test]
fn a_kernel_back_without_its_agent_does_not_answer_beside_the_owner() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(1));
    lab.away = [1].into();
    lab.run(Duration::from_secs(10));
    lab.feed(0, Input::Stop(Stop::Return(Duration::from_secs(60))));
    lab.run(Duration::from_millis(5));
    lab.away = [0].into();
    lab.start(1, Configured::default());
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.answering(), [0, 1]);
    let reachable = Configured::at([endpoints(0).messages]);
    lab.feed(1, Input::Resolved(reachable));
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.answering(), [1]);
}

#[test]
fn a_returned_member_is_asked_about_claims_begun_in_its_absence() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let now = lab.now;
    lab.nodes[0].agent.on_pause(&name(1), now, now);
    // The third node's consent is missing.
    lab.away = [2].into();
    lab.feed(0, Input::Vips(vec![(vip(1), Some(placement(1)))]));
    assert!(!lab.nodes[1].agent.records.contains_key(&vip(1)));
    lab.nodes[1].agent.resend_card(now);
    lab.nodes[1].agent.card.version += 1;
    lab.run(Duration::from_millis(50));
    let asked = &lab.nodes[1].agent.records[&vip(1)];
    assert!(asked.is_owned_by(&name(0)));
}

#[test]
fn a_draining_node_answers_until_another_can() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let owner = lab.answering()[0];
    // No claim is complete without this node, until its lease is over.
    lab.away = [(owner + 1) % 3].into();
    lab.feed(owner, Input::Drain(true));
    for _ in 0..5_000 {
        lab.run(Duration::from_millis(1));
        assert_eq!(lab.answering().len(), 1, "after {:?}", lab.now - lab.origin);
    }
    assert_eq!(lab.answering(), [(owner + 2) % 3]);
}

#[test]
fn vips_taken_while_alone_are_left_to_a_restarting_member() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let owner = lab.answering()[0];
    let alone = (owner + 1) % 3;
    lab.feed(owner, Input::Stop(Stop::Return(Duration::from_secs(60))));
    lab.run(Duration::from_millis(5));
    lab.away = [owner].into();
    lab.loss = 1.0;
    lab.start(alone, Configured::default());
    while lab.nodes[alone].agent.owned().next().is_none() {
        lab.run(Duration::from_millis(10));
    }
    lab.loss = 0.0;
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.answering(), [owner]);
}
