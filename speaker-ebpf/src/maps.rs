//! The maps, and how the program reads and writes them.

use core::{cell::Cell, marker::PhantomData};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_md},
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    helpers::bpf_ktime_get_boot_ns,
    macros::btf_map,
    programs::XdpContext,
};
use speaker_common::{
    frame::{Frame, snapshot},
    layout::{
        Counters, EVENT_RING_BYTES, Event, EventKind, FILTER_WORDS, FilterBit, LINK_CELLS, Link,
        LinkCell, MAX_SLOTS, MAX_VIPS, Probes, Tap, Vip, VipKeyV4, VipKeyV6,
    },
    lease::{AgentLease, Change, PeersLease, Standing},
    probe::{self, Judgement, Words},
    respond::{Reason, Records, Tables},
};

use crate::{atomic::add, context::Packet};

/// The agent maps these into its memory, to read and write single words.
const MAPPED: usize = BPF_F_MMAPABLE as usize;

#[btf_map(name = "links")]
static LINKS: Array<LinkCell, LINK_CELLS> = Array::new();
#[btf_map(name = "filter")]
static FILTER: Array<u64, FILTER_WORDS> = Array::new();
#[btf_map(name = "vips_v4")]
static VIPS_V4: HashMap<VipKeyV4, Vip, MAX_VIPS> = HashMap::new();
#[btf_map(name = "vips_v6")]
static VIPS_V6: HashMap<VipKeyV6, Vip, MAX_VIPS> = HashMap::new();
#[btf_map(name = "counters")]
static COUNTERS: Array<Counters, MAX_SLOTS> = Array::new();
#[btf_map(name = "reasons")]
static REASONS: PerCpuArray<u64, { Reason::ALL.len() }> = PerCpuArray::new();
#[btf_map(name = "lease")]
static LEASE: Array<AgentLease, 1, MAPPED> = Array::new();
#[btf_map(name = "peers")]
static PEERS: Array<PeersLease, 1, MAPPED> = Array::new();
#[btf_map(name = "probes")]
static PROBES: Array<Probes, 1> = Array::new();
/// The payload of a probe while it is judged: it does not fit on the stack.
#[btf_map(name = "scratch")]
static SCRATCH: PerCpuArray<Words, 1> = PerCpuArray::new();
#[btf_map(name = "tap")]
static TAP: Array<Tap, 1> = Array::new();
// The kernel has no record type for rings, and libbpf refuses a map that names one.
#[btf_map(name = "events")]
static EVENTS: RingBuf<(), EVENT_RING_BYTES> = RingBuf::new();

/// Logs decisions in the traced build; the normal build logs nothing.
pub trait Trace {
    /// Logs the decision about a frame.
    fn judged(ctx: &XdpContext, kind: EventKind, reason: u8);
}

/// The maps, while one frame is handled.
pub struct Kernel<'a, T> {
    ctx: &'a XdpContext,
    /// The time at which the lease was judged. That happens before anything is counted.
    now_ns: Cell<u64>,
    trace: PhantomData<T>,
}

impl<'a, T> Kernel<'a, T> {
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self {
            ctx,
            now_ns: Cell::new(0),
            trace: PhantomData,
        }
    }
}

impl<T> Tables for Kernel<'_, T> {
    #[inline(always)]
    fn link(&self) -> Option<Link> {
        let ifindex = self.ctx.ingress_ifindex() as u32;
        for cell in LinkCell::of(ifindex) {
            let cell = LINKS.get(cell)?;
            if cell.ifindex == ifindex {
                return Some(cell.link);
            }
        }
        None
    }

    #[inline(always)]
    fn listed(&self, bit: FilterBit) -> bool {
        FILTER
            .get(bit.word)
            .is_some_and(|word| word & bit.mask != 0)
    }

    #[inline(always)]
    fn vip_v4(&self, key: &VipKeyV4) -> Option<Vip> {
        // SAFETY: the element is copied at once; if it is recycled meanwhile, it is another valid
        // one.
        unsafe { VIPS_V4.get(key) }.copied()
    }

    #[inline(always)]
    fn vip_v6(&self, key: &VipKeyV6) -> Option<Vip> {
        // SAFETY: as for IPv4.
        unsafe { VIPS_V6.get(key) }.copied()
    }

    #[inline(always)]
    fn standing(&self) -> Standing {
        let (agent, peers) = (agent(), peers());
        let now_ns = now_ns();
        self.now_ns.set(now_ns);
        Standing::of(&agent, &peers, now_ns)
    }

    #[inline(always)]
    fn probe_port(&self) -> u16 {
        PROBES.get(0).map_or(0, |probes| probes.port)
    }

    #[inline(always)]
    fn judge(&self, frame: &mut impl Frame, at: usize) -> Option<Judgement> {
        let place = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: the element belongs to this CPU, and the program does not preempt itself.
        let words = unsafe { &mut *place };
        let mut offset = at;
        for word in words.iter_mut() {
            *word = frame.load(offset)?;
            offset += size_of::<u64>();
        }
        let judgement = match judge_payload() {
            PASSED => Judgement::Passed,
            RENEWED => Judgement::Renewed,
            ANSWERED => Judgement::Answered,
            _ => Judgement::Foreign,
        };
        if judgement == Judgement::Answered {
            // SAFETY: as above; the former reference is not used any more.
            let words = unsafe { &*place };
            let mut offset = at;
            for word in words {
                frame.store(offset, *word)?;
                offset += size_of::<u64>();
            }
        }
        Some(judgement)
    }
}

impl<T: Trace> Records for Kernel<'_, T> {
    #[inline(always)]
    fn watched(&self) -> bool {
        TAP.get(0).is_some_and(|tap| tap.watched != 0)
    }

    #[inline(always)]
    fn count(&self, slot: u32, kind: EventKind) {
        let Some(counters) = COUNTERS.get_ptr_mut(slot) else {
            return;
        };
        // SAFETY: the pointer is to a live array element, aligned to eight. All its users add
        // atomically, or store a whole word (the time).
        unsafe {
            match kind {
                EventKind::Answered | EventKind::Probed => add(&raw mut (*counters).answered),
                EventKind::Suppressed => add(&raw mut (*counters).suppressed),
                EventKind::Refused => add(&raw mut (*counters).refused),
                EventKind::Rejected | EventKind::Reply | EventKind::Claimed => {}
            }
            (&raw mut (*counters).last_request_ns).write_volatile(self.now_ns.get());
        }
    }

    #[inline(always)]
    fn count_reason(&self, reason: Reason) {
        if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
            // SAFETY: the element belongs to this CPU, and the program does not preempt itself.
            unsafe { *count += 1 };
        }
    }

    #[inline(always)]
    fn tell(&self, _frame: &impl Frame, kind: EventKind, reason: u8) {
        if !tell(self.ctx.ctx, kind, reason) {
            self.count_reason(Reason::EventLost);
        }
    }

    #[inline(always)]
    fn trace(&self, kind: EventKind, reason: u8) {
        T::judged(self.ctx, kind, reason);
    }
}

/// Puts an event with the present frame into the ring; false if the ring is full.
///
/// Not inlined: the copy has many paths, which the verifier forgets when the function returns.
#[inline(never)]
fn tell(ctx: *mut xdp_md, kind: EventKind, reason: u8) -> bool {
    let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) else {
        return false;
    };
    let ctx = XdpContext::new(ctx);
    let frame = Packet::new(&ctx);
    let event = entry.as_mut_ptr();
    // SAFETY: the entry is a whole `Event` that is ours until it is submitted, and all its fields
    // are written. The ring's memory is initialised: it holds what earlier records left.
    unsafe {
        (&raw mut (*event).time_ns).write(now_ns());
        (&raw mut (*event).ifindex).write(ctx.ingress_ifindex() as u32);
        (&raw mut (*event).length).write(frame.length() as u16);
        (&raw mut (*event).kind).write(kind);
        (&raw mut (*event).reason).write(reason);
        snapshot(&frame, &mut (*event).frame);
    }
    entry.submit(0);
    true
}

/// Judges the payload in `scratch`.
///
/// A global function in the kernel's sense, which the verifier checks once instead of once per path
/// that leads to it. Such a function takes and returns only numbers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_payload() -> u32 {
    let (Some(words), Some(probes), Some(peers_place)) =
        (SCRATCH.get_ptr_mut(0), PROBES.get(0), PEERS.get_ptr_mut(0))
    else {
        return FOREIGN;
    };
    // SAFETY: as in the caller, which does not use it meanwhile.
    let words = unsafe { &mut *words };
    // The clock is read last: no value read before is newer.
    let (agent, peers) = (agent(), peers());
    let judgement = probe::judge(words, probes, &agent, &peers, now_ns(), |change| {
        // SAFETY: the pointer is to a live array element, aligned to eight, of which whole words
        // are stored.
        unsafe {
            match change {
                Change::Deadline(deadline_ns) => {
                    (&raw mut (*peers_place).deadline_ns).write_volatile(deadline_ns);
                }
                Change::Life(life) => (&raw mut (*peers_place).life).write_volatile(life),
                Change::Company(company) => {
                    (&raw mut (*peers_place).company).write_volatile(company);
                }
                Change::Over(life) => (&raw mut (*peers_place).over).write_volatile(life),
            }
        }
    });
    match judgement {
        Judgement::Foreign => FOREIGN,
        Judgement::Passed => PASSED,
        Judgement::Renewed => RENEWED,
        Judgement::Answered => ANSWERED,
    }
}

const FOREIGN: u32 = 0;
const PASSED: u32 = 1;
const RENEWED: u32 = 2;
const ANSWERED: u32 = 3;

/// Reads the agent's side of the lease; without a life if it is just being written.
///
/// This relies on the compiler and the verifier to keep volatile accesses whole and in order, as
/// x86-64 does. A CPU that reorders loads may briefly see a life with words of the one before; the
/// agent owns nothing between two lives.
#[inline(always)]
fn agent() -> AgentLease {
    // The array always has its element. Without it, there would be no lease.
    let Some(lease) = LEASE.get_ptr(0) else {
        return AgentLease::default();
    };
    // SAFETY: the pointer is to a live array element, aligned to eight, for which all bytes are
    // valid, and which is written in whole words.
    unsafe {
        let life = (&raw const (*lease).life).read_volatile();
        let agent_deadline_ns = (&raw const (*lease).agent_deadline_ns).read_volatile();
        let heartbeat_ns = (&raw const (*lease).heartbeat_ns).read_volatile();
        let peers_lease_ns = (&raw const (*lease).peers_lease_ns).read_volatile();
        let alone = (&raw const (*lease).alone).read_volatile();
        let flags = (&raw const (*lease).flags).read_volatile();
        let still = (&raw const (*lease).life).read_volatile() == life;
        AgentLease {
            life: if still { life } else { 0 },
            agent_deadline_ns,
            heartbeat_ns,
            peers_lease_ns,
            alone,
            flags,
        }
    }
}

/// Reads the peers' side of the lease: the life before the deadline that belongs to it.
#[inline(always)]
fn peers() -> PeersLease {
    let Some(peers) = PEERS.get_ptr(0) else {
        return PeersLease::default();
    };
    // SAFETY: as for the agent's side.
    unsafe {
        let life = (&raw const (*peers).life).read_volatile();
        PeersLease {
            life,
            deadline_ns: (&raw const (*peers).deadline_ns).read_volatile(),
            over: (&raw const (*peers).over).read_volatile(),
            company: (&raw const (*peers).company).read_volatile(),
            unused: 0,
        }
    }
}

/// Nanoseconds of `CLOCK_BOOTTIME`. Reading the clock is the largest part of the cost of an answer;
/// but with a cached reading, a host that was paused could answer on a lease that ended long ago.
#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail (Linux 5.8).
    unsafe { bpf_ktime_get_boot_ns() }
}
