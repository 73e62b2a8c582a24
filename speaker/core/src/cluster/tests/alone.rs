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
        lab.away = Some(other);
        lab.run(Duration::from_millis(away_ms));
        lab.away = None;
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
