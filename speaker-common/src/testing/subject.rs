//! The subject of the rule tests.

use std::vec::Vec;

use crate::{
    layout::{Counters, Event, Link, Probes, Vip, VipKeyV4, VipKeyV6},
    lease::{AgentLease, PeersLease},
    respond::{Reason, Verdict},
};

/// The outcome of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it went.
    pub verdict: Verdict,
    /// Its bytes then.
    pub frame: Vec<u8>,
}

/// Something that handles frames, with its tables and records.
///
/// Frames come in on the one interface [`Subject::IFINDEX`].
pub trait Subject {
    /// The interface that frames come in on.
    const IFINDEX: u32 = 1;

    /// Enters the link of that interface, or removes it.
    fn set_link(&mut self, link: Option<Link>);
    /// Enters an IPv4 VIP, or removes it.
    fn set_vip_v4(&mut self, key: VipKeyV4, vip: Option<Vip>);
    /// Enters an IPv6 VIP, or removes it.
    fn set_vip_v6(&mut self, key: VipKeyV6, vip: Option<Vip>);
    /// Writes the agent's side of the lease.
    fn set_lease(&mut self, lease: AgentLease);
    /// Writes the peers' side of the lease.
    fn set_peers(&mut self, peers: PeersLease);
    /// Says which probes are answered.
    fn set_probes(&mut self, probes: Probes);
    /// Turns the sample of every frame on or off.
    fn set_watched(&mut self, watched: bool);
    /// The time that the lease is judged by, in nanoseconds of `CLOCK_BOOTTIME`.
    fn now_ns(&self) -> u64;
    /// Whether the clock has run for this long, so that something can be this long ago. If not, the
    /// subject must report loudly that the rule was skipped.
    fn has_run_for(&self, ns: u64) -> bool;

    /// Handles a frame.
    fn handle(&mut self, frame: &[u8]) -> Outcome;

    /// The peers' side of the lease.
    fn peers(&self) -> PeersLease;
    /// The counters of a slot.
    fn counters(&self, slot: u32) -> Counters;
    /// How often a reason was counted.
    fn reason(&self, reason: Reason) -> u64;
    /// Takes the events reported so far, the oldest first.
    fn take_events(&mut self) -> Vec<Event>;
}

/// The lease of a node that knows of no other, until the agent's deadline.
pub fn alone_until(agent_deadline_ns: u64) -> AgentLease {
    AgentLease {
        life: 1,
        agent_deadline_ns,
        alone: 1,
        ..AgentLease::default()
    }
}
