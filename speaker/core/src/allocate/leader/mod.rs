//! Leader election, and what the leader may write.
//!
//! Several controllers may run, and the Lease names the one that leads. That alone is not enough: a
//! stalled leader may continue after another one has taken over, and a write that it sent long ago
//! may arrive at any time. So the Lease is also a ledger of writes:
//!
//! 1. Before a Service's addresses are written, an entry in the Lease announces it: which Service,
//!    at which version, gets which addresses. Writes of the Lease and of the status are conditional
//!    on their version, which each write changes. A former leader fails at the Lease.
//! 2. The addresses of an entry belong to its Service until the Service is seen to be gone, or to
//!    have another version. Then the write has either taken place, and has been seen, or never
//!    will. If the write is no longer wanted, the leader makes a different one, so that the Service
//!    has another version.
//! 3. A new leader writes its name into the Lease, keeps all entries that it finds there, and only
//!    then lists all objects. Earlier writes are in these lists, and writes that may still arrive
//!    are in the entries.
//! 4. A leader whose write of the Lease has failed, or may have failed, forgets everything but what
//!    it has told the users, and starts again at rule 3.
//!
//! So at any time, the addresses that a Service can have at the API server are among those that the
//! leader has seen and those of its entries. None of them is given to another Service, unless the
//! two may share it.
//!
//! Objects are seen only through watches, never through the responses to writes, so the view never
//! goes back in time.

mod io;
mod leadership;
mod ledger;
mod reported;

use std::{collections::VecDeque, mem, time::Instant};

pub use io::{
    Change, Command, Input, Lease, Notice, Pending, PoolWrite, StatusWrite, Term, Timing, Told,
};

use self::{leadership::Leadership, reported::Reported};
use super::Allocator;

/// A controller, which leads if it can.
#[derive(Debug)]
pub struct Leader {
    me: String,
    timing: Timing,
    term: Term,
    state: State,
    is_stopping: bool,
    /// What has been reported in earlier terms.
    reported: Reported,
    commands: VecDeque<Command>,
}

#[derive(Debug)]
enum State {
    /// Another controller leads, as far as is known.
    Following {
        /// The version of the Lease, and when it was first seen.
        seen: Option<(String, Instant)>,
        read_at: Instant,
        is_reading: bool,
    },
    /// Acquiring the Lease.
    Taking {
        since: Instant,
        lease: Lease,
    },
    Leading(Box<Leadership>),
    /// Releasing the Lease.
    Leaving,
    Stopped,
}

impl Leader {
    /// A controller with this name, which must be unique.
    pub fn new(me: String, timing: Timing, now: Instant) -> Self {
        Self {
            me,
            timing,
            term: Term::default(),
            state: State::following(now),
            is_stopping: false,
            reported: Reported::default(),
            commands: VecDeque::new(),
        }
    }

    /// Handles one input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Read(lease) => self.read(lease, now),
            Input::Unread => self.read_again(now),
            Input::Swapped(version) => self.swapped(version),
            Input::NotSwapped => self.not_swapped(now),
            Input::Stop => self.is_stopping = true,
            Input::Tick => (),
            Input::Changed(term, change) => {
                if let Some(leadership) = self.leadership(term) {
                    leadership.change(change);
                }
            }
            Input::Listed(term) => {
                if let Some(leadership) = self.leadership(term) {
                    leadership.listed();
                }
            }
            Input::Wrote(term, id, is_over) => {
                if let Some(leadership) = self.leadership(term) {
                    leadership.wrote(id, is_over, now);
                }
            }
            Input::WrotePool(term, name, is_done) => {
                if let Some(leadership) = self.leadership(term) {
                    leadership.wrote_pool(&name, is_done);
                }
            }
        }
        self.run(now);
    }

    /// The next command to carry out.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Input::Tick`] is due if no other input comes first.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Following {
                read_at,
                is_reading,
                ..
            } => (!is_reading).then_some(*read_at),
            // Nothing happens until the write of the Lease has ended.
            State::Leading(leadership) if self.is_stopping => Some(leadership.over_at()),
            State::Leading(leadership) => Some(leadership.wake()),
            State::Taking { .. } | State::Leaving | State::Stopped => None,
        }
    }

    /// What the leader knows and has decided; `None` if another controller leads, or the lists are
    /// incomplete.
    pub fn allocator(&self) -> Option<&Allocator> {
        match &self.state {
            State::Leading(leadership) => leadership.allocator(),
            _ => None,
        }
    }

    /// Whether this controller holds the Lease, as far as it knows.
    pub const fn is_leading(&self) -> bool {
        matches!(self.state, State::Leading(_))
    }

    /// Whether all work after [`Input::Stop`] is done.
    pub const fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    fn leadership(&mut self, term: Term) -> Option<&mut Leadership> {
        match &mut self.state {
            State::Leading(leadership) if leadership.term() == term => Some(leadership),
            _ => None,
        }
    }

    fn read(&mut self, lease: Option<Lease>, now: Instant) {
        let State::Following {
            seen,
            read_at,
            is_reading,
        } = &mut self.state
        else {
            return;
        };
        *is_reading = false;
        *read_at = now + self.timing.retry;
        let lease = lease.unwrap_or_default();
        let is_new = seen.as_ref().map(|(version, _)| version) != lease.version.as_ref();
        if is_new {
            *seen = lease.version.clone().map(|version| (version, now));
        }
        let since = seen.as_ref().map_or(now, |(_, since)| *since);
        let is_over = now.duration_since(since) >= lease.duration;
        if lease.holder.is_empty() || lease.holder == self.me || is_over {
            let transitions = lease.transitions + i32::from(lease.version.is_some());
            let lease = Lease {
                holder: self.me.clone(),
                duration: self.timing.duration,
                transitions,
                ..lease
            };
            self.commands.push_back(Command::Swap(lease.clone()));
            self.state = State::Taking { since: now, lease };
        }
    }

    fn read_again(&mut self, now: Instant) {
        if let State::Following {
            read_at,
            is_reading,
            ..
        } = &mut self.state
        {
            *is_reading = false;
            *read_at = now + self.timing.retry;
        }
    }

    fn swapped(&mut self, version: String) {
        match mem::replace(&mut self.state, State::Stopped) {
            State::Taking { since, mut lease } => {
                lease.version = Some(version);
                self.term.0 += 1;
                self.commands.push_back(Command::Watch(self.term));
                let reported = mem::take(&mut self.reported);
                let leadership = Leadership::new(self.term, lease, self.timing, since, reported);
                self.state = State::Leading(Box::new(leadership));
            }
            State::Leading(mut leadership) => {
                leadership.swapped(version, &mut self.commands);
                self.state = State::Leading(leadership);
            }
            State::Leaving => (),
            other @ (State::Following { .. } | State::Stopped) => self.state = other,
        }
    }

    fn not_swapped(&mut self, now: Instant) {
        match self.state {
            State::Leading(_) => self.forget(now),
            State::Taking { .. } => self.state = State::following(now + self.timing.retry),
            State::Leaving => self.state = State::Stopped,
            State::Following { .. } | State::Stopped => (),
        }
    }

    fn forget(&mut self, now: Instant) {
        self.commands.push_back(Command::Forget);
        let ended = mem::replace(&mut self.state, State::following(now));
        if let State::Leading(leadership) = ended {
            self.reported = leadership.into_reported();
        }
    }

    fn run(&mut self, now: Instant) {
        match &mut self.state {
            // Another controller may lead by now: the Lease will tell.
            State::Leading(leadership) if leadership.is_over(now) => self.forget(now),
            State::Leading(leadership) if self.is_stopping => {
                if let Some(mut lease) = leadership.leave() {
                    lease.holder.clear();
                    self.commands.push_back(Command::Forget);
                    self.commands.push_back(Command::Swap(lease));
                    self.state = State::Leaving;
                }
            }
            State::Leading(leadership) => leadership.run(&mut self.commands, now),
            _ => (),
        }
        if let State::Following {
            read_at,
            is_reading,
            ..
        } = &mut self.state
        {
            if self.is_stopping {
                self.state = State::Stopped;
            } else if !*is_reading && *read_at <= now {
                *is_reading = true;
                self.commands.push_back(Command::Read);
            }
        }
    }
}

impl State {
    const fn following(read_at: Instant) -> Self {
        Self::Following {
            seen: None,
            read_at,
            is_reading: false,
        }
    }
}

#[cfg(test)]
#[path = "../leader_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "../sim_tests/mod.rs"]
mod sim;
