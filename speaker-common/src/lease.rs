//! The kernel-held lease: the program answers only while it is valid.
//!
//! It has two sides, each in its own map, without locks: the agent's (`lease`), and the peers'
//! (`peers`), which is written for each of their probes by the program, or by the agent if the
//! probe reached its socket. Words are written whole, in an order in which no intermediate state
//! allows more than the state before or after.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How long after the agent's deadline the program keeps the node's own kernel silent, in
/// nanoseconds. After that the program is inert: pins of an agent that is gone for good must not
/// harm what serves the node next.
pub const INERT_AFTER_NS: u64 = 600 * 1_000_000_000;

/// The only value of `lease`: the agent's side, which only the agent writes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct AgentLease {
    /// The present life; zero before the first, and while another one is being written. It is
    /// stored first, as zero, and last, and loaded before and after all other fields.
    pub life: u64,
    /// Until when the agent counts as alive, in nanoseconds of `CLOCK_BOOTTIME`, the monotonic
    /// clock that continues while the host is suspended.
    pub agent_deadline_ns: u64,
    /// When the agent last wrote this, in nanoseconds of `CLOCK_BOOTTIME`.
    pub heartbeat_ns: u64,
    /// How long a renewal lasts, in nanoseconds after the time that is handed back.
    pub peers_lease_ns: u64,
    /// Nonzero if the node is alone and needs no renewal: the number of this time alone.
    pub alone: u32,
    /// [`FLAG_RESTARTING`](crate::probe::FLAG_RESTARTING) and
    /// [`FLAG_DRAINING`](crate::probe::FLAG_DRAINING).
    pub flags: u32,
}

/// The only value of `peers`: the peers' side of the lease, written when a probe is answered.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PeersLease {
    /// The life to which `deadline_ns` belongs. It is stored after, and loaded before that.
    pub life: u64,
    /// The peers' deadline, in nanoseconds of `CLOCK_BOOTTIME`.
    pub deadline_ns: u64,
    /// The last life that is known to be over.
    pub over: u64,
    /// The last [`AgentLease::alone`] that a probe has disproved.
    pub company: u32,
    #[doc(hidden)]
    pub unused: u32,
}

/// A word of [`PeersLease`] that a probe changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// [`PeersLease::deadline_ns`].
    Deadline(u64),
    /// [`PeersLease::life`].
    Life(u64),
    /// [`PeersLease::company`].
    Company(u32),
    /// [`PeersLease::over`].
    Over(u64),
}

impl PeersLease {
    /// Passes the words that differ in `next` to `store`, in the order in which they must be
    /// stored.
    ///
    /// Equal words are not stored, so that two CPUs that answer probes at the same time do not undo
    /// each other's changes. At worst, one replaces a later deadline by its own. The time alone
    /// ends after the lease has begun, or the lease would lapse at once.
    #[inline(always)]
    pub fn changes(&self, next: &Self, mut store: impl FnMut(Change)) {
        if next.deadline_ns != self.deadline_ns {
            store(Change::Deadline(next.deadline_ns));
        }
        if next.life != self.life {
            store(Change::Life(next.life));
        }
        if next.company != self.company {
            store(Change::Company(next.company));
        }
        if next.over != self.over {
            store(Change::Over(next.over));
        }
    }
}

/// The state of the lease at a moment, by its two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// No peer has renewed this life yet: the node is silent until the first `Renew`.
    Unarmed,
    /// The node answers for the VIPs that it owns.
    Valid,
    /// The node is silent for the rest of this life.
    Over,
}

/// The state of the lease at `now`, in nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn tenure(agent: &AgentLease, peers: &PeersLease, now: u64) -> Tenure {
    if agent.life == 0 || agent.life == peers.over || now >= agent.agent_deadline_ns {
        Tenure::Over
    } else if is_alone(agent, peers) {
        Tenure::Valid
    } else if agent.life != peers.life {
        Tenure::Unarmed
    } else if now < peers.deadline_ns {
        Tenure::Valid
    } else {
        Tenure::Over
    }
}

/// Whether the node needs no renewal.
#[inline(always)]
pub fn is_alone(agent: &AgentLease, peers: &PeersLease) -> bool {
    agent.alone != 0 && agent.alone != peers.company
}

/// What the program does about VIPs at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Answer for owned VIPs.
    Valid,
    /// Stay silent, and keep the node's own kernel silent.
    Lapsed,
    /// No agent has held the lease for [`INERT_AFTER_NS`]: pass everything.
    Inert,
}

impl Standing {
    /// By the two sides of the lease at `now`, in nanoseconds of `CLOCK_BOOTTIME`.
    #[inline(always)]
    pub fn of(agent: &AgentLease, peers: &PeersLease, now: u64) -> Self {
        match tenure(agent, peers, now) {
            Tenure::Valid => Self::Valid,
            Tenure::Unarmed | Tenure::Over => {
                if now.saturating_sub(agent.agent_deadline_ns) < INERT_AFTER_NS {
                    Self::Lapsed
                } else {
                    Self::Inert
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const ALONE: AgentLease = AgentLease {
        life: 1,
        agent_deadline_ns: 1_000,
        heartbeat_ns: 0,
        peers_lease_ns: 100,
        alone: 1,
        flags: 0,
    };
    const IN_COMPANY: AgentLease = AgentLease { alone: 0, ..ALONE };

    fn peers(life: u64, deadline_ns: u64) -> PeersLease {
        PeersLease {
            life,
            deadline_ns,
            ..PeersLease::default()
        }
    }

    #[test]
    fn alone_valid_until_the_agents_deadline_then_lapsed_then_inert() {
        let standing = |now| Standing::of(&ALONE, &PeersLease::default(), now);
        assert_eq!(standing(999), Standing::Valid);
        assert_eq!(standing(1_000), Standing::Lapsed);
        assert_eq!(standing(999 + INERT_AFTER_NS), Standing::Lapsed);
        assert_eq!(standing(1_000 + INERT_AFTER_NS), Standing::Inert);
    }

    #[test]
    fn not_alone_valid_until_the_earlier_deadline() {
        let standing = |deadline, now| Standing::of(&IN_COMPANY, &peers(1, deadline), now);
        assert_eq!(standing(500, 499), Standing::Valid);
        assert_eq!(standing(500, 500), Standing::Lapsed);
        assert_eq!(standing(5_000, 999), Standing::Valid);
        assert_eq!(standing(5_000, 1_000), Standing::Lapsed);
        // The peers' side makes no program inert.
        let late = AgentLease {
            agent_deadline_ns: u64::MAX,
            ..IN_COMPANY
        };
        let now = 501 + INERT_AFTER_NS;
        assert_eq!(Standing::of(&late, &peers(1, 500), now), Standing::Lapsed);
    }

    #[test]
    fn a_life_without_a_renewal_is_silent() {
        let standing = |peers| Standing::of(&IN_COMPANY, &peers, 1);
        assert_eq!(standing(PeersLease::default()), Standing::Lapsed);
        assert_eq!(standing(peers(2, 500)), Standing::Lapsed);
    }

    #[test]
    fn a_life_over_or_half_written_is_silent_even_alone() {
        for agent in [ALONE, IN_COMPANY] {
            let over = PeersLease {
                over: 1,
                ..peers(1, 500)
            };
            assert_eq!(Standing::of(&agent, &over, 1), Standing::Lapsed);
            let half_written = AgentLease { life: 0, ..agent };
            let before = PeersLease {
                over: 7,
                ..peers(0, 500)
            };
            assert_eq!(Standing::of(&half_written, &before, 1), Standing::Lapsed);
        }
    }

    #[test]
    fn an_unwritten_lease_is_inert_once_the_host_has_been_up_for_a_while() {
        let standing = |now| Standing::of(&AgentLease::default(), &PeersLease::default(), now);
        assert_eq!(standing(1), Standing::Lapsed);
        assert_eq!(standing(INERT_AFTER_NS), Standing::Inert);
    }

    #[test]
    fn only_changes_are_stored_and_the_life_after_its_deadline() {
        let before = PeersLease {
            over: 3,
            ..peers(4, 500)
        };
        let changes = |next: PeersLease| {
            let mut changes = Vec::new();
            before.changes(&next, |change| changes.push(change));
            changes
        };
        assert_eq!(changes(before), []);
        let next = PeersLease {
            over: 4,
            company: 1,
            ..peers(5, 600)
        };
        assert_eq!(
            changes(next),
            [
                Change::Deadline(600),
                Change::Life(5),
                Change::Company(1),
                Change::Over(4)
            ]
        );
    }
}
