//! A wire with delay.
//!
//! Not every kernel that the lab runs on has a queueing discipline that delays, so frames go
//! through this process: read from one interface, held, and written to another.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd as _,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags};

use super::{
    frame::Frame,
    packet::{Offload, Purpose, RawSocket, Room, wait},
};

/// Forwards frames between two interfaces, each after the same time, until it is dropped. Frames
/// held then are lost.
#[derive(Debug)]
pub(super) struct Relay {
    /// Closing it ends the thread.
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Joins two interfaces of the calling thread's network namespace.
    pub(super) fn start(one: &str, other: &str, delay: Duration) -> Result<Self> {
        let wire = Wire {
            ends: [
                RawSocket::open(one, Purpose::Relay)?,
                RawSocket::open(other, Purpose::Relay)?,
            ],
            held: VecDeque::new(),
            delay,
        };
        let (stopped, stop) = io::pipe().context("making a pipe")?;
        let thread = thread::Builder::new()
            .name(format!("relay {one}"))
            .spawn(move || wire.carry_until(&stopped))
            .context("starting a thread")?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // What a relay that panicked held is lost, as it is anyway.
            let _ = thread.join();
        }
    }
}

struct Wire {
    ends: [RawSocket; 2],
    /// The oldest first.
    held: VecDeque<Held>,
    delay: Duration,
}

struct Held {
    due: Instant,
    /// The end it leaves by.
    end: usize,
    frame: Frame,
    offload: Offload,
}

impl Wire {
    fn carry_until(mut self, stopped: &io::PipeReader) {
        let mut room = Room::default();
        loop {
            let left = self
                .held
                .front()
                .map(|held| held.due.saturating_duration_since(Instant::now()));
            let [one, other] = &self.ends;
            let mut sources = [
                PollFd::new(stopped.as_fd(), PollFlags::empty()),
                PollFd::new(one.as_fd(), PollFlags::POLLIN),
                PollFd::new(other.as_fd(), PollFlags::POLLIN),
            ];
            let waited = wait(&mut sources, left);
            if waited.is_err() || sources[0].any().unwrap_or(true) {
                return;
            }
            self.take(&mut room);
            self.forward();
        }
    }

    /// Takes the frames waiting at both ends. An end whose interface is gone has none.
    fn take(&mut self, room: &mut Room) {
        for (from, to) in [(0, 1), (1, 0)] {
            while let Ok(Some((frame, offload))) = self.ends[from].try_receive(room) {
                self.held.push_back(Held {
                    due: Instant::now() + self.delay,
                    end: to,
                    frame,
                    offload,
                });
            }
        }
    }

    /// Sends the frames that are due. A frame that an interface refuses, because it is down for
    /// instance, is lost, as on any wire.
    fn forward(&mut self) {
        while self
            .held
            .front()
            .is_some_and(|held| held.due <= Instant::now())
        {
            if let Some(held) = self.held.pop_front() {
                let _ = self.ends[held.end].send_with(&held.offload, &held.frame.bytes);
            }
        }
    }
}
