//! VIPs that belong together, and nodes that disagree on which do.

use super::*;

#[test]
fn a_node_that_declines_for_lack_of_news_is_offered_the_vip_again() {
    let mut lab = Lab::new(2);
    for node in 0..2 {
        let config = Config {
            failback: Failback::Immediate,
            ..config(node, 2, None)
        };
        lab.nodes[node].agent = Cluster::new(config, timing(), lab.now);
        lab.nodes[node].answers.clear();
        lab.obey(node);
    }
    let intent = |it: Placement| Input::Vips(vec![(VIP, Some(it))]);
    for node in 0..2 {
        lab.feed(node, intent(placement(2)));
        lab.feed(node, Input::Planned);
    }
    lab.run(Duration::from_secs(5));
    let better = lab.answering()[0];
    let worse = 1 - better;
    let only_worse = Placement {
        candidates: vec![(name(worse), 0)],
        ..placement(2)
    };
    for node in 0..2 {
        lab.feed(node, intent(only_worse.clone()));
    }
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [worse]);
    lab.feed(worse, intent(placement(2)));
    lab.run(Duration::from_millis(200));
    lab.feed(better, intent(placement(2)));
    lab.run(Duration::from_secs(3));
    assert_eq!(lab.answering(), [better]);
}

/// Which VIPs belong together is a matter of configuration, and one node may have yet to hear of a
/// change: two nodes still never own the same VIP.
#[test]
fn nodes_that_disagree_about_groups_never_own_the_same_vip() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let owner = lab.owner();
    let other = 1 - owner;
    // The VIP should be with `first`, which its owner does not know.
    let first = vip(1);
    let changes = || {
        let follower = (
            VIP,
            Some(Placement {
                follows: Some(first),
                ..placement(2)
            }),
        );
        Input::Vips(vec![(first, Some(placement(2))), follower])
    };
    lab.feed(other, changes());
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.owners(first), [other]);
    assert_eq!(lab.owners(VIP), [owner]);
    lab.feed(owner, changes());
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.owners(first), [other]);
    assert_eq!(lab.owners(VIP), [other]);
}

#[test]
fn a_new_vip_goes_to_the_owner_of_its_group() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let first = lab.answering()[0];
    for to in (0..3).filter(|node| *node != first) {
        let (vip, to) = (VIP, name(to));
        lab.feed(first, Input::Move { vip, to });
        lab.run(Duration::from_secs(2));
    }
    let owner = lab.answering()[0];
    // A new VIP that leads, and a new one that follows.
    let (leader, third) = (vip(1), vip(2));
    for node in 0..3 {
        let follower = Placement {
            follows: Some(leader),
            ..placement(3)
        };
        lab.feed(
            node,
            Input::Vips(vec![
                (leader, Some(placement(3))),
                (VIP, Some(follower.clone())),
                (third, Some(follower)),
            ]),
        );
    }
    lab.run(Duration::from_secs(2));
    for vip in [leader, VIP, third] {
        assert_eq!(lab.owners(vip), [owner], "{vip}");
    }
    lab.feed(owner, Input::Drain(true));
    lab.run(Duration::from_secs(2));
    let next = lab.answering();
    assert_ne!(next, [owner]);
    for vip in [leader, third] {
        assert_eq!(lab.owners(vip), next, "{vip}");
    }
}

/// Each node knows a different first VIP, which the other one owns.
#[test]
fn a_vip_does_not_go_back_and_forth_while_nodes_disagree_about_groups() {
    let mut lab = Lab::new(2);
    for node in 0..2 {
        let first = vip(1 + node);
        let only_there = Placement {
            candidates: vec![(name(1 - node), 0)],
            ..placement(2)
        };
        let follower = Placement {
            follows: Some(first),
            ..placement(2)
        };
        let others = Placement {
            candidates: vec![(name(node), 0)],
            ..placement(2)
        };
        let vips = vec![
            (first, Some(only_there)),
            (vip(2 - node), Some(others)),
            (vip(3), Some(follower)),
        ];
        lab.feed(node, Input::Vips(vips));
    }
    lab.run(Duration::from_secs(10));
    let announced = lab.nodes.iter().flat_map(|node| &node.announced);
    let times = announced.filter(|announced| **announced == vip(3)).count();
    assert!((5..15).contains(&times), "{times}");
}
