//! Claims that meet, or fail half-way.

use super::{super::order::weight, *};

/// A Service's first IP differs between two nodes' intents. By its own, each is the better candidate
/// and claims at once; or the worse one, and claims when the other has not.
#[test]
fn nodes_that_disagree_about_the_first_ip_agree_on_the_owner() {
    let best = |ip| (0..2).min_by_key(|node| weight(&name(*node), vip(ip)));
    let [first, second] = [0, 1].map(|node| (10..).find(|ip| best(*ip) == Some(node)).unwrap());
    for first_ips in [[first, second], [second, first]] {
        let mut lab = Lab::new(2);
        lab.run(Duration::from_secs(5));
        for (node, ip) in first_ips.into_iter().enumerate() {
            let first_ip = vip(ip);
            let placement = Placement {
                first_ip,
                ..placement(2)
            };
            let vips = Input::Vips(vec![(vip(1), Some(placement))]);
            lab.nodes[node].agent.handle(vips, lab.now);
        }
        lab.obey(0);
        lab.obey(1);
        lab.work();
        lab.run(Duration::from_secs(5));
        assert_eq!(lab.owners(vip(1)).len(), 1, "{first_ips:?}");
    }
}

/// The owner consents and stops answering, but before the claimant learns that, it gives up all its
/// claims: the agent of a member that it has yet to meet in its new life restarts.
#[test]
fn a_vip_whose_owner_consented_to_a_claim_that_was_given_up_is_owned_again() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let owner = lab.owner();
    let [claimant, third] = [1, 2].map(|more| (owner + more) % 3);
    let to = name(claimant);
    let agent = &mut lab.nodes[owner].agent;
    agent.handle(Input::Move { vip: VIP, to }, lab.now);
    lab.obey(owner);
    while lab.answering() == [owner] {
        let (node, input) = lab.inputs.pop_front().unwrap();
        lab.nodes[node].agent.handle(input, lab.now);
        lab.obey(node);
    }
    lab.inputs.clear();
    let agent = &mut lab.nodes[claimant].agent;
    let member = agent.peers.get_mut(&name(third)).unwrap();
    member.handshake.restart(lab.now);
    agent.on_pause(&name(third), lab.now, lab.now);
    // Its next agent knows nothing of the claim.
    let agent = &mut lab.nodes[third].agent;
    agent.records.clear();
    agent.card.version += 1;
    agent.resend_card(lab.now);
    lab.run(Duration::from_secs(10));
    assert_eq!(lab.answering().len(), 1);
}

/// All others consented to its claim, and it gave that up before it was drained.
#[test]
fn a_drained_node_that_does_not_own_what_others_believe_it_does_is_asked() {
    let mut lab = Lab::new(3);
    lab.run(Duration::from_secs(5));
    let drained = lab.owner();
    lab.feed(drained, Input::Drain(true));
    for node in 0..3 {
        let agent = &mut lab.nodes[node].agent;
        let holder = agent.peers.get(&name(drained)).map(|peer| record::Holder {
            name: name(drained),
            life: peer.life,
        });
        let record = agent.record(vip(1), lab.now);
        record.epoch = 1;
        record.owner = holder;
        lab.feed(node, Input::Vips(vec![(vip(1), Some(placement(3)))]));
    }
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.owners(vip(1)).len(), 1);
}
