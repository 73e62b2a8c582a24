//! Output to readers that may go away.

use std::io::{self, ErrorKind, Write as _};

use anyhow::{Context as _, Result};

/// The reader has closed the output: it has seen enough, and the command is done.
#[derive(Debug, thiserror::Error)]
#[error("the output has been closed")]
pub(super) struct Closed;

/// Writes to standard output.
///
/// # Errors
///
/// [`Closed`], which ends the command but is not a failure, or any other write error.
pub(super) fn print(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes());
    match written.and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes a line to standard error, if anybody reads it.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A count with its noun, as in `1 request` or `2 requests`.
pub(super) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}
