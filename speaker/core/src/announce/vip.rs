//! The announcements of one VIP on one link: which are planned, and when they are allowed.

use std::time::{Duration, Instant};

use super::{
    Cause,
    queue::Lane,
    refresh::{Phase, Refresh},
};

/// The minimum time between two announcements. Linux ignores a change of a neighbor within a second
/// of the last one (`locktime`), and RFC 4861 §7.2.6 requires RetransTimer, one second, between two
/// advertisements. The rest allows for variable delays.
pub(super) const GAP: Duration = Duration::from_millis(1100);
/// The same while another node contends for the VIP: both answer until each has seen the other.
const CONTENTION_GAP: Duration = Duration::from_millis(50);
/// The pause before the last announcement of a burst, for hosts that were unreachable during the
/// first ones. After such a pause, advertisements are no longer in a row.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// RFC 4861 §10: MAX_NEIGHBOR_ADVERTISEMENT.
const IN_A_ROW: u8 = 3;
/// Announcements after a change: in a row, and once after the pause.
const BURST: u8 = IN_A_ROW + 1;
/// RFC 5227 §1.1: DEFEND_INTERVAL.
pub(super) const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// The pause before a failed announcement is tried again. It doubles with each failure.
const RETRY: Duration = Duration::from_millis(100);
/// The most doublings of [`RETRY`]: the longest pause is 6.4 s.
const MAX_DOUBLINGS: u8 = 6;

/// Recent announcements of a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    last: Option<Instant>,
    /// The number of announcements up to the last one that were each less than a [`PAUSE`] apart.
    in_a_row: u8,
    defended: Option<Instant>,
}

impl Past {
    /// Until when this must be remembered, even if the VIP is withdrawn.
    pub(super) fn matters_until(&self) -> Option<Instant> {
        let last = self.last.map(|last| last + PAUSE);
        let defended = self.defended.map(|defended| defended + DEFEND_INTERVAL);
        last.max(defended)
    }

    /// The later of `due` and the time at which the next announcement is allowed.
    fn allowed(&self, due: Instant, limit: Limit) -> Instant {
        let gap = match limit {
            Limit::InARow if self.in_a_row >= IN_A_ROW => PAUSE,
            Limit::InARow | Limit::Gap => GAP,
        };
        self.last.map_or(due, |last| due.max(last + gap))
    }

    fn announced(&mut self, now: Instant) {
        let row = self.last.is_some_and(|last| now < last + PAUSE);
        self.in_a_row = if row {
            self.in_a_row.saturating_add(1)
        } else {
            1
        };
        self.last = Some(now);
    }
}

/// What limits the announcements of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Only the [`GAP`]: ARP.
    Gap,
    /// The [`GAP`], and a [`PAUSE`] after [`IN_A_ROW`]: neighbor advertisements.
    InARow,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    cause: Cause,
    /// The number of announcements left, including the next one.
    left: u8,
    due: Instant,
}

impl Plan {
    fn lane(&self) -> Lane {
        match (self.cause, self.left) {
            (Cause::Refresh, _) => Lane::Refresh,
            (_, BURST) => Lane::First,
            _ => Lane::Repeat,
        }
    }
}

/// A VIP that this node announces on a link.
#[derive(Clone, Debug)]
pub(super) struct Vip {
    limit: Limit,
    phase: Phase,
    past: Past,
    plan: Option<Plan>,
    /// When to defend it, if another host claims it.
    defence: Option<Instant>,
    /// When to announce it to a node that contends for it.
    contention: Option<Instant>,
    /// The number of failures in a row.
    failures: u8,
}

impl Vip {
    pub(super) const fn new(limit: Limit, phase: Phase, past: Past) -> Self {
        Self {
            limit,
            phase,
            past,
            plan: None,
            defence: None,
            contention: None,
            failures: 0,
        }
    }

    pub(super) const fn past(&self) -> Past {
        self.past
    }

    /// Starts a burst.
    pub(super) fn announce(&mut self, cause: Cause, now: Instant) {
        self.plan = Some(match self.plan {
            // A burst that has not begun yet covers this.
            Some(plan) if plan.lane() == Lane::First => Plan {
                due: plan.due.min(now),
                ..plan
            },
            _ => Plan {
                cause,
                left: BURST,
                due: now,
            },
        });
    }

    /// Whether no burst is under way.
    pub(super) fn is_announced(&self) -> bool {
        self.plan.is_none_or(|plan| plan.cause == Cause::Refresh)
    }

    /// Plans refreshes only.
    pub(super) fn keep(&mut self, now: Instant, refresh: &Refresh) {
        self.plan = self.refresh(now, refresh);
    }

    fn refresh(&self, from: Instant, refresh: &Refresh) -> Option<Plan> {
        refresh.due(self.phase, from).map(|due| Plan {
            cause: Cause::Refresh,
            left: 1,
            due,
        })
    }

    /// Restarts the count of advertisements after a change: RFC 4861 §7.2.6 limits them per change
    /// of the link-layer address.
    pub(super) const fn changed(&mut self) {
        self.past.in_a_row = 0;
    }

    /// Plans one announcement, unless the VIP was defended recently (RFC 5227 §2.4 (c)).
    pub(super) fn defend(&mut self, now: Instant) {
        let lately = self
            .past
            .defended
            .is_some_and(|defended| now < defended + DEFEND_INTERVAL);
        if !lately && self.defence.is_none() {
            self.defence = Some(now);
        }
    }

    /// Plans one announcement that only the [`CONTENTION_GAP`] delays.
    pub(super) fn contend(&mut self, now: Instant) {
        let due = self
            .past
            .last
            .map_or(now, |last| now.max(last + CONTENTION_GAP));
        self.contention.get_or_insert(due);
    }

    /// Cancels the planned defence and contention: the link is down.
    pub(super) const fn silence(&mut self) {
        self.defence = None;
        self.contention = None;
    }

    /// The lane and the time of the next announcement.
    pub(super) fn next(&self) -> Option<(Lane, Instant)> {
        if let Some(due) = self.contention {
            return Some((Lane::First, due));
        }
        let plan = self.plan.map(|plan| (plan.lane(), plan.due));
        let defence = self.defence.map(|due| (Lane::First, due));
        let (lane, due) = defence
            .into_iter()
            .chain(plan)
            .min_by_key(|(_, due)| *due)?;
        Some((lane, self.past.allowed(due, self.limit)))
    }

    /// Notes that an announcement is being sent, and returns its cause. One announcement serves
    /// everything that is due.
    pub(super) fn announced(&mut self, now: Instant, refresh: &Refresh) -> Cause {
        let plan = self.plan.filter(|plan| plan.due <= now);
        let cause = match (plan, self.defence) {
            (Some(Plan { cause, .. }), _) if cause != Cause::Refresh => cause,
            (_, Some(_)) => Cause::Defence,
            (Some(_) | None, None) => Cause::Refresh,
        };
        self.past.announced(now);
        self.contention = None;
        if self.defence.take().is_some() {
            self.past.defended = Some(now);
        }
        self.plan = match (plan, self.plan) {
            (Some(Plan { cause, left, .. }), _) if left > 1 => Some(Plan {
                cause,
                left: left - 1,
                due: now + if left == 2 { PAUSE } else { GAP },
            }),
            // A burst continues at its own time.
            (None, Some(plan)) if plan.cause != Cause::Refresh => Some(plan),
            _ => self.refresh(now + PAUSE, refresh),
        };
        cause
    }

    /// The announcement made at `time` was sent.
    pub(super) fn sent(&mut self, time: Instant) {
        if self.past.last == Some(time) {
            self.failures = 0;
        }
    }

    /// The announcement made at `time` could not be sent. It is tried again, and does not count for
    /// the limits.
    pub(super) fn failed(&mut self, time: Instant, cause: Cause, before: Past, now: Instant) {
        if self.past.last != Some(time) {
            return;
        }
        self.past = before;
        let again = now + RETRY * (1 << self.failures.min(MAX_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        if cause == Cause::Defence {
            self.defence = Some(again);
            return;
        }
        self.plan = Some(match self.plan {
            Some(plan) if plan.cause != Cause::Refresh => Plan {
                left: BURST.min(plan.left + 1),
                due: again,
                ..plan
            },
            _ => Plan {
                cause,
                left: 1,
                due: again,
            },
        });
    }
}
