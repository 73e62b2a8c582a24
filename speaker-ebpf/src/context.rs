//! The frame under an XDP context.

use core::ptr;

use aya_ebpf::{helpers::bpf_xdp_adjust_tail, programs::XdpContext};
use speaker_common::frame::{Aligned, Frame, Header};

/// A frame in the driver's buffer. Each access compares against the end that the context gives:
/// that comparison is what the verifier looks for.
pub struct Packet<'a> {
    ctx: &'a XdpContext,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    /// The frame's length in bytes.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.ctx.data_end() - self.ctx.data()
    }

    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut Aligned<T>> {
        let start = self.ctx.data() + offset;
        if start + size_of::<T>() > self.ctx.data_end() {
            return None;
        }
        Some(ptr::with_exposed_provenance_mut(start))
    }
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn load<T: Header>(&self, offset: usize) -> Option<T> {
        let header = self.at::<T>(offset)?;
        // SAFETY: `at` has checked the bounds; frames and offsets are aligned to two, and any
        // bytes make a `Header`.
        Some(unsafe { header.read() }.0)
    }

    #[inline(always)]
    fn store<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        let place = self.at::<T>(offset)?;
        // SAFETY: as in `load`; the frame is ours to write until the program returns.
        unsafe { place.write(Aligned(header)) };
        Some(())
    }

    #[inline(always)]
    fn resize(&mut self, length: usize) -> Option<()> {
        let delta = length as i32 - self.length() as i32;
        if delta == 0 {
            return Some(());
        }
        // SAFETY: the context is the one that the kernel gave. All packet pointers are made anew
        // from it on the next access.
        let result = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, delta) };
        (result == 0).then_some(())
    }
}
