//! Stopping the agent: for a restart, or for good.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Cluster,
    io::{Command, Silence, Stop},
    message::Ask,
    rounds::Round,
    seat::Mine,
    timing::Timing,
};

/// The longest wait for the others to acknowledge it.
const FAREWELL: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    /// VIPs are being handed over until then.
    HandingOver(Instant),
    /// This round announces that the agent restarts, or leaves; its end is awaited until then.
    Telling {
        round: u64,
        until: Instant,
    },
    Done,
}

impl Cluster {
    pub(super) fn on_stop(&mut self, stop: Stop, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        match stop {
            Stop::HandOver => {
                self.on_drain(true, now);
                self.stopping = Some(Stopping::HandingOver(now + Timing::STOP));
            }
            Stop::Return(grace) => {
                let claims: Vec<IpAddr> = self.vips_of(|mine| matches!(mine, Mine::Claiming(_)));
                self.release(&claims, Silence::Vacant, now);
                let grace = grace.min(self.timing.settings().restart_grace);
                self.lease.restarting = true;
                self.lease.deadline = self.lease.deadline.max(now + grace);
                self.write_lease();
                let round = self.start_round(Ask::Pause, None, now);
                let until = now + FAREWELL;
                self.stopping = Some(Stopping::Telling { round, until });
            }
        }
    }

    fn vips_of(&self, which: impl Fn(&Mine) -> bool) -> Vec<IpAddr> {
        self.seats
            .iter()
            .filter(|(_, seat)| which(&seat.mine))
            .map(|(vip, _)| *vip)
            .collect()
    }

    pub(super) fn stop_due(&mut self, now: Instant) {
        match self.stopping {
            Some(Stopping::HandingOver(until)) => {
                let owned = self.vips_of(|mine| *mine != Mine::No);
                if !owned.is_empty() && now < until {
                    return;
                }
                self.release(&owned, Silence::NoCandidate, now);
                self.lease.restarting = true;
                self.lease.deadline = now;
                self.write_lease();
                let round = self.start_round(Ask::Leave, None, now);
                self.rounds_due(now);
                let until = now + FAREWELL;
                self.stopping = Some(Stopping::Telling { round, until });
            }
            Some(Stopping::Telling { round, until }) => {
                let acknowledged = self.rounds.get(&round).is_none_or(Round::is_answered);
                if acknowledged || now >= until {
                    self.stopping = Some(Stopping::Done);
                    self.commands.push_back(Command::Stopped);
                }
            }
            Some(Stopping::Done) | None => {}
        }
    }

    pub(super) fn stop_wake(&self) -> Option<Instant> {
        match self.stopping? {
            Stopping::HandingOver(until) | Stopping::Telling { until, .. } => Some(until),
            Stopping::Done => None,
        }
    }
}
