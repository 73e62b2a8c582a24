//! The yardsticks of the benchmarks: minimal XDP programs, and one that gives the program under
//! test a fresh request on every run.
#![no_std]
#![no_main]

use core::ptr;

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, HashMap, ProgramArray},
    helpers::bpf_ktime_get_boot_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use speaker_common::{
    layout::{MAX_VIPS, Vip, VipKeyV4, VipKeyV6, Vlan},
    wire::words::{Arp, NdPacket},
};
use speaker_ebpf::atomic;

/// A frame that holds a solicitation with its option, or an ARP request and padding.
const SHORT_BYTES: usize = 86;
/// A frame that holds a liveness probe over IPv4, and padding.
const LONG_BYTES: usize = 110;
/// A frame in whole words, zero-padded, which is cheap to copy.
type Request = [u64; LONG_BYTES.div_ceil(8)];
/// The most requests that take turns: a power of two.
const REQUESTS_MAX: usize = 65_536;

#[btf_map(name = "requests")]
static REQUESTS: Array<Request, REQUESTS_MAX> = Array::new();
/// The number of the turn, and the number of requests less one.
#[btf_map(name = "turn")]
static TURN: Array<[u64; 2], 1> = Array::new();
/// Maps like those of VIPs.
#[btf_map(name = "table_v4")]
static TABLE_V4: HashMap<VipKeyV4, Vip, MAX_VIPS> = HashMap::new();
#[btf_map(name = "table_v6")]
static TABLE_V6: HashMap<VipKeyV6, Vip, MAX_VIPS> = HashMap::new();
/// The program under test.
#[btf_map(name = "under_test")]
static UNDER_TEST: ProgramArray<1> = ProgramArray::new();

/// Passes every frame.
#[xdp(frags)]
pub fn pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Sends every frame back with its MACs swapped.
#[xdp(frags)]
pub fn swap(ctx: XdpContext) -> u32 {
    let Some(macs) = frame::<[u16; 6]>(&ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    let [d0, d1, d2, s0, s1, s2] = macs;
    // Three half-words per MAC: frames are aligned to two.
    (*d0, *d1, *d2, *s0, *s1, *s2) = (*s0, *s1, *s2, *d0, *d1, *d2);
    xdp_action::XDP_TX
}

/// Reads the clock of the lease, and passes the frame.
#[xdp(frags)]
pub fn clock(_ctx: XdpContext) -> u32 {
    // SAFETY: the helper takes nothing and cannot fail.
    match unsafe { bpf_ktime_get_boot_ns() } {
        0 => xdp_action::XDP_ABORTED,
        _ => xdp_action::XDP_PASS,
    }
}

/// Looks up the target of an ARP request, and passes the frame if it is found.
#[xdp(frags)]
pub fn lookup_v4(ctx: XdpContext) -> u32 {
    let Some(arp) = payload::<Arp>(&ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    let key = VipKeyV4 {
        address: arp.tpa.to_ne_bytes(),
        port: 0,
        vlan: Vlan::default(),
    };
    // SAFETY: nothing is read behind the pointer.
    found(unsafe { TABLE_V4.get(key) })
}

/// Looks up the target of a solicitation, and passes the frame if it is found.
#[xdp(frags)]
pub fn lookup_v6(ctx: XdpContext) -> u32 {
    let Some(packet) = payload::<NdPacket>(&ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    let key = VipKeyV6 {
        address: packet.message.target.bytes(),
        port: 0,
        vlan: Vlan::default(),
    };
    // SAFETY: nothing is read behind the pointer.
    found(unsafe { TABLE_V6.get(key) })
}

#[inline(always)]
fn found(vip: Option<&Vip>) -> u32 {
    match vip {
        Some(_) => xdp_action::XDP_PASS,
        None => xdp_action::XDP_ABORTED,
    }
}

/// Overwrites the frame with the next request and calls the program under test. An answered frame
/// is no request any more, so repetitions need a fresh one.
#[xdp(frags)]
pub fn fresh(ctx: XdpContext) -> u32 {
    let Some(turn) = TURN.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: a live array element; one test runs at a time.
    let [next, mask] = unsafe { *turn };
    let Some(request) = REQUESTS.get((next & mask) as u32) else {
        return xdp_action::XDP_ABORTED;
    };
    if let Some(frame) = frame::<[u16; LONG_BYTES / 2]>(&ctx) {
        copy::<LONG_BYTES>(request, frame.as_mut_ptr());
    } else if let Some(frame) = frame::<[u16; SHORT_BYTES / 2]>(&ctx) {
        copy::<SHORT_BYTES>(request, frame.as_mut_ptr());
    } else {
        return xdp_action::XDP_ABORTED;
    }
    // A NIC has written a frame long before the program reads it. Here the program would wait for
    // the stores above at each word that spans two of them. The locked add waits for them first.
    // SAFETY: the first word of a live array element, aligned to eight.
    unsafe { atomic::add(turn.cast()) };
    // SAFETY: the context is the one that the kernel gave. On success this does not return.
    unsafe { UNDER_TEST.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// Overwrites a frame of this length with the first bytes of a request.
#[inline(always)]
fn copy<const BYTES: usize>(request: &Request, frame: *mut u16) {
    const { assert!(BYTES % 8 == 6, "whole words, a half one and two bytes") };
    let frame: *mut u64 = frame.cast();
    // SAFETY: within the frame's bytes. Test runs place frames at multiples of eight.
    unsafe {
        let mut at = 0;
        while at < BYTES / 8 {
            frame.add(at).write(request[at]);
            at += 1;
        }
        let last = request[BYTES / 8];
        let end = frame.add(at).cast::<u32>();
        end.write(last as u32);
        end.add(1).cast::<u16>().write((last >> 32) as u16);
    }
}

/// The header behind the Ethernet header, if the frame is long enough.
#[inline(always)]
fn payload<T: Copy>(ctx: &XdpContext) -> Option<T> {
    const ETHERNET: usize = 14;
    let start = ctx.data() + ETHERNET;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    let header = ptr::with_exposed_provenance::<T>(start);
    // SAFETY: the bounds have been checked, and all bytes are valid for the types used.
    Some(unsafe { header.read_unaligned() })
}

/// The start of the frame, if it is long enough.
#[inline(always)]
#[expect(
    clippy::mut_from_ref,
    reason = "the context is a pointer: what it points to is not borrowed"
)]
fn frame<T>(ctx: &XdpContext) -> Option<&mut T> {
    if ctx.data() + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bounds have been checked, and all bytes are valid for the types used, which are
    // aligned to two. The frame is ours until the program returns, and is borrowed once.
    Some(unsafe { &mut *ptr::with_exposed_provenance_mut(ctx.data()) })
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
