//! How a test that cannot run says so. The tests of `speaker`, which do not depend on the lab,
//! include this file too.

use std::{
    env,
    fmt::Display,
    fs::OpenOptions,
    io::{self, Write as _},
    thread,
};

use super::in_ci::in_ci;

/// Says on the real standard error, past the test harness, that the test on this thread is skipped,
/// and appends a line to the file that the environment variable `SPEAKER_SKIPS` names.
///
/// # Panics
///
/// In CI (the variable `CI` is set), if what is missing is `required` there: a CI that lost it would
/// test nothing.
pub(crate) fn skipped(why: &dyn Display, required: bool) {
    let test = thread::current().name().unwrap_or("test").to_owned();
    let line = format!("{test}: {why}").trim_end().replace('\n', " ");
    assert!(!(required && in_ci()), "cannot be skipped in CI: {line}");
    // Both are best effort: a test that cannot report its skip is still skipped.
    let _ = writeln!(io::stderr(), "SKIPPED {line}");
    if let Some(path) = env::var_os("SPEAKER_SKIPS") {
        let _ = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| writeln!(file, "{line}"));
    }
}
