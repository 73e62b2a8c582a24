//! The program that the agent attaches.
#![no_std]
#![no_main]

use aya_ebpf::{macros::xdp, programs::XdpContext};
use speaker_common::layout::EventKind;
use speaker_ebpf::Trace;

struct Silent;

impl Trace for Silent {
    #[inline(always)]
    fn judged(_ctx: &XdpContext, _kind: EventKind, _reason: u8) {}
}

/// Answers for VIPs. It reads only the first bytes of a frame, and so accepts fragmented frames: if
/// it did not, drivers would refuse it on links with jumbo frames.
#[xdp(frags)]
pub fn speaker(ctx: XdpContext) -> u32 {
    speaker_ebpf::run::<Silent>(&ctx)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
