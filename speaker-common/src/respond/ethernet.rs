//! The Ethernet header and its tags.

use super::{Reason, Tables};
use crate::{
    frame::Frame,
    layout::Vlan,
    wire::{
        ether_type,
        words::{Station, Stations, Tag},
    },
};

/// The offset of the EtherType in an untagged frame, in bytes.
const ETHER_TYPE: usize = size_of::<Stations>();
const UNTAGGED: usize = ETHER_TYPE + size_of::<u16>();
const ONE_TAG: usize = UNTAGGED + size_of::<Tag>();
const TWO_TAGS: usize = ONE_TAG + size_of::<Tag>();

/// The EtherType after the tags, the offset of its payload, and the tags: none, an 802.1Q tag, or
/// an 802.1ad tag and an 802.1Q tag.
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

/// Where a frame arrived, and who sent it.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    /// The port of the link on which it arrived.
    pub(super) port: u32,
    /// The MAC of that link.
    pub(super) local: Station,
    /// The Ethernet source.
    pub(super) sender: Station,
}

impl Arrival {
    /// Reads these of a frame that this host may answer: it is sent by one host, and to this host
    /// or a group that `to_group` allows.
    #[inline(always)]
    pub(super) fn of(
        frame: &impl Frame,
        tables: &impl Tables,
        to_group: impl Fn(Station) -> bool,
    ) -> Result<Self, Reason> {
        let link = tables.link().ok_or(Reason::UnknownLink)?;
        // Unreachable: the EtherType after them has been read.
        let stations = frame.load::<Stations>(0).ok_or(Reason::OtherHost)?;
        let local = Station::new(link.mac);
        if stations.destination != local && !to_group(stations.destination) {
            return Err(Reason::OtherHost);
        }
        if stations.source.is_group() {
            return Err(Reason::GroupSource);
        }
        Ok(Self {
            port: link.port,
            local,
            sender: stations.source,
        })
    }
}
