//! The cause and time of ownership survive the agent.

use super::*;

/// What is known of the VIP and must not be forgotten.
fn known(told: &Explanation) -> (Option<NodeName>, u64, Option<Cause>) {
    (told.owner.clone(), told.epoch, told.cause.clone())
}

impl Lab {
    /// Three nodes that agree on the owner of the VIP, to which it was moved a minute ago.
    fn moved() -> (Self, usize) {
        let mut lab = Self::new(3);
        lab.run(Duration::from_secs(5));
        let to = (lab.answering()[0] + 1) % 3;
        let vip = VIP;
        lab.feed(0, Input::Move { vip, to: name(to) });
        lab.run(Duration::from_secs(60));
        assert_eq!(lab.answering(), [to]);
        (lab, to)
    }

    fn agent_restarts(&mut self, node: usize) {
        let adopted = self.left_behind(node);
        self.restart(node, Some(adopted));
        let placement = placement(self.nodes.len());
        self.feed(node, Input::Vips(vec![(VIP, Some(placement))]));
        self.feed(node, Input::Planned);
        self.run(Duration::from_secs(5));
    }
}

#[test]
fn a_restarted_agent_learns_the_cause_of_its_ownership() {
    let (mut lab, owner) = Lab::moved();
    let before = lab.explain(owner);
    assert!(matches!(before.cause, Some(Cause::HandedOver { .. })));
    lab.agent_restarts(owner);
    for node in 0..3 {
        let after = lab.explain(node);
        assert_eq!(known(&after), known(&before));
        let age = lab.now - after.since.unwrap();
        assert!((64..66).contains(&age.as_secs()), "{age:?}");
    }
}

#[test]
fn a_joining_node_learns_the_cause_of_ownership() {
    let (mut lab, owner) = Lab::moved();
    let before = lab.explain(owner);
    for node in (0..3).filter(|node| *node != owner) {
        lab.agent_restarts(node);
        let after = lab.explain(node);
        assert_eq!(known(&after), known(&before));
        assert!(lab.now - after.since.unwrap() > Duration::from_secs(60));
    }
}

#[test]
fn pages_about_many_vips_fit_into_messages() {
    let mut lab = Lab::new(3);
    let vips = |of: &[usize]| {
        let vips = (0..500).map(|at| {
            let candidates = of.iter().map(|node| (name(*node), 0)).collect();
            let placement = Placement {
                candidates,
                ..placement(3)
            };
            (vip(at), Some(placement))
        });
        Input::Vips(vips.collect())
    };
    for of in [&[0][..], &[1], &[0, 1, 2]] {
        for node in 0..3 {
            lab.feed(node, vips(of));
        }
        lab.run(Duration::from_secs(5));
    }
    lab.restart(2, None);
    lab.feed(2, vips(&[0, 1, 2]));
    lab.feed(2, Input::Planned);
    lab.run(Duration::from_secs(5));
    for at in 0..500 {
        let address = vip(at);
        let [owners, told] = [1, 2].map(|node| lab.nodes[node].agent.explain(address).unwrap());
        assert_eq!(owners.owner, Some(name(1)));
        assert_ne!(owners.cause, Some(Cause::Met));
        assert_eq!(known(&told), known(&owners));
    }
}
