//! Claims by nodes that joined while a member's agent restarts.

use super::*;

/// Four nodes. The owner's agent restarts, and so do two others, as newcomers: only the last one has
/// met the owner.
struct Joined {
    lab: Lab,
    owner: usize,
    newcomers: [usize; 2],
    witness: usize,
}

fn joined() -> Joined {
    let mut lab = Lab::new(4);
    lab.run(Duration::from_secs(5));
    let owner = lab.owner();
    let [one, other, witness] = [1, 2, 3].map(|more| (owner + more) % 4);
    lab.feed(owner, Input::Stop(Stop::Return(Duration::from_secs(60))));
    lab.run(Duration::from_millis(5));
    lab.away = [owner].into();
    for newcomer in [one, other] {
        lab.restart(newcomer, None);
    }
    lab.run(Duration::from_secs(2));
    let newcomers = [one, other];
    for newcomer in newcomers {
        let agent = &lab.nodes[newcomer].agent;
        assert!(agent.is_joined() && !agent.peers[&name(owner)].handshake.met);
    }
    Joined {
        lab,
        owner,
        newcomers,
        witness,
    }
}

fn claims(lab: &mut Lab, node: usize, vips: &[IpAddr]) {
    let vips = vips.iter().map(|vip| (*vip, Some(placement(4))));
    lab.feed(node, Input::Vips(vips.collect()));
    lab.feed(node, Input::Planned);
}

/// The other newcomer consents, but knows no more about the owner.
#[test]
fn a_claim_that_nobody_vouches_for_is_not_completed() {
    let Joined {
        mut lab,
        owner,
        newcomers: [claimant, _],
        witness,
    } = joined();
    lab.away.insert(witness);
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.answering(), [owner]);
    claims(&mut lab, claimant, &[VIP]);
    for _ in 0..100 {
        lab.run(Duration::from_millis(20));
        assert_eq!(lab.answering(), [owner]);
    }
    let state = &lab.nodes[claimant].agent.seats[&VIP].state;
    assert_eq!(*state, Some(VipState::Silent(Silence::Vacant)));
}

#[test]
fn a_member_that_vouches_names_what_the_other_may_own() {
    let Joined {
        mut lab,
        owner,
        newcomers: [claimant, _],
        ..
    } = joined();
    let candidate = Placement {
        candidates: vec![(name(claimant), 0)],
        ..placement(4)
    };
    lab.feed(claimant, Input::Vips(vec![(vip(1), Some(candidate))]));
    claims(&mut lab, claimant, &[VIP]);
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.answering(), [owner]);
    assert_eq!(lab.owners(vip(1)), [claimant]);
    let state = &lab.nodes[claimant].agent.seats[&VIP].state;
    let owner = name(owner);
    assert_eq!(*state, Some(VipState::Suppress { owner }));
}
