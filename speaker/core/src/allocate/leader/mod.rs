//! Who may write, and what.
//!
//! Several controllers may run; the Lease says which of them leads. That alone would not do: a
//! leader that was stalled goes on where it was when another one leads, and a write that it sent
//! long ago may arrive at any time. Hence the Lease is also a ledger:
//!
//! 1. Before the status of a Service is written, the Lease says so: which Service, of which
//!    version, is to have which addresses. Both the Lease and the status are written on condition
//!    of their version, which each write changes. Who no longer leads fails at the Lease.
//! 2. The addresses of an entry belong to its Service until the Service is seen to be gone or to
//!    have another version: then the write has taken place, and is in what was seen, or never will.
//! 3. Who becomes the leader writes itself into the Lease, with all entries that it finds there,
//!    and only then lists all objects. What was written before is in those lists, and what may
//!    yet be written is in the entries.
//! 4. A leader whose write of the Lease failed, or may have failed, forgets everything and begins
//!    anew with rule 3.
//!
//! So at any time the addresses that a Service can have at the API server are among those that the
//! leader has seen it have and those of its entries, and none of these is given to another
//! Service, unless the two may share it.
//!
//! Objects are seen through watches alone, never through the answers to writes: what is seen never
//! goes back in time.

mod io;
mod ledger;
mod reign;

use std::{collections::VecDeque, mem, time::Instant};

pub use io::{
    Change, Command, Input, Lease, Notice, Pending, PoolWrite, StatusWrite, Term, Timing, Told,
};

use self::reign::Reign;
use super::Allocator;

/// A controller: leads if it may.
#[derive(Debug)]
pub struct Leader {
    me: String,
    timing: Timing,
    term: Term,
    state: State,
    is_stopping: bool,
    commands: VecDeque<Command>,
}

#[derive(Debug)]
enum State {
    /// Another one leads, for all that is known.
    Following {
        /// The version of the Lease, and since when it has been so.
        seen: Option<(String, Instant)>,
        read_at: Instant,
        is_reading: bool,
    },
    /// The Lease is being taken.
    Taking {
        since: Instant,
        lease: Lease,
    },
    Leading(Box<Reign>),
    /// The Lease is being given back.
    Leaving,
    Stopped,
}

impl Leader {
    /// A controller of this name, which no other one has.
    pub fn new(me: String, timing: Timing, now: Instant) -> Self {
        Self {
            me,
            timing,
            term: Term::default(),
            state: State::following(now),
            is_stopping: false,
            commands: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Read(lease) => self.read(lease, now),
            Input::Unread => self.read_again(now),
            Input::Swapped(version) => self.swapped(version, now),
            Input::NotSwapped => self.not_swapped(now),
            Input::Stop => self.is_stopping = true,
            Input::Tick => (),
            Input::Changed(term, change) => {
                if let Some(reign) = self.reign(term) {
                    reign.change(change);
                }
            }
            Input::Listed(term) => {
                if let Some(reign) = self.reign(term) {
                    reign.listed();
                }
            }
            Input::Wrote(term, id, is_over) => {
                if let Some(reign) = self.reign(term) {
                    reign.wrote(id, is_over, now);
                }
            }
            Input::WrotePool(term, name, is_done) => {
                if let Some(reign) = self.reign(term) {
                    reign.wrote_pool(&name, is_done);
                }
            }
        }
        self.run(now);
    }

    /// What is to be done next.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Input::Tick`] is due, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Following {
                read_at,
                is_reading,
                ..
            } => (!is_reading).then_some(*read_at),
            State::Leading(reign) => Some(reign.wake()),
            State::Taking { .. } | State::Leaving | State::Stopped => None,
        }
    }

    /// What the leader knows and has decided; none where another one leads, or where the lists are
    /// not complete.
    pub fn allocator(&self) -> Option<&Allocator> {
        match &self.state {
            State::Leading(reign) => reign.allocator(),
            _ => None,
        }
    }

    /// Whether this one holds the Lease, for all that it knows.
    pub const fn is_leading(&self) -> bool {
        matches!(self.state, State::Leading(_))
    }

    /// Whether there is nothing left to do after [`Input::Stop`].
    pub const fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    fn reign(&mut self, term: Term) -> Option<&mut Reign> {
        match &mut self.state {
            State::Leading(reign) if reign.term() == term => Some(reign),
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

    fn swapped(&mut self, version: String, now: Instant) {
        match mem::replace(&mut self.state, State::Stopped) {
            State::Taking { since, mut lease } => {
                lease.version = Some(version);
                self.term.0 += 1;
                self.commands.push_back(Command::Watch(self.term));
                let reign = Reign::new(self.term, lease, self.timing, since);
                self.state = State::Leading(Box::new(reign));
            }
            State::Leading(mut reign) => {
                reign.swapped(version, &mut self.commands, now);
                self.state = State::Leading(reign);
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
        self.state = State::following(now);
    }

    fn run(&mut self, now: Instant) {
        match &mut self.state {
            // Whether another one leads now is not known: the Lease tells.
            State::Leading(reign) if reign.is_over(now) => self.forget(now),
            State::Leading(reign) if self.is_stopping => {
                if let Some(mut lease) = reign.leave() {
                    lease.holder.clear();
                    self.commands.push_back(Command::Forget);
                    self.commands.push_back(Command::Swap(lease));
                    self.state = State::Leaving;
                }
            }
            State::Leading(reign) => reign.run(&mut self.commands, now),
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
