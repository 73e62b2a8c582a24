//! A node's tables in ordinary memory, and what was recorded about frames.

use core::cell::RefCell;
use std::{collections::BTreeMap, vec::Vec};

use crate::{
    frame::{Bytes, Frame, snapshot},
    layout::{
        Counters, Event, EventKind, FilterBit, Link, Probes, SNAPSHOT_BYTES, Vip, VipKeyV4,
        VipKeyV6,
    },
    lease::{AgentLease, Change, PeersLease, Standing},
    probe::{self, Judgement},
    respond::{self, Reason, Records, Tables},
};

use super::{Outcome, Subject};

/// The longest frame for the host function, replies included.
const FRAME_BYTES_MAX: usize = 2_048;

/// A node as the responder sees it, with all its maps in ordinary memory.
#[derive(Clone, Debug)]
pub struct Node {
    /// The time, in nanoseconds of `CLOCK_BOOTTIME`.
    pub now_ns: u64,
    link: Option<Link>,
    lease: AgentLease,
    probes: Probes,
    watched: bool,
    vips_v4: BTreeMap<VipKeyV4, Vip>,
    vips_v6: BTreeMap<VipKeyV6, Vip>,
    filter: BTreeMap<u32, u64>,
    written: RefCell<Written>,
}

#[derive(Clone, Debug, Default)]
struct Written {
    counters: BTreeMap<u32, Counters>,
    reasons: BTreeMap<Reason, u64>,
    events: Vec<Event>,
    claims: Vec<Event>,
    peers: PeersLease,
}

impl Node {
    /// A node that has been up for a while, with empty tables.
    #[expect(
        clippy::new_without_default,
        reason = "a node that has just booted is another one"
    )]
    pub fn new() -> Self {
        Self {
            now_ns: 3_600_000_000_000,
            link: None,
            lease: AgentLease::default(),
            probes: Probes::NONE,
            watched: false,
            vips_v4: BTreeMap::new(),
            vips_v6: BTreeMap::new(),
            filter: BTreeMap::new(),
            written: RefCell::default(),
        }
    }

    /// All claims reported so far, even if their events have been taken.
    pub fn claims(&self) -> Vec<Event> {
        self.written.borrow().claims.clone()
    }

    fn list(&mut self, bit: FilterBit) {
        *self.filter.entry(bit.word).or_default() |= bit.mask;
    }
}

impl Subject for Node {
    fn set_link(&mut self, link: Option<Link>) {
        self.link = link;
    }

    fn set_vip_v4(&mut self, key: VipKeyV4, vip: Option<Vip>) {
        self.list(FilterBit::v4(&key.address));
        match vip {
            Some(vip) => self.vips_v4.insert(key, vip),
            None => self.vips_v4.remove(&key),
        };
    }

    fn set_vip_v6(&mut self, key: VipKeyV6, vip: Option<Vip>) {
        self.list(FilterBit::v6(&key.address));
        match vip {
            Some(vip) => self.vips_v6.insert(key, vip),
            None => self.vips_v6.remove(&key),
        };
    }

    fn set_lease(&mut self, lease: AgentLease) {
        self.lease = lease;
    }

    fn set_peers(&mut self, peers: PeersLease) {
        self.written.get_mut().peers = peers;
    }

    fn set_probes(&mut self, probes: Probes) {
        self.probes = probes;
    }

    fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn has_run_for(&self, ns: u64) -> bool {
        self.now_ns >= ns
    }

    /// Runs the host function.
    fn handle(&mut self, frame: &[u8]) -> Outcome {
        let mut frame =
            Bytes::<FRAME_BYTES_MAX>::new(frame).expect("a test's frame fits the buffer");
        let verdict = respond::handle(&mut frame, &*self);
        Outcome {
            verdict,
            frame: frame.as_slice().to_vec(),
        }
    }

    fn peers(&self) -> PeersLease {
        self.written.borrow().peers
    }

    fn counters(&self, slot: u32) -> Counters {
        let written = self.written.borrow();
        written.counters.get(&slot).copied().unwrap_or_default()
    }

    fn reason(&self, reason: Reason) -> u64 {
        let written = self.written.borrow();
        written.reasons.get(&reason).copied().unwrap_or_default()
    }

    fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.written.get_mut().events)
    }
}

impl Tables for Node {
    fn link(&self) -> Option<Link> {
        self.link
    }

    fn listed(&self, bit: FilterBit) -> bool {
        self.filter
            .get(&bit.word)
            .is_some_and(|word| word & bit.mask != 0)
    }

    fn vip_v4(&self, key: &VipKeyV4) -> Option<Vip> {
        self.vips_v4.get(key).copied()
    }

    fn vip_v6(&self, key: &VipKeyV6) -> Option<Vip> {
        self.vips_v6.get(key).copied()
    }

    fn standing(&self) -> Standing {
        Standing::of(&self.lease, &self.written.borrow().peers, self.now_ns)
    }

    fn probe_port(&self) -> u16 {
        self.probes.port
    }

    fn judge(&self, frame: &mut impl Frame, at: usize) -> Option<Judgement> {
        let mut words = frame.load(at)?;
        let peers = &mut self.written.borrow_mut().peers;
        let before = *peers;
        let store = |change| match change {
            Change::Deadline(deadline_ns) => peers.deadline_ns = deadline_ns,
            Change::Life(life) => peers.life = life,
            Change::Company(company) => peers.company = company,
            Change::Over(life) => peers.over = life,
        };
        let (probes, lease) = (&self.probes, &self.lease);
        let judgement = probe::judge(&mut words, probes, lease, &before, self.now_ns, store);
        frame.store(at, words)?;
        Some(judgement)
    }
}

impl Records for Node {
    fn watched(&self) -> bool {
        self.watched
    }

    fn count(&self, slot: u32, kind: EventKind) {
        let mut written = self.written.borrow_mut();
        let counters = written.counters.entry(slot).or_default();
        counters.last_request_ns = self.now_ns;
        match kind {
            EventKind::Answered | EventKind::Probed => counters.answered += 1,
            EventKind::Suppressed => counters.suppressed += 1,
            EventKind::Refused => counters.refused += 1,
            EventKind::Rejected | EventKind::Reply | EventKind::Claimed => {
                panic!("{kind:?} is not counted by VIP")
            }
        }
    }

    fn count_reason(&self, reason: Reason) {
        *self.written.borrow_mut().reasons.entry(reason).or_default() += 1;
    }

    fn tell(&self, frame: &impl Frame, kind: EventKind, reason: u8) {
        // The pattern must be overwritten.
        let mut bytes = [0xa5; SNAPSHOT_BYTES];
        snapshot(frame, &mut bytes);
        let event = Event {
            time_ns: self.now_ns,
            ifindex: Self::IFINDEX,
            length: frame.length() as u16,
            kind,
            reason,
            frame: bytes,
        };
        let mut written = self.written.borrow_mut();
        written.events.push(event);
        if kind == EventKind::Claimed {
            written.claims.push(event);
        }
    }

    fn trace(&self, _kind: EventKind, _reason: u8) {}
}
