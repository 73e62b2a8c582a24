//! What is to be announced of one VIP on one link, and when it may be.

use std::time::{Duration, Instant};

use super::{
    Cause,
    queue::Lane,
    refresh::{Phase, Refresh},
};

/// Between two announcements. Linux ignores what changes a neighbor within a second of the last
/// change (`locktime`), and RFC 4861 §7.2.6 wants RetransTimer, one second, between two
/// advertisements; the rest is for the delays of the way.
pub(super) const GAP: Duration = Duration::from_millis(1100);
/// Before the last announcement of a burst, for who was unreachable during the first ones. After
/// as much silence, advertisements are no longer in a row.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// RFC 4861 §10: MAX_NEIGHBOR_ADVERTISEMENT.
const IN_A_ROW: u8 = 3;
/// Announcements after a change: in a row, and once after the pause.
const BURST: u8 = IN_A_ROW + 1;
/// RFC 5227 §1.1: DEFEND_INTERVAL.
pub(super) const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Before what could not be sent is tried again; doubled with each failure.
const RETRY: Duration = Duration::from_millis(100);
/// Of those doublings: the longest wait is 6.4 s.
const MAX_DOUBLINGS: u8 = 6;

/// What was announced of a VIP lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    last: Option<Instant>,
    /// Announcements less than a [`PAUSE`] apart, up to and with the last one.
    in_a_row: u8,
    defended: Option<Instant>,
}

impl Past {
    /// Until when this must be remembered, even if the VIP is given up.
    pub(super) fn matters_until(&self) -> Option<Instant> {
        let last = self.last.map(|last| last + PAUSE);
        let defended = self.defended.map(|defended| defended + DEFEND_INTERVAL);
        last.max(defended)
    }

    /// `due`, or when the next announcement is allowed if that is later.
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
    /// The [`GAP`] alone: ARP.
    Gap,
    /// The gap, and a [`PAUSE`] after [`IN_A_ROW`]: neighbor advertisements.
    InARow,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    cause: Cause,
    /// Announcements to go, this one included.
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
    /// When to defend it.
    defence: Option<Instant>,
    /// Announcements in succession that could not be sent.
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
            failures: 0,
        }
    }

    pub(super) const fn past(&self) -> Past {
        self.past
    }

    /// Starts a burst.
    pub(super) fn announce(&mut self, cause: Cause, now: Instant) {
        self.plan = Some(match self.plan {
            // The burst that has not begun yet will do.
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

    /// Nothing but refreshes.
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

    /// What hosts have heard of the VIP may no longer hold: advertisements are counted anew, for
    /// RFC 4861 §7.2.6 limits them for each change of the link-layer address.
    pub(super) const fn changed(&mut self) {
        self.past.in_a_row = 0;
    }

    /// RFC 5227 §2.4 (c): one announcement, unless there was one for the same reason lately.
    pub(super) fn defend(&mut self, now: Instant) {
        let lately = self
            .past
            .defended
            .is_some_and(|defended| now < defended + DEFEND_INTERVAL);
        if !lately && self.defence.is_none() {
            self.defence = Some(now);
        }
    }

    /// The link is down, and nobody heard the claim that was to be answered.
    pub(super) const fn silence(&mut self) {
        self.defence = None;
    }

    /// When, and how urgently, something is to be announced.
    pub(super) fn next(&self) -> Option<(Lane, Instant)> {
        let plan = self.plan.map(|plan| (plan.lane(), plan.due));
        let defence = self.defence.map(|due| (Lane::First, due));
        let (lane, due) = defence
            .into_iter()
            .chain(plan)
            .min_by_key(|(_, due)| *due)?;
        Some((lane, self.past.allowed(due, self.limit)))
    }

    /// Takes note that an announcement is being sent, and says why it is. One answers all that is
    /// due.
    pub(super) fn announced(&mut self, now: Instant, refresh: &Refresh) -> Cause {
        let plan = self.plan.filter(|plan| plan.due <= now);
        let cause = match (plan, self.defence) {
            (Some(Plan { cause, .. }), _) if cause != Cause::Refresh => cause,
            (_, Some(_)) => Cause::Defence,
            (Some(_) | None, None) => Cause::Refresh,
        };
        self.past.announced(now);
        if self.defence.take().is_some() {
            self.past.defended = Some(now);
        }
        self.plan = match (plan, self.plan) {
            (Some(Plan { cause, left, .. }), _) if left > 1 => Some(Plan {
                cause,
                left: left - 1,
                due: now + if left == 2 { PAUSE } else { GAP },
            }),
            // The burst goes on at its own time.
            (None, Some(plan)) if plan.cause != Cause::Refresh => Some(plan),
            _ => self.refresh(now + PAUSE, refresh),
        };
        cause
    }

    /// The announcement of `time` was sent.
    pub(super) fn sent(&mut self, time: Instant) {
        if self.past.last == Some(time) {
            self.failures = 0;
        }
    }

    /// The announcement that was to be sent at `time` was not: nobody has heard it, so it counts
    /// for no limit, and is tried again.
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
