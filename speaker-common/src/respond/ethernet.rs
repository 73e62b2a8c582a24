//! The Ethernet header and its tags.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Reason, Tables};
use crate::{
    frame::Frame,
    layout::Vlan,
    wire::{Mac, checksum::Sum, ether_type},
};

/// Where an untagged frame has its EtherType.
const ETHER_TYPE: usize = size_of::<Addresses>();
const UNTAGGED: usize = ETHER_TYPE + size_of::<u16>();
const ONE_TAG: usize = UNTAGGED + size_of::<Tag>();
const TWO_TAGS: usize = ONE_TAG + size_of::<Tag>();

/// What follows the EtherType of a tag.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct Tag {
    /// Priority, drop eligibility, and the VLAN id in the low twelve bits (IEEE 802.1Q §9.6).
    control: u16,
    ether_type: u16,
}

impl Tag {
    #[inline(always)]
    fn vlan(self) -> u16 {
        u16::from_be(self.control) & 0x0fff
    }
}

/// The EtherType behind the tags, where its payload begins, and the tags: none, one of 802.1Q, or
/// one of 802.1Q within one of 802.1ad.
#[inline(always)]
pub fn payload(frame: &impl Frame) -> Option<(u16, usize, Vlan)> {
    let outer = frame.load(ETHER_TYPE)?;
    match outer {
        ether_type::DOT1Q => {
            let tag: Tag = frame.load(UNTAGGED)?;
            let vlan = Vlan {
                id: tag.vlan(),
                service: 0,
            };
            Some((tag.ether_type, ONE_TAG, vlan))
        }
        ether_type::DOT1AD => {
            let service: Tag = frame.load(UNTAGGED)?;
            if service.ether_type != ether_type::DOT1Q {
                return None;
            }
            let tag: Tag = frame.load(ONE_TAG)?;
            let vlan = Vlan {
                id: tag.vlan(),
                service: service.vlan(),
            };
            Some((tag.ether_type, TWO_TAGS, vlan))
        }
        untagged => Some((untagged, UNTAGGED, Vlan::default())),
    }
}

/// A MAC in two words, as they lie in a frame: the compiler keeps it in registers.
#[repr(C, packed)]
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub(super) struct Station {
    first: u32,
    last: u16,
}

impl Station {
    #[inline(always)]
    pub(super) const fn new([a, b, c, d, e, f]: Mac) -> Self {
        Self {
            first: u32::from_ne_bytes([a, b, c, d]),
            last: u16::from_ne_bytes([e, f]),
        }
    }

    /// Its part of a checksum, at an even offset.
    #[inline(always)]
    pub(super) fn sum(self) -> Sum {
        let Self { first, last } = self;
        Sum::of(&first.to_ne_bytes()) + Sum::of(&(last as u32).to_ne_bytes())
    }

    /// The group bit is the lowest of the first byte.
    #[inline(always)]
    pub(super) const fn is_group(self) -> bool {
        self.first.to_be() >> 24 & 1 != 0
    }
}

/// The Ethernet addresses of a frame.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub(super) struct Addresses {
    pub(super) destination: Station,
    pub(super) source: Station,
}

impl Addresses {
    #[inline(always)]
    pub(super) fn load(frame: &impl Frame) -> Option<Self> {
        frame.load(0)
    }

    #[inline(always)]
    pub(super) fn store(self, frame: &mut impl Frame) -> Option<()> {
        frame.store(0, self)
    }
}

/// Where a frame came in and who sent it.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    /// The port of the link that it came in on.
    pub(super) port: u32,
    /// The MAC of that link.
    pub(super) local: Station,
    /// The Ethernet source.
    pub(super) sender: Station,
}

impl Arrival {
    /// Of a frame that this host may answer: sent to it by one host, or to the groups that
    /// `to_group` allows.
    #[inline(always)]
    pub(super) fn of(
        frame: &impl Frame,
        tables: &impl Tables,
        to_group: impl Fn(Station) -> bool,
    ) -> Result<Self, Reason> {
        let link = tables.link().ok_or(Reason::UnknownLink)?;
        // Unreachable: an EtherType was read behind them.
        let addresses = Addresses::load(frame).ok_or(Reason::OtherHost)?;
        let local = Station::new(link.mac);
        if addresses.destination != local && !to_group(addresses.destination) {
            return Err(Reason::OtherHost);
        }
        if addresses.source.is_group() {
            return Err(Reason::GroupSource);
        }
        Ok(Self {
            port: link.port,
            local,
            sender: addresses.source,
        })
    }
}
