//! The log of the traced build, passed on to `tracing`.

use std::{
    io::{self, PipeReader, PipeWriter, pipe},
    os::fd::AsFd as _,
    thread,
};

use aya::Ebpf;
use aya_log::EbpfLogger;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use speaker_common::respond::Reason;
use tracing::{Level, debug, error, info, trace, warn};

use super::program::LoadError;
use crate::netlink;

/// The target of the traced build's log lines.
pub const LOG_TARGET: &str = "ebpf";

/// Reads the program's records for as long as the value lives.
#[derive(Debug)]
pub(super) struct Log {
    /// The reader ends when this is closed.
    _open: PipeWriter,
}

impl Log {
    /// Starts to read, on a thread of its own: aya-log reads until there are no more records, and
    /// in a storm of frames there always are.
    pub(super) fn read(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let records = EbpfLogger::init_with_logger(ebpf, ToTracing)?;
        let start = || -> io::Result<Self> {
            let (closed, open) = pipe()?;
            thread::Builder::new()
                .name("ebpf-log".into())
                .spawn(move || hand_on(records, &closed))?;
            Ok(Self { _open: open })
        };
        start().map_err(LoadError::LogReader)
    }
}

/// The level as the program knows it.
pub(super) fn number(level: Level) -> u8 {
    let level = match level {
        Level::ERROR => aya_log::Level::Error,
        Level::WARN => aya_log::Level::Warn,
        Level::INFO => aya_log::Level::Info,
        Level::DEBUG => aya_log::Level::Debug,
        Level::TRACE => aya_log::Level::Trace,
    };
    level as u8
}

fn hand_on(mut records: EbpfLogger<ToTracing>, closed: &PipeReader) {
    loop {
        let mut waited =
            [records.as_fd(), closed.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut waited, PollTimeout::NONE) {
            Ok(_) if waited[1].any() == Some(false) => records.flush(),
            Err(Errno::EINTR) => {}
            Ok(_) => return,
            Err(error) => return error!("the log of the eBPF program cannot be read: {error}"),
        }
    }
}

/// aya-log writes to the `log` crate. The level was chosen when the program was loaded,
/// independently of the agent's own.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let what = record.args().to_string();
        let what = for_people(&what).unwrap_or(what);
        match record.level() {
            log::Level::Error => error!(target: LOG_TARGET, "{what}"),
            log::Level::Warn => warn!(target: LOG_TARGET, "{what}"),
            log::Level::Info => info!(target: LOG_TARGET, "{what}"),
            log::Level::Debug => debug!(target: LOG_TARGET, "{what}"),
            log::Level::Trace => trace!(target: LOG_TARGET, "{what}"),
        }
    }

    fn flush(&self) {}
}

/// The program's text with names in place of numbers: `link 2: rejected, reason 5` becomes `eth0:
/// rejected (arp-operation)`.
fn for_people(what: &str) -> Option<String> {
    let (link, event) = what.strip_prefix("link ")?.split_once(": ")?;
    let link = netlink::name(link.parse().ok()?);
    match event.split_once(", reason ") {
        None => Some(format!("{link}: {event}")),
        Some((event, number)) => {
            let reason = Reason::from_number(number.parse().ok()?)?;
            Some(format!("{link}: {event} ({})", reason.text()))
        }
    }
}
