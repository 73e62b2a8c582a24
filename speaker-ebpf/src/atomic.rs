//! The one atomic operation that every kernel since 5.10 has.

/// Adds one to a counter. On x86-64, what was stored before has reached the cache by then.
///
/// # Safety
///
/// `counter` points to a live, aligned word that is only ever accessed atomically.
#[inline(always)]
pub unsafe fn add(counter: *mut u64) {
    // The sum is not used: an add without fetch, which kernels before 5.12 know.
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering, atomic_xadd};
        // SAFETY: by the caller.
        let _: u64 = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: by the caller.
        unsafe { AtomicU64::from_ptr(counter) }.fetch_add(1, Ordering::Relaxed);
    }
}
