//! Work for every core of the machine.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;

/// Busy threads for each core.
const THREADS: usize = 2;

/// Keeps every core busy for this long.
pub fn keep_busy(span: Duration) -> Result<()> {
    let cores = thread::available_parallelism()?.get();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..THREADS * cores {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        thread::sleep(span);
        done.store(true, Ordering::Relaxed);
    });
    Ok(())
}
