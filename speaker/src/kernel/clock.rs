//! The lease's clock.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_BOOTTIME`, as the XDP program reads it: since boot, including time
/// suspended.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock since 2.6.39");
    let seconds = u64::try_from(now.tv_sec()).expect("the clock begins at zero");
    let nanoseconds = u64::try_from(now.tv_nsec()).expect("less than a second");
    seconds * 1_000_000_000 + nanoseconds
}
