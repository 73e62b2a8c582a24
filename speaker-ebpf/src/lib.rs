//! The XDP program: a shell around [`speaker_common::respond`], which holds every rule.
#![no_std]
// The BPF target has no compare-and-swap, so `core` hides the atomic add that it does have.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "the compiler is pinned")
)]

mod context;
mod maps;

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};
use speaker_common::{
    layout::EventKind,
    respond::{self, Answer, Decision, Reason},
};

use context::Packet;
use maps::Kernel;

/// What the traced build says of a frame; the normal build says nothing.
pub trait Trace {
    /// A frame that is ours has been judged.
    fn judged(ctx: &XdpContext, kind: EventKind, reason: u8);
}

/// Judges one frame and does what the verdict says.
#[inline(always)]
pub fn run<T: Trace>(ctx: &XdpContext) -> u32 {
    let mut packet = Packet::new(ctx);
    let kernel = Kernel::new(ctx);
    let decision = respond::decide(&packet, &kernel);
    let Some(kind) = decision.event() else {
        return xdp_action::XDP_PASS;
    };
    let reason = match decision {
        Decision::Reject(reason) => reason as u8,
        Decision::Pass
        | Decision::Claimed { .. }
        | Decision::Silence { .. }
        | Decision::Answer(_) => 0,
    };
    T::judged(ctx, kind, reason);

    let watched = maps::watched();
    if watched || matches!(kind, EventKind::Claimed | EventKind::Probed) {
        kernel.tell(&packet, kind, reason);
    }
    match decision {
        Decision::Pass => xdp_action::XDP_PASS,
        Decision::Reject(reason) => {
            maps::count_reason(reason);
            xdp_action::XDP_PASS
        }
        Decision::Claimed { .. } => xdp_action::XDP_PASS,
        Decision::Silence { slot, because: _ } => {
            kernel.count(slot, kind);
            xdp_action::XDP_DROP
        }
        Decision::Answer(answer) => reply(&mut packet, &kernel, &answer, watched),
    }
}

#[inline(always)]
fn reply(packet: &mut Packet<'_>, kernel: &Kernel<'_>, answer: &Answer, watched: bool) -> u32 {
    if respond::write(packet, answer).is_none() {
        maps::count_reason(Reason::NoRoom);
        return xdp_action::XDP_PASS;
    }
    if answer.sender_differs {
        maps::count_reason(Reason::SenderDiffers);
    }
    kernel.count(answer.slot, EventKind::Answered);
    if watched {
        kernel.tell(packet, EventKind::Reply, 0);
    }
    xdp_action::XDP_TX
}
