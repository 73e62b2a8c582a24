//! The output of processes: each one's lines, and those of a whole lab in order of arrival.

use std::{
    fmt::{self, Write as _},
    io::{BufRead as _, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// The lines of all processes of a lab.
#[derive(Clone, Debug)]
pub(super) struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    started: Instant,
    entries: Mutex<Vec<String>>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            started: Instant::now(),
            entries: Mutex::default(),
        }))
    }

    /// Adds a line from `who`, with the time since the lab was created.
    pub(super) fn add(&self, who: &str, line: &str) {
        let entry = format!(
            "{:8.3} {who}: {line}",
            self.0.started.elapsed().as_secs_f64()
        );
        lock(&self.0.entries).push(entry);
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = lock(&self.0.entries);
        if !entries.is_empty() {
            writeln!(f, "---- what the processes of the lab said ----")?;
        }
        entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

/// A stream that a process writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Error,
}

/// The output of one process.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<(Stream, String)>,
    open_streams: usize,
}

impl Transcript {
    /// Records a stream, on a thread, until it ends.
    pub(super) fn follow(
        self: &Arc<Self>,
        stream: Stream,
        source: impl Read + Send + 'static,
        who: String,
        journal: Journal,
    ) -> Result<()> {
        lock(&self.said).open_streams += 1;
        let this = Arc::clone(self);
        thread::Builder::new()
            .name(who.clone())
            .spawn(move || {
                let mut source = BufReader::new(source);
                let mut line = Vec::new();
                // A stream that can no longer be read has ended.
                while source
                    .read_until(b'\n', &mut line)
                    .is_ok_and(|length| length > 0)
                {
                    let text = String::from_utf8_lossy(&line)
                        .trim_end_matches('\n')
                        .to_owned();
                    journal.add(&who, &text);
                    lock(&this.said).lines.push((stream, text));
                    this.more.notify_all();
                    line.clear();
                }
                lock(&this.said).open_streams -= 1;
                this.more.notify_all();
            })
            .context("starting a thread")?;
        Ok(())
    }

    /// The first line of either stream that contains `text`. `None` after `limit`, or once both
    /// streams have ended without it.
    pub(super) fn wait_for_line(&self, text: &str, limit: Duration) -> Option<String> {
        let said = self.wait(limit, |said| {
            said.open_streams == 0 || said.lines.iter().any(|(_, line)| line.contains(text))
        });
        let found = said.lines.iter().find(|(_, line)| line.contains(text));
        found.map(|(_, line)| line.clone())
    }

    /// Waits until both streams have ended, or for `limit`.
    pub(super) fn wait_for_end(&self, limit: Duration) {
        drop(self.wait(limit, |said| said.open_streams == 0));
    }

    /// All lines of a stream so far.
    pub(super) fn lines(&self, of: Stream) -> Vec<String> {
        let said = lock(&self.said);
        let lines = said.lines.iter().filter(|(stream, _)| *stream == of);
        lines.map(|(_, line)| line.clone()).collect()
    }

    fn wait(&self, limit: Duration, until: impl Fn(&Said) -> bool) -> MutexGuard<'_, Said> {
        let (said, _) = self
            .more
            .wait_timeout_while(lock(&self.said), limit, |said| !until(said))
            .unwrap_or_else(PoisonError::into_inner);
        said
    }
}

impl fmt::Display for Transcript {
    /// All lines of both streams, in order of arrival.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (_, line) in &lock(&self.said).lines {
            writeln!(text, "  {line}")?;
        }
        f.write_str(&text)
    }
}

/// A panic leaves nothing here half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
