//! What a node does about what it sees on the wire.

use super::*;

impl Lab {
    /// The result of the one check of `VIP` that a node has requested.
    #[track_caller]
    fn checked(&mut self, at: usize, occupancy: Occupancy) {
        assert_eq!(std::mem::take(&mut self.nodes[at].checked), [VIP]);
        self.feed(
            at,
            Input::Checked {
                vip: VIP,
                occupancy,
            },
        );
    }

    fn silence(&self, at: usize) -> Option<Silence> {
        match self.explain(at).state? {
            VipState::Silent(silence) => Some(silence),
            VipState::Answer { .. } | VipState::Suppress { .. } => None,
        }
    }
}

#[test]
fn a_vip_that_cannot_be_checked_does_not_count_as_in_use() {
    let mut lab = Lab::new(1);
    let config = Config {
        check_first: true,
        ..config(0, 0, None)
    };
    lab.nodes[0].answers.clear();
    lab.nodes[0].agent = Cluster::new(config, timing(), lab.now);
    lab.obey(0);
    lab.feed(0, Input::Vips(vec![(VIP, Some(placement(1)))]));
    lab.feed(0, Input::Planned);
    lab.run(Duration::from_secs(1));
    for _ in 0..2 {
        lab.checked(0, Occupancy::Unknown);
        assert_eq!(lab.silence(0), Some(Silence::Vacant));
        lab.run(Duration::from_millis(900));
        assert!(lab.nodes[0].checked.is_empty(), "too early");
        lab.run(Duration::from_millis(200));
    }
    lab.checked(0, Occupancy::InUse);
    assert_eq!(lab.silence(0), Some(Silence::InUse));
    lab.run(Duration::from_millis(10_100));
    lab.checked(0, Occupancy::Free);
    assert_eq!(lab.answering(), [0]);
}

/// Of nodes that cannot reach each other, the one that should yield first checks that the other one
/// answers.
#[test]
fn an_owner_that_cannot_check_the_wire_does_not_yield() {
    let mut lab = Lab::new(1);
    let claims = |lab: &mut Lab, by: usize| {
        let by = Claimant::Node(name(by));
        lab.feed(0, Input::WireClaim { vip: VIP, by });
    };
    // The first in hash order need not be checked.
    let other = (1..20).find(|by| {
        claims(&mut lab, *by);
        !lab.nodes[0].checked.is_empty()
    });
    assert!(other.is_some(), "it yields to nobody");
    for _ in 0..2 {
        lab.checked(0, Occupancy::Unknown);
        assert_eq!(lab.answering(), [0]);
        lab.run(Duration::from_millis(900));
        assert!(lab.nodes[0].checked.is_empty(), "too early");
        lab.run(Duration::from_millis(200));
    }
    lab.checked(0, Occupancy::InUse);
    assert!(lab.answering().is_empty());
    assert_eq!(lab.silence(0), Some(Silence::InUse));
}

/// What one claims in between does not make the owner forget what it is about to find out.
#[test]
fn an_owner_yields_to_two_that_claim_in_turn() {
    let mut lab = Lab::new(1);
    let own = order::weight(&name(0), VIP);
    let before_it = |by: &usize| order::weight(&name(*by), VIP) < own;
    let others: Vec<usize> = (1..100).filter(before_it).take(2).collect();
    for by in others.repeat(3) {
        let by = Claimant::Node(name(by));
        lab.feed(0, Input::WireClaim { vip: VIP, by });
    }
    lab.checked(0, Occupancy::InUse);
    assert!(lab.answering().is_empty());
}

/// It could hear the other node but not be heard: what the wire showed then says nothing of later
/// owners.
#[test]
fn a_node_that_conceded_a_vip_takes_it_over_from_a_member_at_once() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let before = lab.owner();
    let owner = 1 - before;
    for (at, lost) in [(before, owner), (owner, before)] {
        let agent = &mut lab.nodes[at].agent;
        agent.mark_down(&name(lost), DownReason::Unreachable, lab.now);
    }
    let by = Claimant::Node(name(owner));
    lab.feed(before, Input::WireClaim { vip: VIP, by });
    lab.checked(before, Occupancy::InUse);
    lab.run(Duration::from_secs(4));
    assert_eq!(lab.answering(), [owner]);

    lab.away = [owner].into();
    lab.run(Duration::from_secs(4));
    // Its kernel has fallen silent.
    lab.nodes[owner].answers.clear();
    assert_eq!(lab.answering(), [before]);
}

/// With kube-proxy in IPVS mode, a member's kernel has the VIP too, and may send from it.
#[test]
fn an_owner_corrects_what_a_member_claims() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let owner = lab.owner();
    let by = Claimant::Node(name(1 - owner));
    lab.feed(owner, Input::WireClaim { vip: VIP, by });
    assert_eq!(lab.nodes[owner].defended, [VIP]);
    assert_eq!(lab.answering(), [owner]);
}
