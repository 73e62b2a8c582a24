//! The responder on other kernels: each boots in a virtual machine and runs the checks of
//! `tests/src/vm`.

mod initramfs;
mod machine;
mod package;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Result, anyhow};

use crate::{
    cargo::{self, Built, Profile},
    debian::Archive,
    setup::{self, Need},
    tally::Tally,
    test::untried,
};
use machine::Verdict;
use package::Kernel;

/// The oldest kernel that is supported, Debian's stable ones since, and the newest.
const MATRIX: [&str; 4] = ["5.10", "6.1", "6.12", package::NEWEST];

/// Machines at a time.
const PARALLEL: usize = 2;

/// Boots the given kernels, and ends with one line for all.
pub(crate) fn kernels(versions: &[String]) -> Result<()> {
    setup::ensure(&[Need::Object, Need::Kernels])?;
    let built = cargo::build(Profile::Dev, &cargo::ALL)?;
    matrix(versions, &built)?.close()
}

/// Boots the given kernels, or one of each series.
pub(crate) fn matrix(versions: &[String], built: &Built) -> Result<Tally> {
    let mut tally = Tally::default();
    if !cfg!(target_arch = "x86_64") {
        tally.skip(
            "kernels: they are of Debian's x86-64 packages, and this is another machine".to_owned(),
        );
        return Ok(tally);
    }
    let kernels = fetch(versions, &mut tally);
    let payload = initramfs::payload(built)?;

    let waiting = Mutex::new(kernels.iter());
    let results = Mutex::new(&mut tally);
    thread::scope(|scope| {
        for _ in 0..PARALLEL.min(kernels.len()) {
            scope.spawn(|| {
                while let Some(kernel) = locked(&waiting).next() {
                    let result = check(kernel, payload.path());
                    locked(&results).add(result);
                }
            });
        }
    });
    Ok(tally)
}

/// Those of the kernels that can be had; the rest are not tried.
fn fetch(versions: &[String], tally: &mut Tally) -> Vec<Kernel> {
    let all = MATRIX.map(str::to_owned);
    let wanted = if versions.is_empty() { &all } else { versions };
    let archive = Archive::open();
    let mut kernels = Vec::new();
    for version in wanted {
        let kernel = match &archive {
            Ok(archive) => Kernel::fetch(archive, version),
            Err(error) => Err(anyhow!("{error:#}")),
        };
        match kernel.or_else(|error| Kernel::cached(version).ok_or(error)) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => untried(tally, format!("kernel {version}: {error:#}")),
        }
    }
    kernels
}

/// Boots one kernel and says how it went; what the machine wrote is shown where it failed.
fn check(kernel: &Kernel, payload: &Path) -> Tally {
    let booted = initramfs::complete(payload, kernel)
        .and_then(|initramfs| machine::boot(kernel, initramfs.path()));
    let (console, verdict) = match booted {
        Ok(run) => (run.console, run.verdict),
        Err(error) => (String::new(), Verdict::Broken(format!("{error:#}"))),
    };
    let release = &kernel.release;
    match verdict {
        Verdict::Checked {
            passed,
            failed: 0,
            took,
        } => {
            println!(
                "kernel {release}: {passed} passed in {:.1} s",
                took.as_secs_f32()
            );
            Tally {
                passed,
                ..Tally::default()
            }
        }
        Verdict::Checked { passed, failed, .. } => {
            println!("kernel {release}: {failed} FAILED\n{console}");
            Tally {
                passed,
                failed,
                ..Tally::default()
            }
        }
        Verdict::Broken(why) => {
            println!("kernel {release}: FAILED: {why}\n{console}");
            Tally {
                failed: 1,
                ..Tally::default()
            }
        }
    }
}

/// A panic elsewhere leaves what is behind the locks whole.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
