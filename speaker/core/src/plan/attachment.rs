//! Where the program sits for a link: on the link, on its bond, or on the parent whose VLAN it is.

use std::net::IpAddr;

use speaker_common::{layout::Vlan, wire::Mac};

use super::Entry;
use crate::{
    link::{Kind, Link},
    links::Links,
};

/// Where frames for a link are seen, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface that the program runs on.
    pub interface: u32,
    /// The tags that the link's frames carry there.
    pub vlan: Vlan,
    /// What answers name.
    pub mac: Mac,
    /// Interfaces whose index frames may bear instead: a bond's members (native XDP runs in their
    /// drivers, Linux 5.15), without those that stand by.
    pub members: Vec<u32>,
}

/// Why a link cannot carry VIPs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A member of a bond or port of a bridge: its frames belong to the master.
    #[error("belongs to {0}: use {0} instead")]
    Member(String),
    /// Part of something that takes its frames and cannot carry VIPs itself.
    #[error("belongs to {0}, which is of kind {1} and cannot carry VIPs: use another interface")]
    Taken(String, String),
    /// Not an Ethernet device that hosts resolve addresses on.
    #[error("is of kind {0}, which cannot answer ARP and Neighbor Discovery for VIPs")]
    Kind(String),
    /// Nothing that could be answered with.
    #[error("has no MAC address, so that no host resolves addresses on it")]
    NoMac,
    /// Tags are hidden from the program, and there are VLANs to tell apart.
    #[error(
        "hides VLAN tags from the program and carries {0}: VIPs of the untagged network could be \
         answered on a VLAN. Put the VIPs on a VLAN device, or on an interface without VLANs"
    )]
    HiddenTags(String),
    /// Hardware takes tags off, and cannot be kept from it.
    #[error(
        "takes the VLAN tags off what it receives and carries {vlans}: VIPs of the untagged \
         network could be answered on a VLAN ({why}). Put the VIPs on a VLAN device, or on an \
         interface without VLANs"
    )]
    StripsTags {
        /// The VLANs.
        vlans: String,
        /// Why it cannot be kept from it.
        why: String,
    },
}

impl Unsupported {
    /// Whether it is a place for VIPs but for its VLANs.
    pub(super) const fn is_of_tags(&self) -> bool {
        matches!(self, Self::HiddenTags(_) | Self::StripsTags { .. })
    }
}

impl Attachment {
    /// Where the program must sit for `link`.
    ///
    /// # Errors
    ///
    /// A kind of link that is not supported, and why.
    pub fn of(link: &Link, links: &Links) -> Result<Self, Unsupported> {
        if let Some(master) = link.master.and_then(|index| links.get(index)) {
            let name = || master.name.clone();
            match &master.kind {
                Kind::Bond { .. } | Kind::Bridge => return Err(Unsupported::Member(name())),
                Kind::Other(kind) => return Err(Unsupported::Taken(name(), kind.clone())),
                // A VRF has routes of its own, and leaves the frames of its members alone.
                Kind::Vrf => {}
                // None of these has members.
                Kind::Plain
                | Kind::Loopback
                | Kind::Veth
                | Kind::Vlan { .. }
                | Kind::Macvlan { .. } => {}
            }
        }
        if link.mac == [0; 6] {
            return Err(Unsupported::NoMac);
        }
        let here = |members| Self {
            interface: link.index,
            vlan: Vlan::default(),
            mac: link.mac,
            members,
        };
        match &link.kind {
            Kind::Plain | Kind::Veth | Kind::Bridge | Kind::Macvlan { .. } | Kind::Bond { .. } => {
                match vlans_of(link.index, links).as_slice() {
                    vlans @ [_, ..] if hides_tags(link, links) => {
                        Err(Unsupported::HiddenTags(vlans.join(", ")))
                    }
                    _ => Ok(here(in_use(link, links))),
                }
            }
            Kind::Vlan { .. } => Ok(on_parent(link, links).unwrap_or_else(|| here(Vec::new()))),
            Kind::Loopback => Err(Unsupported::Kind("loopback".into())),
            Kind::Vrf => Err(Unsupported::Kind("vrf".into())),
            Kind::Other(kind) => Err(Unsupported::Kind(kind.clone())),
        }
    }

    /// The map entry of a VIP there.
    pub(super) fn entry(&self, address: IpAddr) -> Entry {
        Entry {
            address,
            port: self.interface,
            vlan: self.vlan,
        }
    }
}

/// The interfaces that must leave VLAN tags in the frame, because VLAN devices sit on this one and
/// the program could not tell their frames from its own.
pub(super) fn must_keep_tags(interface: u32, links: &Links) -> Vec<u32> {
    let Some(link) = links.get(interface) else {
        return Vec::new();
    };
    if vlans_of(interface, links).is_empty() {
        return Vec::new();
    }
    receivers(link, links)
        .filter(|it| it.kind == Kind::Plain && it.strips_vlan_tags)
        .map(|it| it.index)
        .collect()
}

/// The interfaces whose hardware receives a link's frames: the link itself, or a bond's members. A
/// bond takes no tags off, whatever its rx-vlan-offload says, and its members do not follow it.
fn receivers<'a>(link: &'a Link, links: &'a Links) -> impl Iterator<Item = &'a Link> {
    let is_bond = matches!(link.kind, Kind::Bond { .. });
    links.iter().filter(move |it| match is_bond {
        true => it.master == Some(link.index),
        false => it.index == link.index,
    })
}

/// Whether a tag travels beside the frame, whatever rx-vlan-offload says: it does between the ends
/// of a veth pair, and the kernel has taken it off before a bridge or a macvlan sees the frame.
fn hides_tags(link: &Link, links: &Links) -> bool {
    let hides = |kind: &Kind| matches!(kind, Kind::Veth | Kind::Bridge | Kind::Macvlan { .. });
    receivers(link, links).any(|it| hides(&it.kind))
}

/// The members that a bond receives through. Broadcasts reach those that stand by too, and the bond
/// ignores them there: a program that answers would answer a second time.
fn in_use(link: &Link, links: &Links) -> Vec<u32> {
    receivers(link, links)
        .filter(|it| it.index != link.index && !it.stands_by)
        .map(|it| it.index)
        .collect()
}

/// The VLAN device's place on the interface below, where its frames can be seen tagged in the
/// driver. `None` where they cannot: the program then runs on the VLAN device itself.
fn on_parent(link: &Link, links: &Links) -> Option<Attachment> {
    let Kind::Vlan {
        parent,
        id,
        service: false,
    } = link.kind
    else {
        return None;
    };
    let parent = links.get(parent)?;
    let (root, service) = match parent.kind {
        Kind::Vlan {
            parent: root,
            id,
            service: true,
        } => (links.get(root)?, id),
        _ => (parent, 0),
    };
    let tags_visible = matches!(root.kind, Kind::Plain | Kind::Bond { .. })
        && !hides_tags(root, links)
        && receivers(root, links).all(|it| !it.strips_vlan_tags);
    // A link has one MAC in the map: a VLAN device with its own is served by itself.
    if !tags_visible || root.mac != link.mac {
        return None;
    }
    let below = Attachment::of(root, links).ok()?;
    Some(Attachment {
        vlan: Vlan { id, service },
        ..below
    })
}

/// The VLAN devices on an interface.
pub(super) fn vlans_of(interface: u32, links: &Links) -> Vec<String> {
    links
        .iter()
        .filter(|link| matches!(link.kind, Kind::Vlan { parent, .. } if parent == interface))
        .map(|link| link.name.clone())
        .collect()
}
