//! The log of the traced build, passed on to `tracing`.

use aya::Ebpf;
use aya_log::EbpfLogger;
use speaker_common::respond::Reason;
use tokio::task::JoinHandle;
use tracing::{Level, debug, error, info, trace, warn};

use super::wait::Readable;
use crate::netlink;

/// The target of the traced build's log lines.
pub const LOG_TARGET: &str = "ebpf";

/// A task that reads the program's records for as long as the value lives.
#[derive(Debug)]
pub(super) struct Log {
    reader: JoinHandle<()>,
}

impl Log {
    /// Starts to read. Runs on the current tokio runtime.
    pub(super) fn read(ebpf: &mut Ebpf) -> Result<Self, aya_log::Error> {
        let records = EbpfLogger::init_with_logger(ebpf, ToTracing)?;
        Ok(Self {
            reader: tokio::spawn(hand_on(records)),
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.reader.abort();
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

async fn hand_on(mut records: EbpfLogger<ToTracing>) {
    let readable = match Readable::new(&records) {
        Ok(readable) => readable,
        Err(error) => return error!("eBPF log output is lost: {error}"),
    };
    while readable.more().await.is_ok() {
        records.flush();
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
