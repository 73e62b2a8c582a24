//! The timeouts and the policy that a user can set.

use std::time::Duration;

/// Who may own VIPs when the cluster is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Partition {
    /// Each side keeps answering, for the clients that still reach it.
    Available,
    /// Only the side with more than half of all known nodes keeps answering.
    Majority,
}

/// The timeouts and the policy of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who may own VIPs when the cluster is split.
    pub partition: Partition,
    /// The interval at which a watcher probes each node that it watches.
    pub probe_interval: Duration,
    /// A node that has not replied for this long is suspect; a node that hears nobody for this long
    /// believes itself alone.
    pub suspect_after: Duration,
    /// The kernel answers for this long after the time of the last reply that a peer handed back.
    pub peers_lease: Duration,
    /// A node that has replied to nobody for this long is down, and its VIPs are taken over.
    pub take_over_after: Duration,
    /// How far a clock's rate may be off, in parts per million.
    pub drift_ppm: u32,
    /// The kernel answers for this long after the agent's last heartbeat.
    pub agent_grace: Duration,
    /// The longest restart that can be announced.
    pub restart_grace: Duration,
}

impl Settings {
    /// The defaults under this policy.
    pub const fn new(partition: Partition) -> Self {
        Self {
            partition,
            probe_interval: Duration::from_millis(100),
            suspect_after: Duration::from_millis(250),
            peers_lease: Duration::from_millis(350),
            take_over_after: match partition {
                Partition::Available => Duration::from_millis(360),
                Partition::Majority => Duration::from_millis(610),
            },
            drift_ppm: 1_000,
            agent_grace: Duration::from_secs(3),
            restart_grace: Duration::from_secs(60),
        }
    }
}

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The inequality of [`Timing`](super::Timing) does not hold.
    #[error(
        "--take-over-after is {take_over_after:?}, but a node may go on answering for {needed:?} \
         after it was last heard (clocks may be off by {drift_ppm} ppm): set --take-over-after to \
         at least {needed:?}, or a shorter --peers-lease"
    )]
    TakesOverTooEarly {
        /// As configured.
        take_over_after: Duration,
        /// As configured.
        drift_ppm: u32,
        /// The shortest safe `take_over_after`, in whole milliseconds.
        needed: Duration,
    },
    /// One lost probe would silence a healthy node.
    #[error(
        "--peers-lease is {peers_lease:?}, and two probes lost in a row would end it: set \
         --peers-lease to at least {needed:?} (three times --probe-interval), or a shorter \
         --probe-interval"
    )]
    LeaseTooShort {
        /// As configured.
        peers_lease: Duration,
        /// Three probe intervals.
        needed: Duration,
    },
    /// Suspicion must come after a lost probe and before the lease ends.
    #[error(
        "--suspect-after is {suspect_after:?}: set it to more than {least:?} (twice \
         --probe-interval) and less than {most:?} (--peers-lease)"
    )]
    Suspicion {
        /// As configured.
        suspect_after: Duration,
        /// Two probe intervals.
        least: Duration,
        /// The peers' lease.
        most: Duration,
    },
    /// The agent could not renew its own deadline in time.
    #[error(
        "--probe-interval is {probe_interval:?}, but the agent, which renews its own side of the \
         lease as often, needs ten attempts within its grace of {agent_grace:?}: set \
         --probe-interval to at most {most:?}"
    )]
    AgentGrace {
        /// As configured.
        probe_interval: Duration,
        /// As configured.
        agent_grace: Duration,
        /// The longest interval.
        most: Duration,
    },
    /// The grace of an announced restart is shorter than the agent's grace, or beyond the limit.
    #[error(
        "a restart can be announced for between {least:?} (the agent's grace) and {most:?}, not \
         for {restart_grace:?}"
    )]
    RestartGrace {
        /// As configured.
        restart_grace: Duration,
        /// The agent's grace.
        least: Duration,
        /// The longest one.
        most: Duration,
    },
    /// No clock is that inaccurate.
    #[error("clocks cannot be allowed to be off by {drift_ppm} ppm: the limit is 100000 (10 %)")]
    Drift {
        /// As configured.
        drift_ppm: u32,
    },
    /// The agent would do nothing but probe.
    #[error("--probe-interval is {probe_interval:?}: set it to at least 10ms")]
    Interval {
        /// As configured.
        probe_interval: Duration,
    },
}
