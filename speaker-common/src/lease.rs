//! The kernel-held lease: the program answers only while it is valid.

use crate::layout::Lease;

/// How long after the agent's deadline the program goes on keeping the node's own kernel silent.
/// After that, pins left by an agent that is gone for good must not harm whoever serves the node
/// next: the program is inert. In nanoseconds.
pub const INERT_AFTER_NS: u64 = 600 * 1_000_000_000;

/// What the lease allows at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Answer for what is owned.
    Valid,
    /// Stay silent, and keep the node's own kernel silent.
    Lapsed,
    /// Nobody has held the lease for [`INERT_AFTER_NS`]: pass everything.
    Inert,
}

impl Lease {
    /// What the lease allows at `now`, in nanoseconds of `CLOCK_BOOTTIME`.
    #[inline(always)]
    pub fn standing(&self, now: u64) -> Standing {
        if now < self.agent_deadline_ns {
            Standing::Valid
        } else if now - self.agent_deadline_ns < INERT_AFTER_NS {
            Standing::Lapsed
        } else {
            Standing::Inert
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_until_the_deadline_then_lapsed_then_inert() {
        let lease = Lease {
            agent_deadline_ns: 1_000,
        };
        assert_eq!(lease.standing(999), Standing::Valid);
        assert_eq!(lease.standing(1_000), Standing::Lapsed);
        assert_eq!(lease.standing(999 + INERT_AFTER_NS), Standing::Lapsed);
        assert_eq!(lease.standing(1_000 + INERT_AFTER_NS), Standing::Inert);
    }

    #[test]
    fn a_lease_that_nobody_wrote_is_inert_once_the_host_is_up_for_a_while() {
        assert_eq!(Lease::default().standing(1), Standing::Lapsed);
        assert_eq!(Lease::default().standing(INERT_AFTER_NS), Standing::Inert);
    }
}
