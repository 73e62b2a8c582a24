//! What nodes know about each other's links.

use super::*;

/// The links of a node on a trunk: each VLAN with subnets of both families.
fn trunk(vlans: u8) -> Vec<LinkInfo> {
    let link = |vlan: u8| LinkInfo {
        name: format!("enp129s0f0.{vlan}"),
        mac: [2, 0, 0, 0, 0, vlan],
        up: true,
        subnets: vec![
            ([10, 1, vlan, 0].into(), 24),
            ([0xfd00, 0, 0, u16::from(vlan), 0, 0, 0, 0].into(), 64),
        ],
        obstacle: None,
    };
    (0..vlans).map(link).collect()
}

impl Lab {
    fn links_of(&self, node: usize, member: usize) -> Vec<LinkInfo> {
        let mut members = self.nodes[node].agent.members();
        let found = members.find(|it| it.name == name(member));
        found.unwrap().links
    }
}

#[test]
fn all_links_of_a_trunk_are_known_despite_message_loss() {
    for loss in [0.0, 0.3] {
        let mut lab = Lab::new(3);
        lab.run(Duration::from_secs(2));
        lab.loss = loss;
        for links in [trunk(40), trunk(64), trunk(3), trunk(0)] {
            lab.feed(0, Input::Links(links.clone()));
            lab.run(Duration::from_secs(10));
            for node in [1, 2] {
                assert_eq!(lab.links_of(node, 0), links);
            }
        }
    }
}

#[test]
fn a_node_claims_nothing_before_it_knows_the_links_of_the_others() {
    let mut lab = Lab::new(2);
    lab.feed(0, Input::Links(trunk(40)));
    lab.run(Duration::from_secs(2));
    lab.restart(1, None);
    while !lab.nodes[1].events.contains(&Event::Joined) {
        lab.run(Duration::from_millis(1));
    }
    assert_eq!(lab.links_of(1, 0), trunk(40));
}

#[test]
fn unchanged_links_are_not_sent_again() {
    let mut lab = Lab::new(3);
    lab.feed(0, Input::Links(trunk(40)));
    lab.run(Duration::from_secs(5));
    let versions: Vec<u64> = lab
        .nodes
        .iter()
        .map(|node| node.agent.members_version())
        .collect();
    lab.messages = 0;
    lab.run(Duration::from_secs(60));
    assert_eq!(lab.messages, 0);
    let still: Vec<u64> = lab
        .nodes
        .iter()
        .map(|node| node.agent.members_version())
        .collect();
    assert_eq!(still, versions);
}
