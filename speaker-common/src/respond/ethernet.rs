//! The Ethernet header and its tags.

use network_types::{eth::EthHdr, vlan::VlanHdr};

use super::{Reason, Tables};
use crate::{
    frame::Frame,
    layout::{Link, Vlan},
    wire::{Mac, ether_type, is_group},
};

/// The EtherType behind the tags, where its payload begins, and the tags: none, one of 802.1Q, or
/// one of 802.1Q within one of 802.1ad.
#[inline(always)]
pub(super) fn payload(frame: &impl Frame) -> Option<(u16, usize, Vlan)> {
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
pub(super) struct Addresses {
    pub(super) destination: Mac,
    pub(super) source: Mac,
}

impl Addresses {
    #[inline(always)]
    pub(super) fn load(frame: &impl Frame) -> Option<Self> {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = frame.load::<[u8; 12]>(0)?;
        Some(Self {
            destination: [d0, d1, d2, d3, d4, d5],
            source: [s0, s1, s2, s3, s4, s5],
        })
    }

    #[inline(always)]
    pub(super) fn store(self, frame: &mut impl Frame) -> Option<()> {
        let [d0, d1, d2, d3, d4, d5] = self.destination;
        let [s0, s1, s2, s3, s4, s5] = self.source;
        frame.store(0, [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5])
    }

    /// Where the frame's reply goes, and from whom.
    #[inline(always)]
    pub(super) fn reply(self, mac: Mac) -> Self {
        Self {
            destination: self.source,
            source: mac,
        }
    }
}

/// The link and the Ethernet addresses of a frame that this host may answer.
#[inline(always)]
pub(super) fn addressed(
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
