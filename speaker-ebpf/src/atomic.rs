//! The only atomic operation that all kernels since 5.10 support.

/// Adds one to a counter. On x86-64, all earlier stores have reached the cache by then.
///
/// # Safety
///
/// `counter` points to a live, aligned word that is only ever accessed atomically.
#[inline(always)]
pub unsafe fn add(counter: *mut u64) {
    // The result is ignored, so this is an add without fetch, which kernels before 5.12 support.
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering, atomic_xadd};
        // SAFETY: guaranteed by the caller.
        let _: u64 = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: guaranteed by the caller.
        unsafe { AtomicU64::from_ptr(counter) }.fetch_add(1, Ordering::Relaxed);
    }
}
