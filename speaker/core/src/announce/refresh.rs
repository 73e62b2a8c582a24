//! When each VIP is refreshed.

use std::time::{Duration, Instant};

/// 2^64 divided by the golden ratio. Its multiples modulo 2^64 are as evenly spread as those of any
/// sequence of unknown length (Knuth, TAOCP 6.4): there are at most three different gaps.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads the refreshes of VIPs evenly over a period, however many are taken over at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refresh {
    period: Duration,
    since: Instant,
    next: u64,
}

/// A VIP's moment in each period, in units of 1/2^64 of the period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase(u64);

impl Refresh {
    /// If `period` is zero, there are no refreshes. Nodes with different seeds do not refresh in
    /// step.
    pub(super) const fn new(period: Duration, seed: u64, since: Instant) -> Self {
        Self {
            period,
            since,
            next: seed,
        }
    }

    pub(super) const fn phase(&mut self) -> Phase {
        self.next = self.next.wrapping_add(GOLDEN);
        Phase(self.next)
    }

    /// The first moment of `phase` that is not before `time`; `None` if refreshes are off.
    pub(super) fn due(&self, phase: Phase, time: Instant) -> Option<Instant> {
        if self.period.is_zero() {
            return None;
        }
        let period = self.period.as_nanos();
        let phase = (u128::from(phase.0) * period) >> 64;
        let elapsed = time.saturating_duration_since(self.since).as_nanos();
        let periods = elapsed.saturating_sub(phase).div_ceil(period);
        Some(self.since + Duration::from_nanos_u128(phase + periods * period))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::at, *};

    const PERIOD: Duration = Duration::from_secs(150);

    #[test]
    fn ten_thousand_vips_spread_evenly_over_the_period() {
        let mut refresh = Refresh::new(PERIOD, 42, at(0));
        let mut seconds = [0; 150];
        for _ in 0..10_000 {
            let phase = refresh.phase();
            let due = refresh.due(phase, at(0)).unwrap();
            seconds[(due - at(0)).as_secs() as usize] += 1;
        }
        assert!(
            seconds.iter().all(|count| (64..=70).contains(count)),
            "{seconds:?}"
        );
    }

    #[test]
    fn a_moment_comes_once_a_period() {
        let mut refresh = Refresh::new(PERIOD, 7, at(0));
        let phase = refresh.phase();
        let first = refresh.due(phase, at(0)).unwrap();
        assert!(first < at(0) + PERIOD);
        assert_eq!(refresh.due(phase, first), Some(first));
        let later = first + Duration::from_nanos(1);
        assert_eq!(refresh.due(phase, later), Some(first + PERIOD));
    }

    #[test]
    fn a_period_of_zero_is_off() {
        let mut refresh = Refresh::new(Duration::ZERO, 7, at(0));
        let phase = refresh.phase();
        assert_eq!(refresh.due(phase, at(1_000)), None);
    }
}
