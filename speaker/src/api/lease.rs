//! The state of the kernel-held lease.

use serde::{Deserialize, Serialize};
use speaker_common::lease::{AgentLease, PeersLease, Tenure, is_alone, tenure};

/// The kernel-held lease: whether it is valid, and how long each side has left to renew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// What it allows now.
    pub state: LeaseState,
    /// The node knows of no other, and needs no renewal by peers.
    pub alone: bool,
    /// Milliseconds until it lapses without an agent; negative: since it lapsed. `None`: no agent
    /// has held it yet.
    pub agent_left_ms: Option<i64>,
    /// Milliseconds until it lapses without probes by other nodes; negative: since it lapsed.
    /// `None`: the node is alone, or they have not renewed it yet.
    pub peers_left_ms: Option<i64>,
}

/// What the lease allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// The program answers for what this node owns.
    Valid,
    /// The program is silent until another node renews the lease for the first time.
    Unarmed,
    /// The program is silent until the agent begins a new lease.
    Over,
}

impl LeaseReport {
    /// From the two sides of the lease at `now`, in nanoseconds of `CLOCK_BOOTTIME`.
    pub fn new(agent: &AgentLease, peers: &PeersLease, now: u64) -> Self {
        let left = |deadline_ns: u64| (deadline_ns as i64 - now as i64) / 1_000_000;
        let alone = is_alone(agent, peers);
        let is_renewed = !alone && agent.life == peers.life;
        Self {
            state: match tenure(agent, peers, now) {
                Tenure::Valid => LeaseState::Valid,
                Tenure::Unarmed => LeaseState::Unarmed,
                Tenure::Over => LeaseState::Over,
            },
            alone,
            agent_left_ms: (agent.life != 0).then(|| left(agent.agent_deadline_ns)),
            peers_left_ms: (agent.life != 0 && is_renewed).then(|| left(peers.deadline_ns)),
        }
    }

    /// Whether the program may answer.
    pub fn is_valid(&self) -> bool {
        self.state == LeaseState::Valid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const NOW: u64 = 60_000 * MS;
    const AGENT: AgentLease = AgentLease {
        life: 7,
        agent_deadline_ns: NOW + 3_000 * MS,
        heartbeat_ns: NOW,
        peers_lease_ns: 300 * MS,
        alone: 0,
        flags: 0,
    };
    const PEERS: PeersLease = PeersLease {
        life: 7,
        deadline_ns: NOW + 300 * MS,
        over: 6,
        company: 0,
        unused: 0,
    };

    fn check(agent: AgentLease, peers: PeersLease, expect: LeaseReport) {
        assert_eq!(LeaseReport::new(&agent, &peers, NOW), expect);
    }

    #[test]
    fn each_side_has_its_own_time_left() {
        let expect = LeaseReport {
            state: LeaseState::Valid,
            alone: false,
            agent_left_ms: Some(3_000),
            peers_left_ms: Some(300),
        };
        check(AGENT, PEERS, expect);
        let lapsed = PeersLease {
            deadline_ns: NOW - 2_000 * MS,
            ..PEERS
        };
        let expect = LeaseReport {
            state: LeaseState::Over,
            peers_left_ms: Some(-2_000),
            ..expect
        };
        check(AGENT, lapsed, expect);
    }

    #[test]
    fn alone_or_not_yet_renewed_there_is_no_peers_deadline() {
        let expect = LeaseReport {
            state: LeaseState::Valid,
            alone: true,
            agent_left_ms: Some(3_000),
            peers_left_ms: None,
        };
        check(AgentLease { alone: 1, ..AGENT }, PEERS, expect);
        let expect = LeaseReport {
            state: LeaseState::Unarmed,
            alone: false,
            ..expect
        };
        check(AGENT, PeersLease { life: 6, ..PEERS }, expect);
    }

    #[test]
    fn a_life_can_be_over_with_both_deadlines_ahead() {
        let expect = LeaseReport {
            state: LeaseState::Over,
            alone: false,
            agent_left_ms: Some(3_000),
            peers_left_ms: Some(300),
        };
        check(AGENT, PeersLease { over: 7, ..PEERS }, expect);
    }

    #[test]
    fn a_lease_that_no_agent_has_held_has_no_deadlines() {
        let expect = LeaseReport {
            state: LeaseState::Over,
            alone: false,
            agent_left_ms: None,
            peers_left_ms: None,
        };
        check(AgentLease::default(), PeersLease::default(), expect);
    }
}
