//! What a command tells, to readers that may go away.

use std::io::{self, ErrorKind, Write as _};

use anyhow::Result;

/// Nobody reads the output any more: they have seen enough, and the command is done.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output")]
pub(super) struct Closed;

/// Writes to standard output.
///
/// # Errors
///
/// [`Closed`], which ends the command and is no failure of it, or what else keeps it from writing.
pub(super) fn print(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes());
    match written.and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        written => Ok(written?),
    }
}

/// Writes a line beside the output, to whoever still reads that.
pub fn note(line: &str) {
    // If nobody does, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}
