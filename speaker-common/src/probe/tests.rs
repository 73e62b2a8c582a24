use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const KEY: Key = Key([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);

/// The reference vectors (SipHash, appendix A and `vectors.h`) whose length is a multiple of eight.
#[test]
fn siphash_matches_the_reference_vectors() {
    let message: [u64; 7] = core::array::from_fn(|word| {
        u64::from_le_bytes(core::array::from_fn(|byte| (8 * word + byte) as u8))
    });
    fn first<const N: usize>(message: &[u64; 7]) -> u64 {
        let words: [u64; N] = core::array::from_fn(|at| message[at]);
        siphash(&KEY, &words)
    }
    assert_eq!(first::<0>(&message), 0x726f_db47_dd0e_0e31);
    assert_eq!(first::<1>(&message), 0x93f5_f579_9a93_2462);
}

/// A second implementation: the one that `core` once shipped.
#[expect(
    deprecated,
    reason = "it is the only SipHash-2-4 at hand, and it is right"
)]
fn oracle(words: &[u64]) -> u64 {
    use core::hash::{Hasher, SipHasher};
    let mut hasher = SipHasher::new_with_keys(KEY.0[0], KEY.0[1]);
    for word in words {
        hasher.write(&word.to_le_bytes());
    }
    hasher.finish()
}

fn probe(kind: Kind, life: u64, time_ns: u64) -> Probe {
    Probe {
        kind,
        flags: 0,
        watcher: 7,
        target: 9,
        sequence: 0x1122_3344_5566_7788,
        life,
        time_ns,
        agent_age_ms: 0,
        agent_left_ms: 0,
    }
}

fn agent(life: u64) -> AgentLease {
    AgentLease {
        life,
        agent_deadline_ns: 10_000 * MS,
        heartbeat_ns: 900 * MS,
        peers_lease_ns: 350 * MS,
        alone: 0,
        flags: 0,
    }
}

/// How node number 9 handles a probe, and its state afterwards.
fn judge(probe: &Probe, agent: &AgentLease, peers: &mut PeersLease, now: u64) -> Option<Probe> {
    let outcome = answer(probe, 9, agent, peers, now);
    *peers = outcome.peers;
    outcome.reply
}

/// Hands back a time from a life's reply.
fn renew(agent: &AgentLease, peers: &mut PeersLease, (life, time_ns): (u64, u64), now: u64) {
    judge(&probe(Kind::Renew, life, time_ns), agent, peers, now);
}

#[test]
fn the_layout_is_what_it_says() {
    let mut sealed = probe(Kind::Request, 5, 6);
    sealed.flags = FLAG_OVER;
    sealed.agent_age_ms = 0x0a0b_0c0d;
    let bytes = sealed.seal(&KEY);
    assert_eq!(bytes[..8], [b'S', b'P', 1, 1, 1, 0, 0, 0]);
    assert_eq!(bytes[8..16], 7_u64.to_le_bytes());
    assert_eq!(bytes[16..24], 9_u64.to_le_bytes());
    assert_eq!(bytes[24..32], 0x1122_3344_5566_7788_u64.to_le_bytes());
    assert_eq!(bytes[32..40], 5_u64.to_le_bytes());
    assert_eq!(bytes[40..48], 6_u64.to_le_bytes());
    assert_eq!(bytes[48..52], [0x0d, 0x0c, 0x0b, 0x0a]);
    assert_eq!(bytes[52..56], [0; 4]);
}

#[test]
fn a_renewal_counts_from_the_time_handed_back() {
    let agent = agent(1);
    let mut peers = PeersLease::default();
    assert_eq!(tenure(&agent, &peers, 1_000 * MS), Tenure::Unarmed);
    renew(&agent, &mut peers, (1, 1_000 * MS), 1_200 * MS);
    assert_eq!(tenure(&agent, &peers, 1_349 * MS), Tenure::Valid);
    assert_eq!(tenure(&agent, &peers, 1_350 * MS), Tenure::Over);
}

#[test]
fn a_replayed_renewal_renews_nothing() {
    let agent = agent(1);
    let mut peers = PeersLease::default();
    let early = probe(Kind::Renew, 1, 1_000 * MS);
    judge(&early, &agent, &mut peers, 1_000 * MS);
    renew(&agent, &mut peers, (1, 1_100 * MS), 1_100 * MS);
    let before = peers;
    judge(&early, &agent, &mut peers, 1_200 * MS);
    assert_eq!(peers, before);
}

#[test]
fn a_lapsed_lease_is_not_revived() {
    let agent = agent(1);
    let mut peers = PeersLease::default();
    renew(&agent, &mut peers, (1, 1_000 * MS), 1_000 * MS);
    renew(&agent, &mut peers, (1, 1_300 * MS), 1_400 * MS);
    assert_eq!(tenure(&agent, &peers, 1_400 * MS), Tenure::Over);
}

#[test]
fn a_renewal_of_another_life_or_from_the_future_renews_nothing() {
    let agent = agent(2);
    let mut peers = PeersLease::default();
    renew(&agent, &mut peers, (1, 1_000 * MS), 1_000 * MS);
    renew(&agent, &mut peers, (2, 1_001 * MS), 1_000 * MS);
    assert_eq!(peers, PeersLease::default());
}

#[test]
fn a_life_reported_over_stays_over_when_the_agent_returns() {
    let mut agent = agent(1);
    let mut peers = PeersLease::default();
    renew(&agent, &mut peers, (1, 9_900 * MS), 9_900 * MS);
    let reply = judge(&probe(Kind::Request, 1, 0), &agent, &mut peers, 10_001 * MS).unwrap();
    assert_eq!(reply.flags, FLAG_LAPSED);
    assert_eq!((reply.agent_age_ms, reply.agent_left_ms), (9_101, 0));
    agent.agent_deadline_ns = 20_000 * MS;
    assert_eq!(tenure(&agent, &peers, 10_002 * MS), Tenure::Over);
    agent.life = 2;
    assert_eq!(tenure(&agent, &peers, 10_002 * MS), Tenure::Unarmed);
}

#[test]
fn a_request_renews_nothing_and_is_answered_with_the_nodes_clock() {
    let agent = agent(1);
    let mut peers = PeersLease::default();
    let reply = judge(&probe(Kind::Request, 0, 0), &agent, &mut peers, 1_000 * MS).unwrap();
    assert_eq!(
        (reply.kind, reply.life, reply.time_ns),
        (Kind::Reply, 1, 1_000 * MS)
    );
    assert_eq!(reply.sequence, 0x1122_3344_5566_7788);
    assert_eq!(tenure(&agent, &peers, 1_000 * MS), Tenure::Unarmed);
}

#[test]
fn a_probe_ends_the_time_alone() {
    let mut agent = agent(1);
    agent.alone = 1;
    let mut peers = PeersLease::default();
    assert_eq!(tenure(&agent, &peers, 1_000 * MS), Tenure::Valid);
    let mut request = probe(Kind::Request, 1, 0);
    judge(&request, &agent, &mut peers, 1_000 * MS);
    assert_eq!(tenure(&agent, &peers, 1_000 * MS), Tenure::Valid);
    request.flags = FLAG_RENEWS;
    judge(&request, &agent, &mut peers, 1_000 * MS);
    assert_eq!(tenure(&agent, &peers, 1_000 * MS), Tenure::Unarmed);
    agent.alone = 2;
    assert_eq!(tenure(&agent, &peers, 1_000 * MS), Tenure::Valid);
}

#[test]
fn a_node_alone_for_longer_than_its_lease_continues_when_renewed() {
    let mut agent = agent(1);
    let mut peers = PeersLease::default();
    renew(&agent, &mut peers, (1, 1_000 * MS), 1_000 * MS);
    agent.alone = 1;
    assert_eq!(tenure(&agent, &peers, 2_000 * MS), Tenure::Valid);
    let mut request = probe(Kind::Request, 1, 0);
    request.flags = FLAG_RENEWS;
    let reply = judge(&request, &agent, &mut peers, 2_000 * MS).unwrap();
    assert_eq!(reply.flags, 0);
    renew(&agent, &mut peers, (1, reply.time_ns), 2_001 * MS);
    assert_eq!(tenure(&agent, &peers, 2_349 * MS), Tenure::Valid);
    assert_eq!(tenure(&agent, &peers, 2_350 * MS), Tenure::Over);
}

#[test]
fn a_life_can_be_ended_from_outside_only_while_the_node_is_alone() {
    let mut told = probe(Kind::Request, 1, 0);
    told.flags = FLAG_OVER;
    let peers = PeersLease::default();
    let over = |agent: &AgentLease| answer(&told, 9, agent, &peers, MS).peers.over;
    let alone = AgentLease {
        alone: 1,
        ..agent(1)
    };
    assert_eq!(over(&agent(1)), 0);
    assert_eq!(over(&alone), 1);
    assert_eq!(over(&AgentLease { life: 2, ..alone }), 0);
}

#[test]
fn a_probe_for_any_node_is_answered() {
    let mut scout = probe(Kind::Request, 0, 0);
    scout.target = ANYBODY;
    let reply = judge(&scout, &agent(1), &mut PeersLease::default(), MS).unwrap();
    assert_eq!((reply.target, reply.life), (9, 1));
}

#[test]
fn a_request_hands_the_last_time_back_once_more() {
    let mut again = probe(Kind::Request, 1, 1_000 * MS);
    let mut peers = PeersLease::default();
    judge(&again, &agent(1), &mut peers, 1_100 * MS);
    assert_eq!(peers, PeersLease::default());
    again.flags = FLAG_RENEWS;
    judge(&again, &agent(1), &mut peers, 1_100 * MS);
    assert_eq!(peers.deadline_ns, 1_350 * MS);
}

#[test]
fn a_probe_for_another_node_changes_nothing() {
    let mut stray = probe(Kind::Request, 1, 0);
    stray.target = 8;
    let mut peers = PeersLease::default();
    assert_eq!(judge(&stray, &agent(1), &mut peers, MS), None);
    assert_eq!(peers, PeersLease::default());
}

proptest! {
    #[test]
    fn siphash_agrees_with_another_implementation(words: [u64; 7]) {
        prop_assert_eq!(siphash(&KEY, &words), oracle(&words));
    }

    #[test]
    fn only_sealed_probes_open(
        flags: u32, watcher: u64, target: u64, sequence: u64, life: u64, time_ns: u64,
        agent_age_ms: u32, agent_left_ms: u32, bit in 0..8 * LENGTH,
    ) {
        let probe = Probe {
            kind: Kind::Reply,
            flags, watcher, target, sequence, life, time_ns, agent_age_ms, agent_left_ms,
        };
        let mut bytes = probe.seal(&KEY);
        prop_assert_eq!(Probe::open(&bytes, &KEY), Some(probe));
        prop_assert_eq!(Probe::open(&bytes, &Key([1, 2])), None);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Probe::open(&bytes, &KEY), None);
    }

    /// Whatever arrives in whatever order, the lease ends one lease length after the newest time
    /// that was handed back.
    #[test]
    fn no_order_of_probes_extends_the_lease_beyond_the_newest_echo(
        events in prop::collection::vec((0_u64..2_000, 0_u64..2_000, 1_u8..4), 1..40),
    ) {
        let agent = agent(1);
        let mut peers = PeersLease::default();
        let mut events = events;
        events.sort();
        let mut newest = 0;
        for (now, echo, kind) in events {
            let kind = [Kind::Request, Kind::Reply, Kind::Renew][usize::from(kind) - 1];
            if kind == Kind::Renew && echo <= now {
                newest = newest.max(echo);
            }
            judge(&probe(kind, 1, echo * MS), &agent, &mut peers, now * MS);
            prop_assert!(peers.deadline_ns <= newest * MS + agent.peers_lease_ns);
        }
    }
}
