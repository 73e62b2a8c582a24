//! When a step may be carried out again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::steps::Step;

/// The first wait; also the wait for an API server that does not answer.
const FIRST: Duration = Duration::from_secs(3);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// A step that has not been needed for this long starts again with the first wait.
const FORGET: Duration = Duration::from_secs(60);

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The API server did not answer, but may do so at any time.
    Unanswered,
    /// The API server refused it, and will most likely do so again.
    Refused,
}

/// The steps carried out recently. A refused step is retried less and less often, and so is one
/// that something else keeps undoing. No step waits for another.
#[derive(Debug, Default)]
pub(super) struct Pace {
    recent: BTreeMap<Step, Recent>,
}

#[derive(Clone, Copy, Debug)]
struct Recent {
    last: Outcome,
    not_before: Instant,
    next_wait: Duration,
}

impl Pace {
    /// The steps that may be carried out now.
    pub(super) fn due(&mut self, steps: Vec<Step>, now: Instant) -> Vec<Step> {
        let needed: BTreeSet<_> = steps.iter().collect();
        self.recent.retain(|step, recent| match recent.last {
            Outcome::Done => now < recent.not_before + FORGET,
            Outcome::Unanswered | Outcome::Refused => needed.contains(step),
        });
        let is_due = |step: &Step| {
            let recent = self.recent.get(step);
            recent.is_none_or(|recent| recent.not_before <= now)
        };
        steps.into_iter().filter(is_due).collect()
    }

    /// Notes the outcome of a step. Returns whether a failure is the first of a series of its kind.
    pub(super) fn note(&mut self, step: Step, outcome: Outcome, now: Instant) -> bool {
        let before = self.recent.get(&step).copied();
        let next_wait = before.map(|it| it.next_wait);
        let (wait, next_wait) = match outcome {
            Outcome::Unanswered => (FIRST, FIRST),
            Outcome::Refused => next_wait.map_or((FIRST, FIRST * 2), |it| (it, it * 2)),
            // Allowed once more at once: a VIP that moved may move back.
            Outcome::Done => next_wait.map_or((Duration::ZERO, FIRST), |it| (it, it * 2)),
        };
        let recent = Recent {
            last: outcome,
            not_before: now + wait,
            next_wait: next_wait.min(LONGEST),
        };
        self.recent.insert(step, recent);
        before.is_none_or(|it| it.last != outcome)
    }

    /// When the next waiting step is due.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let times = self.recent.values().map(|recent| recent.not_before);
        times.filter(|at| *at > now).min()
    }

    /// Whether a step has failed and has not succeeded since.
    pub(super) fn is_failing(&self) -> bool {
        let mut recent = self.recent.values();
        recent.any(|it| it.last != Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs a step all the time, and lists the seconds at which it is carried out.
    fn times(outcome: Outcome, seconds: u64) -> Vec<u64> {
        let start = Instant::now();
        let mut pace = Pace::default();
        let step = Step::Remove {
            name: "one".to_owned(),
            resource_version: None,
        };
        let mut times = Vec::new();
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            for step in pace.due(vec![step.clone()], now) {
                times.push(second);
                pace.note(step, outcome, now);
            }
        }
        times
    }

    #[test]
    fn refused_steps_are_retried_with_backoff_forever() {
        assert_eq!(times(Outcome::Refused, 100), [0, 3, 9, 21, 45, 93]);
        assert_eq!(
            times(Outcome::Refused, 1300)[6..],
            [189, 381, 681, 981, 1281]
        );
    }

    #[test]
    fn unanswered_steps_are_retried_without_backoff() {
        assert_eq!(times(Outcome::Unanswered, 10), [0, 3, 6, 9]);
    }

    #[test]
    fn undone_steps_are_repeated_with_backoff() {
        assert_eq!(times(Outcome::Done, 100), [0, 1, 4, 10, 22, 46, 94]);
    }

    #[test]
    fn a_failed_step_delays_no_other_and_is_forgotten_when_obsolete() {
        let now = Instant::now();
        let mut pace = Pace::default();
        let step = |name: &str| Step::Remove {
            name: name.to_owned(),
            resource_version: None,
        };
        assert!(pace.note(step("one"), Outcome::Refused, now), "is news");
        assert!(!pace.note(step("one"), Outcome::Refused, now));
        assert_eq!(pace.due(vec![step("one"), step("two")], now), [step("two")]);
        assert_eq!(pace.poll_timeout(now), Some(now + FIRST * 2));
        assert!(pace.is_failing());
        assert_eq!(pace.due(vec![step("two")], now), [step("two")]);
        assert!(!pace.is_failing());
        assert_eq!(pace.poll_timeout(now), None);
        assert_eq!(pace.due(vec![step("one")], now), [step("one")]);
    }
}
