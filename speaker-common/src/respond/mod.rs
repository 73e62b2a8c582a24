//! What the program does with a frame.
//!
//! [`handle`] is the whole program but for the maps: it looks up, judges, turns the request into
//! the reply in place, and writes down what it did. It holds no state; every rule cites its
//! source, and is a test by name.
//!
//! Each way through it ends where its verdict is found. Verdicts that were gathered in a value
//! first, and acted on later, would make the compiler spill fields that not every verdict has,
//! which the kernel's verifier refuses.

mod arp;
mod ethernet;
mod nd;
mod probe;
mod reason;

pub use ethernet::payload;
pub use reason::Reason;

use crate::{
    frame::Frame,
    layout::{Action, EventKind, FilterBit, Link, Vip, VipKeyV4, VipKeyV6},
    lease::Standing,
    probe::Judgement,
    wire::ether_type,
};

/// Options read of a solicitation, in units of eight bytes.
pub const MAX_OPTION_UNITS: u16 = 16;
/// Extension headers followed in search of a message.
const MAX_EXTENSIONS: usize = 4;

/// What the program knows when a frame arrives.
pub trait Tables {
    /// The link that it came in on.
    fn link(&self) -> Option<Link>;
    /// Whether an address with this bit may have an entry.
    fn listed(&self, bit: FilterBit) -> bool;
    /// The entry of an IPv4 VIP.
    fn vip_v4(&self, key: &VipKeyV4) -> Option<Vip>;
    /// The entry of an IPv6 VIP.
    fn vip_v6(&self, key: &VipKeyV6) -> Option<Vip>;
    /// What the lease allows now.
    fn standing(&self) -> Standing;
    /// The UDP port of liveness probes; 0 where none are answered.
    fn probe_port(&self) -> u16;
    /// [Judges](crate::probe::judge) what came there, a payload that begins at `at`; takes down what
    /// it changes, and puts the answer in its place. `None` where the frame ends before it does.
    fn judge(&self, frame: &mut impl Frame, at: usize) -> Option<Judgement>;
}

/// Where the program writes down what it did.
pub trait Records {
    /// Whether somebody watches every frame that is handled.
    fn watched(&self) -> bool;
    /// Counts a request for the VIP of a slot, and what became of it.
    fn count(&self, slot: u32, kind: EventKind);
    /// Counts a reason.
    fn count_reason(&self, reason: Reason);
    /// Puts an event into the ring, with the frame as it is now.
    fn tell(&self, frame: &impl Frame, kind: EventKind, reason: u8);
    /// Says, in a traced build, what was found.
    fn trace(&self, kind: EventKind, reason: u8);
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on to the node's own kernel.
    Pass,
    /// Ends here.
    Drop,
    /// Goes back out of the link that it came in on.
    Transmit,
}

/// Handles one frame. Most frames are none of ours, and are let go on their EtherType.
#[inline(always)]
pub fn handle(frame: &mut impl Frame, node: &(impl Tables + Records)) -> Verdict {
    let Some((ether_type, payload, vlan)) = ethernet::payload(frame) else {
        return Verdict::Pass;
    };
    let handled = match ether_type {
        ether_type::ARP => arp::handle(frame, payload, vlan, node),
        ether_type::IPV6 => nd::handle(frame, payload, vlan, node),
        ether_type::IPV4 => return probe::handle_v4(frame, payload, node),
        _ => return Verdict::Pass,
    };
    handled.unwrap_or_else(|reason| reject(frame, node, reason))
}

/// What a VIP's entry and the lease say together of a request for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// None of ours, or of a time long past.
    NotOurs,
    /// Owned, and to be answered.
    Answer,
    /// Another node's: the node's own kernel must not answer either.
    Suppressed,
    /// Owned, but the lease has lapsed: as above.
    Refused,
}

impl Asked {
    #[inline(always)]
    fn of(vip: Vip, tables: &impl Tables) -> Self {
        match (tables.standing(), vip.action) {
            (Standing::Inert, _) => Self::NotOurs,
            (Standing::Valid, Action::Answer) => Self::Answer,
            (Standing::Lapsed, Action::Answer) => Self::Refused,
            (Standing::Valid | Standing::Lapsed, Action::Suppress) => Self::Suppressed,
        }
    }
}

/// Leaves a frame that looked like a request to the node's own kernel.
#[inline(always)]
fn reject(frame: &impl Frame, node: &impl Records, reason: Reason) -> Verdict {
    tell_watcher(frame, node, EventKind::Rejected, reason as u8);
    node.count_reason(reason);
    Verdict::Pass
}

/// Drops a request that neither the program nor the node's own kernel may answer.
#[inline(always)]
fn silence(frame: &impl Frame, node: &impl Records, slot: u32, kind: EventKind) -> Verdict {
    tell_watcher(frame, node, kind, 0);
    node.count(slot, kind);
    Verdict::Drop
}

/// Tells the agent of another MAC that says that a VIP of ours is its own.
#[inline(always)]
fn claimed(frame: &impl Frame, node: &impl Records) -> Verdict {
    node.trace(EventKind::Claimed, 0);
    node.tell(frame, EventKind::Claimed, 0);
    Verdict::Pass
}

/// Sends the request back as the reply that `write` makes of it. `write` leaves the frame as it
/// is where there is no room for the reply.
#[inline(always)]
fn answer<F: Frame>(
    frame: &mut F,
    node: &impl Records,
    slot: u32,
    probe: bool,
    write: impl FnOnce(&mut F) -> Option<()>,
) -> Verdict {
    let kind = if probe {
        EventKind::Probed
    } else {
        EventKind::Answered
    };
    node.trace(kind, 0);
    let watched = node.watched();
    if watched || probe {
        node.tell(frame, kind, 0);
    }
    if write(frame).is_none() {
        return reject(frame, node, Reason::NoRoom);
    }
    node.count(slot, kind);
    if watched {
        node.tell(frame, EventKind::Reply, 0);
    }
    Verdict::Transmit
}

#[inline(always)]
fn tell_watcher(frame: &impl Frame, node: &impl Records, kind: EventKind, reason: u8) {
    node.trace(kind, reason);
    if node.watched() {
        node.tell(frame, kind, reason);
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
