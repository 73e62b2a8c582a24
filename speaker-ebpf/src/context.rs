//! The frame of an XDP context.

use core::ptr;

use aya_ebpf::{helpers::bpf_xdp_adjust_tail, programs::XdpContext};
use speaker_common::frame::{Frame, Header, RESIZABLE};

/// A frame in the driver's buffer. Each access is compared with the end that the context gives,
/// which is the comparison that the verifier requires.
pub struct Packet<'a> {
    ctx: &'a XdpContext,
    start: usize,
    end: usize,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self {
            ctx,
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.start + offset;
        if start + size_of::<T>() > self.end {
            return None;
        }
        Some(ptr::with_exposed_provenance_mut(start))
    }
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn load<T: Header>(&self, offset: usize) -> Option<T> {
        let header = self.at::<T>(offset)?;
        // SAFETY: `at` has checked the bounds, and all bytes are valid for a `Header`.
        Some(unsafe { header.read_unaligned() })
    }

    #[inline(always)]
    fn store<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        let place = self.at::<T>(offset)?;
        // SAFETY: as in `load`; the frame is ours to write until the program returns.
        unsafe { place.write_unaligned(header) };
        Some(())
    }

    #[inline(always)]
    fn resize(&mut self, length: usize) -> Option<()> {
        let delta = length as i32 - self.length() as i32;
        if delta == 0 {
            return Some(());
        }
        if self.length() > RESIZABLE {
            return None;
        }
        // SAFETY: the context is the one that the kernel gave.
        let result = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, delta) };
        // The kernel invalidates all pointers into the frame, whatever the result.
        *self = Self::new(self.ctx);
        (result == 0).then_some(())
    }
}
