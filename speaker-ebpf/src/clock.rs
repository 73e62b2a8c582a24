//! The time that the lease is judged by.

use aya_ebpf::{
    btf_maps::PerCpuArray,
    helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns},
    macros::btf_map,
};

/// Frames that one reading of the clock serves at most.
const FRAMES: u64 = 16;

#[btf_map(name = "clock")]
static CLOCK: PerCpuArray<Reading, 1> = PerCpuArray::new();

/// The last reading on this CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Reading {
    /// When, in ticks of the kernel (1 to 10 ms each).
    tick: u64,
    /// The deadline that it was compared with.
    deadline_ns: u64,
    now_ns: u64,
    /// Frames that it may still serve.
    frames: u64,
}

/// Nanoseconds of `CLOCK_BOOTTIME`, to be compared with a deadline: at most one tick behind.
///
/// To read the clock takes a frame longer than to look a VIP up, so one reading serves a few frames
/// of one tick. A deadline that has changed since is compared with the clock as it is. Where the
/// tick stands still, because the host does, the frames still served are fewer than those that a
/// driver holds back between verdict and transmission (64 of a poll), which no clock calls back.
#[inline(always)]
pub fn now_ns(deadline_ns: u64) -> u64 {
    // SAFETY: the helper takes nothing and cannot fail; it is a load from memory.
    let tick = unsafe { bpf_jiffies64() };
    let Some(last) = CLOCK.get_ptr_mut(0) else {
        return read();
    };
    // SAFETY: this CPU's own element, and the program is not preempted by itself.
    let last = unsafe { &mut *last };
    if last.frames > 0 && last.tick == tick && last.deadline_ns == deadline_ns {
        last.frames -= 1;
        return last.now_ns;
    }
    let now_ns = read();
    *last = Reading {
        tick,
        deadline_ns,
        now_ns,
        frames: FRAMES - 1,
    };
    now_ns
}

/// The clock itself.
#[inline(always)]
pub fn read() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail (Linux 5.8).
    unsafe { bpf_ktime_get_boot_ns() }
}
