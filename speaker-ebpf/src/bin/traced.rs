//! The same program, which logs every decision through aya-log.
#![no_std]
#![no_main]

use aya_ebpf::{macros::xdp, programs::XdpContext};
use aya_log_ebpf::{debug, info, warn};
use speaker_common::layout::EventKind;
use speaker_ebpf::Trace;

struct Logged;

impl Trace for Logged {
    #[inline(always)]
    fn judged(ctx: &XdpContext, kind: EventKind, reason: u8) {
        let ifindex = ctx.ingress_ifindex();
        match kind {
            EventKind::Rejected => debug!(ctx, "link {}: rejected, reason {}", ifindex, reason),
            EventKind::Answered => debug!(ctx, "link {}: answered", ifindex),
            EventKind::Suppressed => debug!(ctx, "link {}: suppressed", ifindex),
            EventKind::Refused => info!(ctx, "link {}: refused, the lease has lapsed", ifindex),
            EventKind::Claimed => warn!(ctx, "link {}: a VIP of ours is claimed", ifindex),
            EventKind::Probed => {
                info!(ctx, "link {}: another host probes one of our VIPs", ifindex)
            }
            EventKind::Reply => {}
        }
    }
}

/// Answers for VIPs. It reads only the first bytes of a frame, and so accepts fragmented frames: if
/// it did not, drivers would refuse it on links with jumbo frames.
#[xdp(frags)]
pub fn speaker(ctx: XdpContext) -> u32 {
    speaker_ebpf::run::<Logged>(&ctx)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
