//! The responder on other kernels: each boots in a virtual machine and runs the checks of
//! `tests/src/vm`.

mod initramfs;
mod machine;
mod package;

use std::{
    iter,
    panic::resume_unwind,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Result, anyhow};

use crate::{
    cargo::{self, Built, Profile},
    debian::Archive,
    kubernetes,
    setup::{self, Need},
    tally::Tally,
    test::untried,
};
use machine::Verdict;
use package::Kernel;

/// The oldest supported kernel, those of later stable Debian releases, and the newest.
const MATRIX: [&str; 4] = ["5.10", "6.1", "6.12", package::NEWEST];

/// How many machines run at a time.
const PARALLEL: usize = 2;

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Such as `6.1`, `6.12.107` or `newest`; one of each series by default
    versions: Vec<String>,
    /// Only checks whose names contain this word; may be repeated
    #[arg(long = "check", value_name = "WORD")]
    checks: Vec<String>,
}

/// Boots the given kernels, and prints the result as one line.
pub(crate) fn kernels(options: &Options) -> Result<()> {
    setup::ensure(&[Need::Object, Need::Kernels, Need::Kubernetes])?;
    let built = cargo::build(Profile::Dev, &cargo::ALL)?;
    matrix(options, &built, Some(&kubernetes::obtain()?))?.close()
}

/// Boots the given kernels, or one of each series. Without the programs of Kubernetes, the checks
/// that need them are left out.
pub(crate) fn matrix(options: &Options, built: &Built, kubernetes: Option<&Path>) -> Result<Tally> {
    let mut tally = Tally::default();
    if !cfg!(target_arch = "x86_64") {
        tally.skip(
            "kernels: they are of Debian's x86-64 packages, and this is another machine".to_owned(),
        );
        return Ok(tally);
    }
    let kernels = fetch(&options.versions, &mut tally);
    let payload = initramfs::payload(built, kubernetes)?;

    let results = abreast(PARALLEL, &kernels, |kernel| {
        check(kernel, payload.path(), &options.checks)
    });
    results.into_iter().for_each(|it| tally.add(it));
    Ok(tally)
}

/// The kernels that are available; the others are counted as skipped.
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

/// Boots one kernel and prints the result, with the machine's output if it failed.
fn check(kernel: &Kernel, payload: &Path, checks: &[String]) -> Tally {
    let booted = initramfs::complete(payload, kernel)
        .and_then(|initramfs| machine::boot(kernel, initramfs.path(), checks));
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

/// Processes all items, `width` at a time. The results are in no order.
fn abreast<T: Sync, R: Send>(width: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let taken = AtomicUsize::new(0);
    let next = || items.get(taken.fetch_add(1, Ordering::Relaxed));
    let worker = || iter::from_fn(next).map(&work).collect::<Vec<R>>();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..width).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|it| it.join());
        results
            .flat_map(|it| it.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Condvar, Mutex},
        time::Duration,
    };

    use super::*;

    #[test]
    fn no_more_items_than_allowed_are_processed_at_a_time() {
        const WIDTH: usize = 2;
        let (met, changed) = (Mutex::new(0), Condvar::new());
        let meet_another = |item: &u32| {
            let mut met = met.lock().unwrap();
            *met += 1;
            changed.notify_all();
            let alone = |met: &mut usize| *met < WIDTH;
            let waited = changed.wait_timeout_while(met, Duration::from_secs(10), alone);
            (*item, !waited.unwrap().1.timed_out())
        };
        let mut results = abreast(WIDTH, &[1, 2, 3], meet_another);
        results.sort_unstable();
        assert_eq!(results, [(1, true), (2, true), (3, true)]);
    }
}
