//! The maps, and what the program reads and writes in them.

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

/// The agent maps the memory of these, to read and write words at a time.
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
/// The payload of a probe while it is judged: it does not fit the stack.
#[btf_map(name = "scratch")]
static SCRATCH: PerCpuArray<Words, 1> = PerCpuArray::new();
#[btf_map(name = "tap")]
static TAP: Array<Tap, 1> = Array::new();
// The kernel knows no type of a ring's records, and libbpf refuses a map that names one.
#[btf_map(name = "events")]
static EVENTS: RingBuf<(), EVENT_RING_BYTES> = RingBuf::new();

/// What the traced build says of a frame; the normal build says nothing.
pub trait Trace {
    /// A frame that is ours has been judged.
    fn judged(ctx: &XdpContext, kind: EventKind, reason: u8);
}

/// The maps as one frame sees them.
pub struct Kernel<'a, T> {
    ctx: &'a XdpContext,
    /// When the lease was judged, which comes before anything is counted.
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
        // SAFETY: a copy is taken at once; an element recycled in between is another valid entry.
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
        // SAFETY: this CPU's own element, and the program is not preempted by itself.
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
            // SAFETY: as above; the one before is not used any more.
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
        // SAFETY: the pointer is to a live array element, aligned to eight; all its users add
        // atomically or, for the time, store a whole word.
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
            // SAFETY: this CPU's own element, and the program is not preempted by itself.
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

/// Puts an event into the ring, with the frame as the context shows it; false where it is full.
///
/// A function of its own: the copy has many paths, and the verifier forgets them when it returns.
#[inline(never)]
fn tell(ctx: *mut xdp_md, kind: EventKind, reason: u8) -> bool {
    let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) else {
        return false;
    };
    let ctx = XdpContext::new(ctx);
    let frame = Packet::new(&ctx);
    let event = entry.as_mut_ptr();
    // SAFETY: the entry is a whole `Event` of ours until it is submitted, and all its fields are
    // written. The ring's memory holds what an earlier record left: it is initialised.
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

/// Judges what lies in `scratch`.
///
/// A global function in the kernel's sense: the verifier looks at it once, not once for each way
/// that leads to it. It takes and gives numbers alone.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_payload() -> u32 {
    let (Some(words), Some(probes), Some(peers_place)) =
        (SCRATCH.get_ptr_mut(0), PROBES.get(0), PEERS.get_ptr_mut(0))
    else {
        return FOREIGN;
    };
    // SAFETY: as for who filled it, which waits.
    let words = unsafe { &mut *words };
    // The clock comes last: what has been read is no younger than it.
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

/// The agent's side of the lease, with no life where it is just being written.
///
/// Relied on: the verifier and the compiler keep volatile accesses whole and in order. So does
/// x86-64; a CPU that lets loads pass each other may see a life together with words of the one
/// before, for as long as these take to reach it. The agent owns nothing between two lives.
#[inline(always)]
fn agent() -> AgentLease {
    // The array has its one element always; a lease that cannot be read is none.
    let Some(lease) = LEASE.get_ptr(0) else {
        return AgentLease::default();
    };
    // SAFETY: the pointer is to a live array element, aligned to eight, of which any bytes mean
    // something; whoever writes it stores whole words.
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

/// The peers' side of the lease: its life before the deadline that belongs to it.
#[inline(always)]
fn peers() -> PeersLease {
    let Some(peers) = PEERS.get_ptr(0) else {
        return PeersLease::default();
    };
    // SAFETY: as of the agent's side.
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

/// Nanoseconds of `CLOCK_BOOTTIME`. Of all that an answer costs, this costs most; but a reading
/// kept from an earlier frame would let a host that was paused answer on a lease that is long over.
#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail (Linux 5.8).
    unsafe { bpf_ktime_get_boot_ns() }
}
