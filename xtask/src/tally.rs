//! Counts of tests that passed, failed, or could not run.

use anyhow::{Result, bail};

/// The result of many tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// Tests that failed.
    pub(crate) failed: usize,
    /// What could not run, and why.
    pub(crate) skipped: Vec<String>,
}

impl Tally {
    /// Counts what could not run, and prints it.
    pub(crate) fn skip(&mut self, why: String) {
        eprintln!("SKIPPED: {why}");
        self.skipped.push(why);
    }

    /// Adds another result.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }

    /// Prints the result as one line. An error if any test failed.
    pub(crate) fn close(self) -> Result<()> {
        for why in &self.skipped {
            eprintln!("skipped: {why}");
        }
        println!("{}", self.line());
        if self.failed > 0 {
            bail!(
                "{} of {} tests failed",
                self.failed,
                self.passed + self.failed
            );
        }
        Ok(())
    }

    fn line(&self) -> String {
        let line = format!("{} passed, {} failed", self.passed, self.failed);
        match self.skipped.len() {
            0 => line,
            skipped => format!("{line}, {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: usize, failed: usize, skipped: &[&str]) -> Tally {
        Tally {
            passed,
            failed,
            skipped: skipped.iter().map(|&why| why.to_owned()).collect(),
        }
    }

    #[test]
    fn a_failure_fails_and_a_skip_does_not() {
        assert!(tally(3, 0, &["lab: not root"]).close().is_ok());
        assert!(tally(3, 1, &[]).close().is_err());
    }

    #[test]
    fn skips_are_counted() {
        assert_eq!(tally(3, 0, &[]).line(), "3 passed, 0 failed");
        assert_eq!(
            tally(3, 1, &["a", "b"]).line(),
            "3 passed, 1 failed, 2 skipped"
        );
    }
}
