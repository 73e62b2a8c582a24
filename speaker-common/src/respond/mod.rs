//! What the program does with a frame.
//!
//! [`decide`] looks and judges, [`write`] turns the request into the reply in place. Neither
//! holds state; every rule cites its source, and WIRE rows are tests by name.
#![forbid(unsafe_code)]

mod arp;
mod nd;
mod reason;

pub use reason::Reason;

use network_types::{eth::EthHdr, vlan::VlanHdr};

use crate::{
    frame::Frame,
    layout::{Action, EventKind, Link, Vip, VipKeyV4, VipKeyV6, Vlan},
    lease::Standing,
    wire::{Mac, ether_type, is_group},
};

/// Options read of a solicitation, in units of eight bytes.
pub const MAX_OPTION_UNITS: u16 = 16;

/// What the program knows when a frame arrives.
pub trait Tables {
    /// The link that it came in on.
    fn link(&self) -> Option<Link>;
    /// The entry of an IPv4 VIP.
    fn vip_v4(&self, key: &VipKeyV4) -> Option<Vip>;
    /// The entry of an IPv6 VIP.
    fn vip_v6(&self, key: &VipKeyV6) -> Option<Vip>;
    /// What the lease allows now.
    fn standing(&self) -> Standing;
}

/// The verdict on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// None of our business.
    Pass,
    /// Left to the node's own kernel, and counted.
    Reject(Reason),
    /// Another MAC says that a VIP of ours is its own: never answered, told to the agent, passed.
    Claimed {
        /// The VIP's counters.
        slot: u32,
    },
    /// Asks for a VIP that this node must not answer for now: dropped, so that the node's own
    /// kernel stays silent too.
    Silence {
        /// The VIP's counters.
        slot: u32,
        /// Whose it is.
        because: Silence,
    },
    /// Asks for a VIP of ours.
    Answer(Answer),
}

/// Why a request for a known VIP is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Another node owns the VIP.
    Suppressed,
    /// This node owns it, but its lease has lapsed.
    Refused,
}

/// How to turn the request into its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The VIP's counters.
    pub slot: u32,
    /// The MAC that the reply names.
    pub mac: Mac,
    /// The asker only wanted to know whether the address is free.
    pub probe: bool,
    /// The message names another sender than the Ethernet header does.
    pub sender_differs: bool,
    protocol: Protocol,
    /// Where the ARP or IPv6 header begins.
    payload: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Arp,
    Nd,
}

impl Decision {
    /// The event that tells of the decision; `None` where there is nothing to tell.
    #[inline(always)]
    pub const fn event(&self) -> Option<EventKind> {
        match self {
            Self::Pass => None,
            Self::Reject(_) => Some(EventKind::Rejected),
            Self::Claimed { .. } => Some(EventKind::Claimed),
            Self::Silence { because, .. } => Some(match because {
                Silence::Suppressed => EventKind::Suppressed,
                Silence::Refused => EventKind::Refused,
            }),
            Self::Answer(answer) => Some(if answer.probe {
                EventKind::Probed
            } else {
                EventKind::Answered
            }),
        }
    }
}

/// Judges a frame. Most frames are none of ours, and are let go on their EtherType.
#[inline(always)]
pub fn decide(frame: &impl Frame, tables: &impl Tables) -> Decision {
    let Some((ether_type, payload, vlan)) = payload(frame) else {
        return Decision::Pass;
    };
    match ether_type {
        ether_type::ARP => arp::decide(frame, payload, vlan, tables),
        ether_type::IPV6 => nd::decide(frame, payload, vlan, tables),
        _ => Decision::Pass,
    }
}

/// Turns the request into its reply. `None` where the frame cannot be made longer; it is then as
/// it was.
#[inline(always)]
pub fn write(frame: &mut impl Frame, answer: &Answer) -> Option<()> {
    match answer.protocol {
        Protocol::Arp => arp::write(frame, answer),
        Protocol::Nd => nd::write(frame, answer),
    }
}

/// The EtherType behind the tags, where its payload begins, and the tags: none, one of 802.1Q, or
/// one of 802.1Q within one of 802.1ad.
#[inline(always)]
pub fn payload(frame: &impl Frame) -> Option<(u16, usize, Vlan)> {
    const ETHER_TYPE: usize = 2 * size_of::<Mac>();
    const UNTAGGED: usize = EthHdr::LEN;
    const ONE_TAG: usize = UNTAGGED + VlanHdr::LEN;
    const TWO_TAGS: usize = ONE_TAG + VlanHdr::LEN;

    let outer = u16::from_ne_bytes(frame.load(ETHER_TYPE)?);
    match outer {
        ether_type::DOT1Q => {
            let tag: VlanHdr = frame.load(UNTAGGED)?;
            let vlan = Vlan {
                id: vlan_id(&tag),
                service: 0,
            };
            Some((tag.ether_type, ONE_TAG, vlan))
        }
        ether_type::DOT1AD => {
            let service: VlanHdr = frame.load(UNTAGGED)?;
            if service.ether_type != ether_type::DOT1Q {
                return None;
            }
            let tag: VlanHdr = frame.load(ONE_TAG)?;
            let vlan = Vlan {
                id: vlan_id(&tag),
                service: vlan_id(&service),
            };
            Some((tag.ether_type, TWO_TAGS, vlan))
        }
        untagged => Some((untagged, UNTAGGED, Vlan::default())),
    }
}

/// The VLAN id: the low twelve bits of the tag (IEEE 802.1Q §9.6).
#[inline(always)]
fn vlan_id(tag: &VlanHdr) -> u16 {
    u16::from_be_bytes(tag.tci) & 0x0fff
}

/// The Ethernet addresses of a frame.
#[derive(Clone, Copy)]
struct Addresses {
    destination: Mac,
    source: Mac,
}

impl Addresses {
    #[inline(always)]
    fn load(frame: &impl Frame) -> Option<Self> {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = frame.load::<[u8; 12]>(0)?;
        Some(Self {
            destination: [d0, d1, d2, d3, d4, d5],
            source: [s0, s1, s2, s3, s4, s5],
        })
    }

    #[inline(always)]
    fn store(self, frame: &mut impl Frame) -> Option<()> {
        let [d0, d1, d2, d3, d4, d5] = self.destination;
        let [s0, s1, s2, s3, s4, s5] = self.source;
        frame.store(0, [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5])
    }

    /// Where the frame's reply goes, and from whom.
    #[inline(always)]
    fn reply(self, mac: Mac) -> Self {
        Self {
            destination: self.source,
            source: mac,
        }
    }
}

/// The link and the Ethernet addresses of a frame that this host may answer.
#[inline(always)]
fn addressed(
    frame: &impl Frame,
    tables: &impl Tables,
    to_us: impl Fn(&Mac, &Link) -> bool,
) -> Result<(Link, Addresses), Reason> {
    let link = tables.link().ok_or(Reason::UnknownLink)?;
    // Unreachable: an EtherType was read behind them.
    let addresses = Addresses::load(frame).ok_or(Reason::OtherHost)?;
    if !to_us(&addresses.destination, &link) {
        return Err(Reason::OtherHost);
    }
    if is_group(&addresses.source) {
        return Err(Reason::GroupSource);
    }
    Ok((link, addresses))
}

/// What a VIP's entry and the lease say together of a request for it.
enum Asked {
    NotOurs,
    Answer { slot: u32 },
    Silence(Decision),
}

impl Asked {
    #[inline(always)]
    fn of(vip: Option<Vip>, tables: &impl Tables) -> Self {
        let Some(vip) = vip else { return Self::NotOurs };
        let because = match (tables.standing(), vip.action) {
            (Standing::Inert, _) => return Self::NotOurs,
            (Standing::Valid, Action::Answer) => return Self::Answer { slot: vip.slot },
            (Standing::Lapsed, Action::Answer) => Silence::Refused,
            (Standing::Valid | Standing::Lapsed, Action::Suppress) => Silence::Suppressed,
        };
        Self::Silence(Decision::Silence {
            slot: vip.slot,
            because,
        })
    }
}

/// The slot of a VIP that this node owns, lease or no lease.
#[inline(always)]
fn owned(vip: Option<Vip>) -> Option<u32> {
    match vip {
        Some(Vip {
            action: Action::Answer,
            slot,
            ..
        }) => Some(slot),
        _ => None,
    }
}
