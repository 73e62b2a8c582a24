//! Where the program runs for a link: on the link, on its bond, or on the parent of its VLAN.

use std::net::IpAddr;

use speaker_common::{layout::Vlan, wire::Mac};

use super::Entry;
use crate::{
    link::{Kind, Link},
    links::Links,
};

/// Where the program sees the frames of a link, and in what form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface on which the program runs.
    pub interface: u32,
    /// The tags that the link's frames carry there.
    pub vlan: Vlan,
    /// The MAC in answers.
    pub mac: Mac,
    /// Other interfaces whose index frames may carry: the active members of a bond, in whose
    /// drivers native XDP runs (Linux 5.15).
    pub members: Vec<u32>,
}

/// Why a link cannot carry VIPs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A member of a bond or port of a bridge: its frames belong to the master.
    #[error("belongs to {0}: use {0} instead")]
    Member(String),
    /// Its master takes its frames, and cannot carry VIPs.
    #[error("belongs to {0}, which is of kind {1} and cannot carry VIPs: use another interface")]
    Taken(String, String),
    /// Not an Ethernet device on which hosts resolve addresses.
    #[error("is of kind {0}, which cannot answer ARP and Neighbor Discovery for VIPs")]
    Kind(String),
    /// There is no MAC to answer with.
    #[error("has no MAC address, so hosts cannot resolve addresses on it")]
    NoMac,
    /// The program does not see tags, but there are VLANs to tell apart.
    #[error(
        "hides VLAN tags from the program and carries {0}: VIPs of the untagged network could be \
         answered on a VLAN. Put the VIPs on a VLAN device, or on an interface without VLANs"
    )]
    HiddenTags(String),
    /// The hardware removes tags and cannot be stopped.
    #[error(
        "strips VLAN tags from received frames and carries {vlans}: VIPs of the untagged \
         network could be answered on a VLAN ({why}). Put the VIPs on a VLAN device, or on an \
         interface without VLANs"
    )]
    StripsTags {
        /// The VLANs.
        vlans: String,
        /// Why the hardware cannot be stopped.
        why: String,
    },
}

impl Unsupported {
    /// Whether the link could carry VIPs if it had no VLANs.
    pub(super) const fn is_of_tags(&self) -> bool {
        matches!(self, Self::HiddenTags(_) | Self::StripsTags { .. })
    }
}

impl Attachment {
    /// Where the program must run for `link`.
    ///
    /// # Errors
    ///
    /// Why the link cannot carry VIPs.
    pub fn of(link: &Link, links: &Links) -> Result<Self, Unsupported> {
        if let Some(master) = link.master.and_then(|index| links.get(index)) {
            let name = || master.name.clone();
            match &master.kind {
                Kind::Bond { .. } | Kind::Bridge => return Err(Unsupported::Member(name())),
                Kind::Other(kind) => return Err(Unsupported::Taken(name(), kind.clone())),
                // A VRF has routes of its own, and leaves the frames of its members alone.
                Kind::Vrf => {}
                // These have no members.
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

/// The interfaces whose hardware must leave VLAN tags in frames, because VLAN devices sit on this
/// one and the program could not tell their frames from untagged ones. Those in other network
/// namespaces are out of sight.
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
/// bond removes no tags, whatever its rx-vlan-offload says, and its members do not inherit that.
fn receivers<'a>(link: &'a Link, links: &'a Links) -> impl Iterator<Item = &'a Link> {
    let is_bond = matches!(link.kind, Kind::Bond { .. });
    links.iter().filter(move |it| match is_bond {
        true => it.master == Some(link.index),
        false => it.index == link.index,
    })
}

/// Whether tags are not in the frame, whatever rx-vlan-offload says: between the ends of a veth
/// pair they travel beside it, and the kernel removes them before a bridge or a macvlan sees the
/// frame.
fn hides_tags(link: &Link, links: &Links) -> bool {
    let hides = |kind: &Kind| matches!(kind, Kind::Veth | Kind::Bridge | Kind::Macvlan { .. });
    receivers(link, links).any(|it| hides(&it.kind))
}

/// The members through which a bond receives. Broadcasts also reach standby members, where the bond
/// ignores them: a program there would answer a second time.
fn in_use(link: &Link, links: &Links) -> Vec<u32> {
    receivers(link, links)
        .filter(|it| it.index != link.index && !it.stands_by)
        .map(|it| it.index)
        .collect()
}

/// The attachment of a VLAN device to the interface below, where native XDP sees its frames with
/// their tag. `None` if it does not: the program then runs on the VLAN device itself.
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
    // An interface has one MAC in the map, so a VLAN device with its own MAC needs its own program.
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
