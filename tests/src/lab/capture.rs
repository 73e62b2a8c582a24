//! Captures of everything that passes an interface.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags};
use pcap_file::{
    DataLink, TsResolution,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
};

use super::{
    frame::Frame,
    packet::{Purpose, RawSocket, Room, wait},
};

/// A recording of all frames that an interface sends and receives, until it is dropped.
///
/// A program that answers by `XDP_TX` does so below the point where frames are recorded: its
/// answers are visible only at the other end of the wire (`host.eth0.port.capture()`).
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    /// Closing it ends the thread.
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: RawSocket,
    record: Mutex<Record>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Record {
    frames: Vec<Frame>,
    missed: u32,
    room: Room,
}

impl Capture {
    /// Starts to record an interface of the calling thread's network namespace.
    pub(super) fn start(interface: &str) -> Result<Self> {
        let shared = Arc::new(Shared {
            socket: RawSocket::open(interface, Purpose::Record)?,
            record: Mutex::default(),
            more: Condvar::new(),
        });
        let (stopped, stop) = io::pipe().context("making a pipe")?;
        let recorder = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("capture {interface}"))
            .spawn(move || recorder.record_until(&stopped))
            .context("starting a thread")?;
        Ok(Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// All frames so far, up to the moment of the call, in the order in which the kernel
    /// recorded them.
    ///
    /// # Panics
    ///
    /// If frames arrived faster than they could be read: a recording with gaps proves nothing.
    pub fn frames(&self) -> Vec<Frame> {
        self.shared.up_to_now().frames.clone()
    }

    /// The first frame, past ones included, that `wanted` accepts, or an error after `limit` that
    /// lists the last frames.
    ///
    /// # Panics
    ///
    /// As [`frames`](Self::frames).
    pub fn wait_for(
        &self,
        mut wanted: impl FnMut(&Frame) -> bool,
        limit: Duration,
    ) -> Result<Frame> {
        let end = Instant::now() + limit;
        let mut judged = 0;
        let mut record = self.shared.up_to_now();
        loop {
            if let Some(frame) = record.frames[judged..].iter().find(|frame| wanted(frame)) {
                return Ok(frame.clone());
            }
            judged = record.frames.len();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "no such frame within {limit:?} among {}",
                    listing(&record.frames)
                );
            }
            (record, _) = self
                .shared
                .more
                .wait_timeout(record, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes all frames so far to a pcap file with nanoseconds, which Wireshark reads.
    ///
    /// # Panics
    ///
    /// As [`frames`](Self::frames).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let write = || -> Result<()> {
            let header = PcapHeader {
                datalink: DataLink::ETHERNET,
                ts_resolution: TsResolution::NanoSecond,
                ..PcapHeader::default()
            };
            let mut file = PcapWriter::with_header(File::create(path)?, header)?;
            for frame in self.frames() {
                let since_epoch = frame.at.duration_since(SystemTime::UNIX_EPOCH)?;
                let length = frame.bytes.len().try_into()?;
                file.write_packet(&PcapPacket::new(since_epoch, length, &frame.bytes))?;
            }
            Ok(())
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A recorder that panicked leaves a poisoned record; its gaps are counted.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn record_until(&self, stopped: &io::PipeReader) {
        loop {
            let mut sources = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(stopped.as_fd(), PollFlags::empty()),
            ];
            let waited = wait(&mut sources, None);
            if waited.is_err() || sources[1].any().unwrap_or(true) {
                return;
            }
            self.read(&mut self.lock());
            self.more.notify_all();
        }
    }

    /// The record, with what waits in the socket added to it.
    fn up_to_now(&self) -> MutexGuard<'_, Record> {
        let mut record = self.lock();
        self.read(&mut record);
        assert_eq!(
            record.missed, 0,
            "frames came faster than they could be recorded"
        );
        record
    }

    /// Adds what waits in the socket. A socket whose interface is gone has nothing more.
    fn read(&self, record: &mut Record) {
        while let Ok(Some((frame, _))) = self.socket.try_receive(&mut record.room) {
            record.frames.push(frame);
        }
        record.missed += self.socket.overruns().unwrap_or(0);
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a recording, one line per frame.
fn listing(frames: &[Frame]) -> String {
    const SHOWN: usize = 20;

    let mut text = format!("{} frames", frames.len());
    if frames.len() > SHOWN {
        text += &format!(", of which the last {SHOWN}");
    }
    for frame in &frames[frames.len().saturating_sub(SHOWN)..] {
        text += &format!("\n  {frame:?}");
    }
    text
}
