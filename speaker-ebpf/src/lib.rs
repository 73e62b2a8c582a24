//! The XDP program: a shell around [`speaker_common::respond`], which holds every rule.
#![no_std]
// The BPF target has no compare-and-swap, so `core` also hides the atomic add that it has.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "the compiler is pinned")
)]

pub mod atomic;
mod context;
mod maps;

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};
use speaker_common::respond::{self, Verdict};

use context::Packet;
use maps::Kernel;

pub use maps::Trace;

/// Handles one frame.
#[inline(always)]
pub fn run<T: Trace>(ctx: &XdpContext) -> u32 {
    match respond::handle(&mut Packet::new(ctx), &Kernel::<T>::new(ctx)) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Transmit => xdp_action::XDP_TX,
    }
}
