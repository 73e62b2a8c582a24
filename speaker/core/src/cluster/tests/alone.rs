//! A node alone, and agents that come and go.

use super::*;

#[test]
fn a_lone_node_answers_and_announces_at_once() {
    let lab = Lab::new(1);
    assert_eq!(lab.answering(), [0]);
    assert_eq!(lab.nodes[0].announced, [VIP]);
}

#[test]
fn a_node_claims_nothing_before_it_knows_which_nodes_exist() {
    let mut lab = Lab::new(2);
    let config = Config {
        peers: None,
        ..config(0, 0, None)
    };
    lab.nodes.truncate(1);
    lab.nodes[0].agent = Cluster::new(config, timing(), lab.now);
    lab.obey(0);
    lab.feed(0, Input::Vips(vec![(VIP, Some(placement(1)))]));
    lab.feed(0, Input::Planned);
    lab.run(Duration::from_secs(5));
    assert!(lab.answering().is_empty());
    lab.feed(0, Input::Peers(Configured::default()));
    assert_eq!(lab.answering(), [0]);
}

#[test]
fn a_lone_node_needs_no_renewal() {
    let mut lab = Lab::new(1);
    lab.run(Duration::from_secs(20));
    assert_eq!(lab.answering(), [0]);
    assert_eq!(lab.kernel(0).peers_left, None);
    assert!(lab.nodes[0].agent.lease.alone);
}

#[test]
fn a_lone_nodes_next_agent_continues_without_a_gap() {
    let mut lab = Lab::new(1);
    lab.run(Duration::from_secs(5));
    // The agent is gone for two seconds; the kernel is left as it was.
    lab.now += Duration::from_secs(2);
    assert_eq!(lab.answering(), [0]);
    let adopted = lab.left_behind(0);
    lab.restart(0, Some(adopted));
    assert_eq!(lab.answering(), [0]);
    lab.run(Duration::from_secs(5));
    // The intent takes its time.
    assert_eq!(lab.answering(), [0]);
    lab.feed(0, Input::Vips(vec![(VIP, Some(placement(1)))]));
    lab.feed(0, Input::Planned);
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [0]);
    assert_eq!(lab.explain(0).cause, Some(Cause::Adopted));
}

#[test]
fn a_node_that_watches_nobody_does_not_believe_itself_alone() {
    let mut lab = Lab::new(50);
    lab.run(Duration::from_secs(10));
    let agents = || lab.nodes.iter().map(|node| &node.agent);
    let watches = |agent: &Cluster| agent.peers.values().any(|peer| peer.watch.is_some());
    assert!(!agents().all(watches));
    assert!(!agents().any(|agent| agent.lease.alone));
}

#[test]
fn an_agent_with_less_frequent_heartbeats_is_not_considered_dead() {
    let mut lab = Lab::new(2);
    let settings = Settings {
        probe_interval: Duration::from_millis(300),
        suspect_after: Duration::from_millis(700),
        peers_lease: Duration::from_millis(900),
        take_over_after: Duration::from_millis(910),
        ..Settings::new(Partition::Available)
    };
    lab.start_with(1, Configured::at([endpoints(0).messages]), settings);
    lab.run(Duration::from_secs(5));
    for _ in 0..1_000 {
        lab.run(Duration::from_millis(1));
        assert!(!lab.nodes[0].agent.lease.alone);
    }
}

#[test]
fn of_two_nodes_one_keeps_answering_while_the_others_agent_restarts() {
    for away_ms in (10..400).step_by(10) {
        let mut lab = Lab::new(2);
        lab.run(Duration::from_secs(5));
        let owner = lab.answering();
        let other = 1 - owner[0];
        lab.feed(other, Input::Stop(Stop::Return(Duration::from_secs(60))));
        lab.run(Duration::from_millis(5));
        lab.away = [other].into();
        lab.run(Duration::from_millis(away_ms));
        lab.away.clear();
        let adopted = lab.left_behind(other);
        lab.restart(other, Some(adopted));
        lab.feed(other, Input::Vips(vec![(VIP, Some(placement(2)))]));
        lab.feed(other, Input::Planned);
        for _ in 0..200 {
            lab.run(Duration::from_millis(5));
            assert_eq!(lab.answering(), owner, "{away_ms} ms away");
        }
    }
}

/// Runs until a node believes itself alone.
fn run_until_alone(lab: &mut Lab, node: usize) {
    let end = lab.now + Duration::from_secs(1);
    while !lab.nodes[node].agent.lease.alone {
        assert!(lab.now < end, "it never does");
        lab.run(Duration::from_millis(1));
    }
}

/// Of eight nodes, four watch each. The others rely on its being in company.
#[test]
fn a_node_asks_every_member_several_times_before_it_believes_itself_alone() {
    let mut lab = Lab::new(8);
    lab.run(Duration::from_secs(5));
    lab.asked.clear();
    lab.deaf = Some(0);
    run_until_alone(&mut lab, 0);
    let asked: Vec<u32> = lab.asked.into_values().collect();
    assert!(
        asked.len() == 7 && asked.iter().all(|times| *times >= 3),
        "{asked:?}"
    );
}

/// What it asked before the stall may have been answered in vain.
#[test]
fn a_node_that_stalled_asks_again_before_it_believes_itself_alone() {
    for begins in (0..210).step_by(30) {
        let mut lab = Lab::new(2);
        lab.run(Duration::from_secs(5));
        let owner = lab.owner();
        lab.deaf = Some(owner);
        let since_renewal = |lab: &Lab| {
            let left = lab.kernel(owner).peers_left.unwrap();
            timing().settings().peers_lease - left
        };
        while since_renewal(&lab) < Duration::from_millis(begins) {
            lab.run(Duration::from_millis(1));
        }
        lab.away = [owner].into();
        lab.run(Duration::from_millis(90));
        lab.away.clear();
        lab.asked.clear();
        run_until_alone(&mut lab, owner);
        let asked = lab.asked[&(owner, 1 - owner)];
        assert!(asked >= 3, "stalled after {begins} ms: {asked}");
        assert!(lab.answering().contains(&owner), "{begins} ms");
    }
}

/// A node that hears nothing asks to be watched. It renews nobody.
#[test]
fn a_request_to_be_watched_is_no_company() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let owner = lab.owner();
    lab.deaf = Some(1 - owner);
    for _ in 0..1_000 {
        lab.run(Duration::from_millis(1));
        assert!(lab.answering().contains(&owner), "{:?}", lab.asked);
    }
    assert!(lab.asked[&(1 - owner, owner)] >= 3);
}
