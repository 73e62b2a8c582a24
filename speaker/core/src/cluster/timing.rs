//! All timeouts on which the cluster's safety and speed rest.
//!
//! One inequality makes fail-over safe. A peer renews a node's lease only by handing back a time
//! that the node itself sent, and the lease ends [`peers_lease`](Settings::peers_lease) after that
//! time *by the node's clock*. The peer cannot have received that time before it was sent. So once
//! the peer has heard nothing for
//!
//! ```text
//! take_over_after ≥ peers_lease × (1 + drift) / (1 − drift) + granularity
//! ```
//!
//! *by its own clock*, nothing that it ever sent can still keep the node answering, however the
//! network delays or duplicates packets, as long as no clock's rate is off by more than `drift`. A
//! node is considered down only when this is true of all its peers. If two nodes have different
//! timeouts, the peer waits as long as the node's own timeouts require (`spans`).
//!
//! Under [`Partition::Majority`], a node on the smaller side may be renewed by another one there
//! until that one notices that it has lost the majority, `suspect_after` later. So
//!
//! ```text
//! take_over_after ≥ (suspect_after + peers_lease) × (1 + drift) / (1 − drift) + granularity
//! ```
//!
//! An agent's death needs no inequality: the kernel itself says when the agent's deadline has
//! passed, and after that never answers in that life again.

use std::time::Duration;

use super::{
    settings::{Partition, Settings, TimingError},
    spans::Spans,
};

/// The assumed resolution of clocks and timers.
const GRANULARITY: Duration = Duration::from_millis(1);

/// The minimum number of heartbeats within the agent's grace.
const HEARTBEATS: u32 = 10;

/// Settings that are safe together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    settings: Settings,
}

impl Timing {
    /// The longest restart that anybody can announce.
    pub const LONGEST_RESTART: Duration = Duration::from_secs(60);
    /// The first pause before an unanswered message is repeated. It doubles each time.
    pub(super) const RETRY: Duration = Duration::from_millis(20);
    /// The longest pause between two attempts.
    pub(super) const RETRY_MAX: Duration = Duration::from_millis(200);
    /// If a peer leaves a message unanswered for this long, the waiting node watches it.
    pub(super) const UNANSWERED: Duration = Duration::from_millis(100);
    /// The pause between attempts to reach missing nodes, one at a time.
    pub(super) const DISCOVERY: Duration = Duration::from_millis(100);
    /// How long a node that knows no other waits for nodes that look for it: some attempts.
    pub(super) const LISTEN: Duration = Duration::from_millis(500);
    /// How long each candidate for a vacant VIP has before the next one's turn.
    pub(super) const PATIENCE: Duration = Duration::from_millis(300);
    /// How long a successor has to take a VIP that it was offered.
    pub(super) const OFFER: Duration = Duration::from_millis(500);
    /// When a VIP is offered again to a successor that did not take it.
    pub(super) const OFFER_AGAIN: Duration = Duration::from_secs(1);
    /// How long a stopping agent tries to hand its VIPs over.
    pub(super) const STOP: Duration = Duration::from_secs(5);
    /// An owner that is drained, or not a candidate by this node's intent, is asked for the VIP after
    /// this long.
    pub(super) const DOUBT: Duration = Duration::from_secs(2);
    /// A foreign claim is answered at most this often (RFC 5227 §2.4, DEFEND_INTERVAL).
    pub(super) const DEFEND: Duration = Duration::from_secs(10);
    /// Two nodes that claim the same VIP on the wire have this long to settle it by message. After
    /// twice that, they have settled it on the wire.
    pub(super) const WIRE: Duration = Duration::from_millis(250);
    /// A VIP that was found in use is checked again after this long.
    pub(super) const RECHECK: Duration = Duration::from_secs(10);
    /// A VIP that could not be checked is checked again after this long.
    pub(super) const UNCHECKED: Duration = Duration::from_secs(1);
    /// A node that has left, or is down and no longer configured, is forgotten after this long.
    pub(super) const FORGET: Duration = Duration::from_secs(24 * 3600);

    /// Accepts settings that are safe together.
    pub fn new(settings: Settings) -> Result<Self, TimingError> {
        let Settings {
            partition: _,
            probe_interval,
            suspect_after,
            peers_lease,
            take_over_after,
            drift_ppm,
            agent_grace,
            restart_grace,
        } = settings;
        if drift_ppm > 100_000 {
            return Err(TimingError::Drift { drift_ppm });
        }
        if probe_interval < Duration::from_millis(10) {
            return Err(TimingError::Interval { probe_interval });
        }
        // Checked before the rules that suggest a longer lease, which would not help here.
        let most = agent_grace / HEARTBEATS;
        if probe_interval > most {
            return Err(TimingError::AgentGrace {
                probe_interval,
                agent_grace,
                most,
            });
        }
        if peers_lease < 3 * probe_interval {
            return Err(TimingError::LeaseTooShort {
                peers_lease,
                needed: 3 * probe_interval,
            });
        }
        if suspect_after <= 2 * probe_interval || suspect_after >= peers_lease {
            return Err(TimingError::Suspicion {
                suspect_after,
                least: 2 * probe_interval,
                most: peers_lease,
            });
        }
        let timing = Self { settings };
        let needed = timing.silence_needed();
        if take_over_after < needed {
            return Err(TimingError::TakesOverTooEarly {
                take_over_after,
                drift_ppm,
                needed: Duration::from_millis(needed.as_millis() as u64 + 1),
            });
        }
        if restart_grace < agent_grace || restart_grace > Self::LONGEST_RESTART {
            return Err(TimingError::RestartGrace {
                restart_grace,
                least: agent_grace,
                most: Self::LONGEST_RESTART,
            });
        }
        Ok(timing)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The longest, by any clock, that a node may answer after the last reply that a peer received:
    /// the right side of the inequality.
    pub fn silence_needed(&self) -> Duration {
        let spans = self.spans();
        Self::stretched(spans.peers_lease + spans.notice, spans.drift_ppm)
    }

    /// The timeouts that other nodes have to know.
    pub(super) fn spans(&self) -> Spans {
        let Settings {
            partition,
            suspect_after,
            peers_lease,
            agent_grace,
            drift_ppm,
            ..
        } = self.settings;
        Spans {
            heartbeat: self.heartbeat(),
            peers_lease,
            notice: match partition {
                Partition::Available => Duration::ZERO,
                Partition::Majority => suspect_after,
            },
            agent_grace,
            drift_ppm,
        }
    }

    /// The longest that a time by one node's clock can be by another's.
    pub(super) fn stretched(span: Duration, drift_ppm: u32) -> Duration {
        let drift = f64::from(drift_ppm) / 1e6;
        span.mul_f64((1.0 + drift) / (1.0 - drift)) + GRANULARITY
    }

    /// The interval at which a node with these timeouts is probed: this node's own, or a shorter
    /// one if the other's lease requires it.
    pub(super) fn interval_for(&self, spans: &Spans) -> Duration {
        self.settings.probe_interval.min(spans.peers_lease / 3)
    }

    /// The interval at which the agent extends its deadline and reads the kernel's side of the
    /// lease.
    pub fn heartbeat(&self) -> Duration {
        self.settings.probe_interval
    }

    /// A timer that fires this late shows that the agent was not running.
    pub fn stall(&self) -> Duration {
        self.settings.probe_interval / 2
    }

    /// A node asks to be watched when the last renewal of its lease is this old: early enough for
    /// several attempts before it believes itself alone.
    pub(super) fn ask_after(&self) -> Duration {
        self.settings.suspect_after * 2 / 3
    }

    /// The pause after which it first repeats that. Each later one is twice as long, so there is time
    /// for four requests.
    pub(super) fn ask_again(&self) -> Duration {
        Self::RETRY.min(self.settings.suspect_after / 24)
    }

    /// The longest, by any clock, that a kernel that is alone can answer after its host was paused
    /// or cut off, unless its agent announced a longer restart. A starting node waits this long for
    /// missing nodes.
    pub(super) fn longest_alone(&self) -> Duration {
        Self::stretched(self.settings.agent_grace, self.settings.drift_ppm)
    }

    /// The longest time from the death or isolation of a host until its VIPs are answered
    /// elsewhere, if no message is lost and each takes at most `delay`: the silence, the agreement
    /// of all that the node is silent, and the consent of all to the claim. An agent that stalls
    /// meanwhile agrees one probe interval after it runs again.
    pub fn fail_over(&self, delay: Duration) -> Duration {
        self.settings.take_over_after + 5 * delay + GRANULARITY
    }

    /// The longest time from the last fault until a cluster of `nodes` has settled: dead agents are
    /// noticed, missing nodes are found one at a time and begin new lives, and vacant VIPs are
    /// taken, if need be by the last candidate.
    pub fn settle(&self, nodes: u32) -> Duration {
        2 * self.longest_alone()
            + 3 * self.settings.take_over_after
            + 3 * nodes * Self::DISCOVERY
            + nodes.min(10) * Self::PATIENCE
            + Self::DOUBT
            + 10 * Self::RETRY_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_defaults_are_safe() {
        for partition in [Partition::Available, Partition::Majority] {
            Timing::new(Settings::new(partition)).unwrap();
        }
    }

    #[test]
    fn the_defaults_fail_over_in_under_half_a_second() {
        let timing = Timing::new(Settings::new(Partition::Available)).unwrap();
        assert!(timing.fail_over(Duration::from_millis(1)) < Duration::from_millis(400));
    }

    #[test]
    fn with_the_defaults_three_nodes_settle_in_under_13_seconds() {
        let timing = Timing::new(Settings::new(Partition::Available)).unwrap();
        assert!(timing.settle(3) < Duration::from_secs(13));
    }

    #[test]
    fn refusals_name_the_flags_and_valid_values() {
        let check = |change: fn(&mut Settings), expect: &str| {
            let mut settings = Settings::new(Partition::Available);
            change(&mut settings);
            assert_eq!(Timing::new(settings).unwrap_err().to_string(), expect);
        };
        check(
            |it| it.take_over_after = it.peers_lease,
            "--take-over-after is 350ms, but a node may go on answering for 352ms after it was \
             last heard (clocks may be off by 1000 ppm): set --take-over-after to at least 352ms, \
             or a shorter --peers-lease",
        );
        check(
            |it| it.peers_lease = Duration::from_millis(299),
            "--peers-lease is 299ms, and two probes lost in a row would end it: set --peers-lease \
             to at least 300ms (three times --probe-interval), or a shorter --probe-interval",
        );
        check(
            |it| it.suspect_after = Duration::from_millis(200),
            "--suspect-after is 200ms: set it to more than 200ms (twice --probe-interval) and \
             less than 350ms (--peers-lease)",
        );
        check(
            |it| it.probe_interval = Duration::from_millis(400),
            "--probe-interval is 400ms, but the agent, which renews its own side of the lease as \
             often, needs ten attempts within its grace of 3s: set --probe-interval to at most \
             300ms",
        );
        check(
            |it| it.probe_interval = Duration::from_millis(9),
            "--probe-interval is 9ms: set it to at least 10ms",
        );
    }

    #[test]
    fn the_minimum_named_by_a_refusal_is_accepted() {
        let mut settings = Settings::new(Partition::Majority);
        settings.take_over_after = settings.peers_lease;
        let Err(TimingError::TakesOverTooEarly { needed, .. }) = Timing::new(settings.clone())
        else {
            panic!("it is refused");
        };
        settings.take_over_after = needed;
        Timing::new(settings).unwrap();
    }

    #[test]
    fn each_rule_refuses() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::new(Partition::Available);
            change(&mut settings);
            Timing::new(settings).unwrap_err()
        };
        let ms = Duration::from_millis;
        assert!(matches!(
            refused(|s| s.peers_lease = Duration::from_millis(299)),
            TimingError::LeaseTooShort { needed, .. } if needed == ms(300)
        ));
        assert!(matches!(
            refused(|s| s.suspect_after = Duration::from_millis(200)),
            TimingError::Suspicion { least, .. } if least == ms(200)
        ));
        assert!(matches!(
            refused(|s| s.agent_grace = Duration::from_millis(999)),
            TimingError::AgentGrace { most, .. } if most < ms(100)
        ));
        assert!(matches!(
            refused(|s| s.restart_grace = Duration::from_secs(61)),
            TimingError::RestartGrace { .. }
        ));
        assert!(matches!(
            refused(|s| s.drift_ppm = 100_001),
            TimingError::Drift { .. }
        ));
        assert!(matches!(
            refused(|s| s.probe_interval = Duration::from_millis(9)),
            TimingError::Interval { .. }
        ));
    }

    proptest! {
        /// Whatever settings are accepted, and however the clocks run within the allowance, the
        /// peer's wait ends only after the node's lease; where the majority counts, also after a
        /// third node, cut off with it, has noticed that and renewed it for the last time.
        #[test]
        fn accepted_settings_are_safe(
            interval in 10_u64..2_000, suspect in 10_u64..5_000, lease in 10_u64..10_000,
            take_over in 10_u64..20_000, drift_ppm in 0_u32..=100_000,
            node_off in -1.0_f64..=1.0, peer_off in -1.0_f64..=1.0, third_off in -1.0_f64..=1.0,
            majority: bool,
        ) {
            let partition = if majority { Partition::Majority } else { Partition::Available };
            let ms = Duration::from_millis;
            let settings = Settings {
                probe_interval: ms(interval),
                suspect_after: ms(suspect),
                peers_lease: ms(lease),
                take_over_after: ms(take_over),
                drift_ppm,
                agent_grace: ms(20_000),
                ..Settings::new(partition)
            };
            if let Ok(timing) = Timing::new(settings) {
                let drift = f64::from(drift_ppm) / 1e6;
                let node_rate = 1.0 + drift * node_off;
                let peer_rate = 1.0 + drift * peer_off;
                let third_rate = 1.0 + drift * third_off;
                let renewed = if majority {
                    timing.settings.suspect_after.as_secs_f64() / third_rate
                } else {
                    0.0
                };
                let lease = timing.settings.peers_lease.as_secs_f64();
                let lease_ends = renewed + lease / node_rate;
                let wait_ends = timing.settings.take_over_after.as_secs_f64() / peer_rate;
                prop_assert!(lease_ends < wait_ends);
            }
        }
    }
}
