//! What the program does with a frame.
//!
//! [`handle`] is the whole program except for the maps: it looks up, decides, turns the request
//! into the reply in place, and records what it did. It holds no state. Every rule cites its
//! source, and has a test of its name.
//!
//! Each path acts as soon as its verdict is known. If verdicts were collected in a value and acted
//! on later, the compiler would spill fields that not every verdict has, which the kernel's
//! verifier refuses.

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

/// The most options that are read, in units of eight bytes.
pub const MAX_OPTION_UNITS: u16 = 16;
/// The most extension headers that are followed to find a message.
const MAX_EXTENSIONS: usize = 4;

/// What the program knows when a frame arrives.
pub trait Tables {
    /// The link on which it arrived.
    fn link(&self) -> Option<Link>;
    /// Whether an address with this filter bit may have an entry.
    fn listed(&self, bit: FilterBit) -> bool;
    /// The entry of an IPv4 VIP.
    fn vip_v4(&self, key: &VipKeyV4) -> Option<Vip>;
    /// The entry of an IPv6 VIP.
    fn vip_v6(&self, key: &VipKeyV6) -> Option<Vip>;
    /// The state of the lease now.
    fn standing(&self) -> Standing;
    /// The UDP port of liveness probes; 0 if none are answered.
    fn probe_port(&self) -> u16;
    /// [Judges](crate::probe::judge) the payload at offset `at`, stores the changes of the lease,
    /// and replaces the payload by the reply. `None` if the frame is too short.
    fn judge(&self, frame: &mut impl Frame, at: usize) -> Option<Judgement>;
}

/// Where the program records what it did.
pub trait Records {
    /// Whether a watcher wants every handled frame.
    fn watched(&self) -> bool;
    /// Counts a request for the VIP of a slot, by its outcome.
    fn count(&self, slot: u32, kind: EventKind);
    /// Counts a reason.
    fn count_reason(&self, reason: Reason);
    /// Puts an event with the present frame into the ring.
    fn tell(&self, frame: &impl Frame, kind: EventKind, reason: u8);
    /// Logs the decision in a traced build.
    fn trace(&self, kind: EventKind, reason: u8);
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the node's own kernel.
    Pass,
    /// It is dropped.
    Drop,
    /// It is sent from the link on which it arrived.
    Transmit,
}

/// Handles one frame. Most frames do not concern VIPs, and are passed on because of their
/// EtherType.
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

/// What to do with a request, by the VIP's entry and the lease.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It has no entry, or the program is inert.
    NotOurs,
    /// The VIP is owned, and to be answered.
    Answer,
    /// Another node owns the VIP: the node's own kernel must not answer either.
    Suppressed,
    /// The VIP is owned, but the lease has lapsed: the node's own kernel must not answer either.
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

/// Passes a frame that looked like a request to the node's own kernel.
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

/// Reports that another MAC claims a VIP of this node.
#[inline(always)]
fn claimed(frame: &impl Frame, node: &impl Records) -> Verdict {
    node.trace(EventKind::Claimed, 0);
    node.tell(frame, EventKind::Claimed, 0);
    Verdict::Pass
}

/// Sends the request back as the reply that `write` makes of it. If there is no room for the reply,
/// `write` leaves the frame unchanged.
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
