//! Requested moves, of many VIPs and on a network that loses messages.

use super::*;

const VIPS: usize = 300;

/// Three nodes that may own any of many VIPs; the first owns all of them.
fn lopsided() -> Lab {
    let mut lab = Lab::new(3);
    for node in 0..3 {
        lab.feed(node, Input::Vips(vec![(VIP, None)]));
    }
    for candidates in [1, 3] {
        let vips = (0..VIPS).map(|at| (vip(at), Some(placement(candidates))));
        let vips: Vec<_> = vips.collect();
        for node in 0..3 {
            lab.feed(node, Input::Vips(vips.clone()));
        }
        lab.run(Duration::from_secs(2));
    }
    assert_eq!(lab.loads(), [VIPS, 0, 0]);
    lab
}

impl Lab {
    fn loads(&self) -> Vec<usize> {
        let mut loads = vec![0; self.nodes.len()];
        for at in 0..VIPS {
            let owners = self.owners(vip(at));
            let [owner] = owners[..] else {
                panic!("{owners:?} answer for {}", vip(at));
            };
            loads[owner] += 1;
        }
        loads
    }
}

#[test]
fn any_node_can_spread_vips_evenly() {
    for asked in 0..3 {
        let mut lab = lopsided();
        lab.feed(asked, Input::Rebalance);
        lab.run(Duration::from_secs(2));
        assert_eq!(lab.loads(), [VIPS / 3; 3]);
    }
}

#[test]
fn lost_move_messages_are_repeated() {
    for (asked, seed) in (0..3).flat_map(|asked| (0..3).map(move |seed| (asked, seed))) {
        let mut lab = lopsided();
        lab.rng = Rng::with_seed(seed);
        lab.loss = 0.3;
        lab.feed(asked, Input::Rebalance);
        lab.run(Duration::from_secs(20));
        lab.loss = 0.0;
        lab.run(Duration::from_secs(2));
        assert_eq!(lab.loads(), [VIPS / 3; 3]);
    }
}

#[test]
fn a_move_survives_a_total_loss_of_messages() {
    let mut lab = lopsided();
    lab.loss = 1.0;
    let (moved, to) = (vip(7), name(2));
    lab.feed(1, Input::Move { vip: moved, to });
    lab.run(Duration::from_secs(2));
    lab.loss = 0.0;
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.owners(moved), [2]);
    assert_eq!(lab.loads(), [VIPS - 1, 0, 1]);
}

#[test]
fn few_of_many_vips_are_offered_at_once() {
    let mut lab = lopsided();
    lab.loss = 1.0;
    lab.feed(0, Input::Rebalance);
    let offered = |seat: &&Seat| matches!(seat.mine, seat::Mine::Offered(..));
    let seats = lab.nodes[0].agent.seats.values();
    assert_eq!(seats.filter(offered).count(), 64);
}

#[test]
fn an_impossible_move_is_abandoned_and_reported() {
    let mut lab = lopsided();
    lab.loss = 1.0;
    let (vip, to) = (vip(7), name(2));
    let refused = Event::MoveRefused(vip, to.clone());
    lab.feed(1, Input::Move { vip, to });
    lab.run(Duration::from_secs(4));
    assert!(!lab.nodes[1].events.contains(&refused));
    lab.run(Duration::from_secs(2));
    assert!(lab.nodes[1].events.contains(&refused));
    lab.loss = 0.0;
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.loads(), [VIPS, 0, 0]);
}

#[test]
fn a_stopping_agent_waits_for_no_move() {
    let mut lab = lopsided();
    lab.loss = 1.0;
    lab.feed(1, Input::Stop(Stop::Return(Duration::from_secs(10))));
    let (vip, to) = (vip(7), name(2));
    lab.feed(1, Input::Move { vip, to });
    lab.run(Duration::from_millis(1));
    assert!(lab.nodes[1].agent.poll_timeout() > Some(lab.now));
}

#[test]
fn a_vip_moved_on_request_stays_across_agent_restarts() {
    let mut lab = Lab::new(2);
    lab.run(Duration::from_secs(5));
    let owner = lab.answering()[0];
    let other = 1 - owner;
    lab.feed(
        owner,
        Input::Move {
            vip: VIP,
            to: name(other),
        },
    );
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.answering(), [other]);
    let adopted = lab.left_behind(other);
    lab.restart(other, Some(adopted));
    for node in 0..2 {
        lab.nodes[node].agent.failback = Failback::Immediate;
    }
    lab.feed(other, Input::Vips(vec![(VIP, Some(placement(2)))]));
    lab.feed(other, Input::Planned);
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [other]);
}
