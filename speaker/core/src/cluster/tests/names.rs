//! Nodes that are configured by name, and where they turn out to be.

use super::*;

/// The nodes with these numbers; none: a name that cannot be resolved.
fn told(peers: &[Option<usize>]) -> Configured {
    let addresses = |peer: &Option<usize>| peer.map(|at| endpoints(at).messages);
    let peers = peers
        .iter()
        .map(|peer| addresses(peer).into_iter().collect());
    peers.collect::<Configured>()
}

impl Lab {
    /// How long it takes until a node answers.
    fn answers_after(&mut self, node: usize) -> Duration {
        let begun = self.now;
        while !self.answering().contains(&node) {
            self.run(Duration::from_millis(10));
            assert!(self.now < begun + Duration::from_secs(60), "it never does");
        }
        self.now - begun
    }
}

#[test]
fn an_unresolved_name_is_awaited_like_a_silent_node() {
    let [silent, nameless, nobody] = [&[Some(1)][..], &[None], &[]].map(|peers| {
        let mut lab = Lab::new(2);
        lab.away = [1].into();
        lab.start(0, told(peers));
        lab.answers_after(0)
    });
    assert_eq!(nameless, silent);
    assert_eq!(nobody, Timing::LISTEN + Duration::from_millis(10));
    assert!(silent > Duration::from_secs(2), "{silent:?}");
}

#[test]
fn a_name_resolved_during_discovery_does_not_move_vips() {
    let mut lab = Lab::new(2);
    lab.nodes[0].answers.clear();
    lab.away = [0].into();
    lab.start(1, told(&[]));
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.answering(), [1]);
    lab.away.clear();
    lab.start(0, told(&[None]));
    lab.run(Duration::from_secs(1));
    lab.feed(0, Input::Resolved(told(&[Some(1)])));
    for _ in 0..500 {
        assert_eq!(lab.answering(), [1]);
        lab.run(Duration::from_millis(10));
    }
    let is_up = |event: &Event| matches!(event, Event::MemberUp(_));
    assert!(lab.nodes[0].events.iter().any(is_up));
}

#[test]
fn nodes_with_late_names_become_one_cluster() {
    let mut lab = Lab::new(2);
    for node in 0..2 {
        lab.start(node, told(&[None]));
    }
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [0, 1], "neither knows of the other");
    lab.feed(0, Input::Resolved(told(&[Some(1)])));
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering().len(), 1);
}

#[test]
fn under_the_majority_policy_an_unresolved_name_is_a_missing_node() {
    for (peers, expect) in [(&[None, None][..], &[][..]), (&[], &[0])] {
        let mut lab = Lab::new(1);
        let settings = Settings::new(Partition::Majority);
        lab.start_with(0, told(peers), settings);
        lab.run(Duration::from_secs(10));
        assert_eq!(lab.answering(), expect);
    }
}

#[test]
fn a_renamed_node_counts_once_towards_the_majority() {
    let mut lab = Lab::new(3);
    let settings = Settings::new(Partition::Majority);
    lab.start_with(0, told(&[Some(1), Some(2)]), settings);
    lab.run(Duration::from_secs(5));
    let agent = &mut lab.nodes[0].agent;
    agent.mark_down(&name(2), DownReason::Unreachable, lab.now);
    let (new, card) = (NodeName::from("new"), agent.peers[&name(2)].card.clone());
    let peer = || Peer::new(&new, card, Life(1), 1, lab.now);
    agent.peers.get_or_insert_with(&new, peer);
    agent.admit(&new, Life(1), lab.now);
    // Two of three are left.
    agent.mark_down(&name(1), DownReason::Unreachable, lab.now);
    agent.count_nodes();
    assert!(agent.has_majority(lab.now));
}
