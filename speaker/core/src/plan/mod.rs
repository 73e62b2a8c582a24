//! Where VIPs are answered: a pure function of the intent and of the links.

mod attachment;
mod choice;
#[cfg(test)]
mod tests;

pub use attachment::{Attachment, Unsupported};
pub use choice::{Choice, EXCLUDED};

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use speaker_common::{layout, wire::Mac};

use crate::{
    cluster::LinkInfo,
    intent::{Interfaces, Wanted},
    link::{IPV6_MTU_MIN, Link},
    links::Links,
};

/// A VIP on a link: the unit of announcements and of status output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The VIP.
    pub address: IpAddr,
    /// Index of the link through which clients reach it.
    pub link: u32,
}

/// A key of the VIP maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The VIP.
    pub address: IpAddr,
    /// The port of [`layout::Link`].
    pub port: u32,
    /// The VLAN on that port.
    pub vlan: layout::Vlan,
}

/// What the kernel should hold, and what should be announced where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The interfaces on which the program runs.
    pub attach: BTreeSet<u32>,
    /// Interfaces among these, and among their members, whose hardware must leave VLAN tags in
    /// frames.
    pub keep_tags: BTreeSet<u32>,
    /// The `links` map, by interface index.
    pub links: BTreeMap<u32, layout::Link>,
    /// Each VIP on each of its links, with the map entry that answers for it.
    pub places: BTreeMap<Place, Placed>,
    /// Map entries on links where the VIP is not announced, and where the node's own kernel, which
    /// has the address too (kube-proxy in IPVS mode), must not answer.
    pub silent: BTreeSet<Entry>,
    /// VIPs that this node may own but that have no place here, with the reason.
    pub absent: BTreeMap<IpAddr, Absent>,
    /// The interface on which the program answers other nodes' probes, or why it cannot; `None` if
    /// there are no other nodes.
    pub probed: Option<Result<u32, Unprobed>>,
}

/// What a plan depends on, apart from intent and links.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// The links that VIPs may be on.
    pub choice: Choice,
    /// The address at which other nodes probe this one; `None` if there are no others.
    pub probed: Option<IpAddr>,
    /// Interfaces whose hardware cannot be stopped from removing VLAN tags, with the reason.
    pub stripping: BTreeMap<u32, String>,
}

/// How a VIP is answered on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The map entry.
    pub entry: Entry,
    /// The interface on which the program answers: the link itself, its bond, or the parent of the
    /// VLAN.
    pub attached: u32,
    /// The MAC in answers and announcements.
    pub mac: Mac,
    /// Whether the link is up and has carrier, so that announcements are sent.
    pub up: bool,
}

/// Why a VIP has no place on this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// The advertisement names interfaces, but this node has none of them.
    #[error("no interface {0} on this node")]
    NoSuchInterface(String),
    /// This node has the interfaces, but the agent may not use them.
    #[error("interface {0} is not one that the agent may use (--interface)")]
    NotChosen(String),
    /// The link cannot carry VIPs.
    #[error("interface {0} {1}")]
    Unsupported(String, Unsupported),
    /// There is no IPv6 on the link.
    #[error(
        "interface {0} has an MTU of {1} bytes, and IPv6 needs {least}: raise it, or use another \
         interface",
        least = IPV6_MTU_MIN
    )]
    MtuTooSmall(String, u32),
    /// The VIP is the node's own address.
    #[error("other nodes reach this node itself at this address: give the Service another one")]
    Own,
    /// The node has no usable interface.
    #[error("this node has no interface to answer on (see --interface)")]
    NoInterface,
}

/// Why the program cannot answer other nodes' probes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unprobed {
    /// No link has the address at which they arrive.
    #[error(
        "no interface of this node has the address {0}: if it has another one now, restart the \
         agent (see --gossip-bind)"
    )]
    NoLink(IpAddr),
    /// They arrive on a link where the program cannot run.
    #[error("interface {0} {1}")]
    Unsupported(String, Unsupported),
}

/// The links on which VIPs could be answered, as reported to other nodes. `obstacle` returns why
/// the program cannot run at an attachment, if so.
pub fn usable(
    links: &Links,
    site: &Site,
    obstacle: impl Fn(&Attachment) -> Option<String>,
) -> Vec<LinkInfo> {
    links
        .iter()
        .filter(|link| site.choice.admits(link, links))
        .filter_map(|link| {
            let (mac, obstacle) = match site.attachment(link, links) {
                Ok(attachment) => (attachment.mac, obstacle(&attachment)),
                Err(reason) if reason.is_of_tags() => (link.mac, Some(reason.to_string())),
                Err(_) => return None,
            };
            Some(LinkInfo {
                name: link.name.clone(),
                mac,
                up: link.is_up(),
                subnets: link.addresses.iter().copied().collect(),
                obstacle,
            })
        })
        .collect()
}

impl Site {
    /// Where the program must run for a link, or why it cannot.
    fn attachment(&self, link: &Link, links: &Links) -> Result<Attachment, Unsupported> {
        let attachment = Attachment::of(link, links)?;
        if attachment.vlan == layout::Vlan::default() {
            let must_not = attachment::must_keep_tags(attachment.interface, links).into_iter();
            let mut refusals = must_not.filter_map(|index| self.stripping.get(&index));
            if let Some(why) = refusals.next() {
                return Err(Unsupported::StripsTags {
                    vlans: attachment::vlans_of(attachment.interface, links).join(", "),
                    why: why.clone(),
                });
            }
        }
        Ok(attachment)
    }
}

impl Plan {
    /// Places VIPs on links.
    pub fn new(wanted: &Wanted, links: &Links, site: &Site) -> Self {
        let mut usable = BTreeMap::new();
        let mut unusable = BTreeMap::new();
        // An interface in `stripping` is tried again, and may keep the tags this time.
        let mut stripping = BTreeSet::new();
        for link in links.iter().filter(|link| site.choice.admits(link, links)) {
            match site.attachment(link, links) {
                Ok(attachment) => {
                    usable.insert(link.index, attachment);
                }
                Err(reason) => {
                    if let Unsupported::StripsTags { .. } = reason {
                        stripping.insert(link.index);
                    }
                    unusable.insert(link.name.as_str(), reason);
                }
            }
        }

        // A node may have hundreds of links, most of them pods', and thousands of VIPs.
        let addresses = links.iter().flat_map(|link| &link.addresses);
        let held: BTreeSet<IpAddr> = addresses.map(|(address, _)| *address).collect();
        let all: Vec<&Link> = usable
            .keys()
            .filter_map(|index| links.get(*index))
            .collect();
        let mut plan = Self::default();
        for (&address, vip) in &wanted.vips {
            if site.probed == Some(address) {
                // With an entry for it, the node would be cut off.
                plan.absent.insert(address, Absent::Own);
                continue;
            }
            let near = in_subnet_or_all(address, &all);
            if held.contains(&address) {
                for link in &near {
                    let attachment = &usable[&link.index];
                    plan.enter(attachment);
                    plan.silent.insert(attachment.entry(address));
                }
            }
            let Some(interfaces) = vip.interfaces_on(&wanted.node) else {
                continue;
            };
            if *interfaces == Interfaces::All
                && let Some(absent) = hidden(address, &near, links, &unusable)
            {
                plan.absent.insert(address, absent);
                continue;
            }
            let mut places: Vec<&Link> = match interfaces {
                Interfaces::Named(names) => {
                    let named = all.iter().filter(|it| names.contains(&it.name));
                    named.copied().collect()
                }
                Interfaces::All => near,
            };
            let too_small = places
                .extract_if(.., |link| address.is_ipv6() && !link.has_ipv6())
                .last();
            if places.is_empty() {
                let reason = match too_small {
                    Some(link) => Absent::MtuTooSmall(link.name.clone(), link.mtu),
                    None => absent(interfaces, links, &unusable),
                };
                plan.absent.insert(address, reason);
            }
            for link in places {
                plan.place(address, link, &usable[&link.index]);
            }
        }
        for placed in plan.places.values() {
            plan.silent.remove(&placed.entry);
        }
        plan.keep_tags = plan
            .attach
            .union(&stripping)
            .flat_map(|&index| attachment::must_keep_tags(index, links))
            .collect();
        plan.probed = site
            .probed
            .map(|address| plan.answer_probes(address, links));
        plan
    }

    /// Has the program answer on the interface where other nodes' probes arrive, even if it has no
    /// VIPs and the operator has not chosen it for VIPs: a node whose kernel does not answer probes
    /// counts as down as soon as its agent stalls.
    fn answer_probes(&mut self, address: IpAddr, links: &Links) -> Result<u32, Unprobed> {
        let mut holders = links.iter().filter(|link| link.holds(address));
        let link = holders.next().ok_or(Unprobed::NoLink(address))?;
        let attachment = Attachment::of(link, links)
            .map_err(|reason| Unprobed::Unsupported(link.name.clone(), reason))?;
        self.enter(&attachment);
        Ok(attachment.interface)
    }

    /// All map entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let places = self.places.values().map(|placed| placed.entry);
        places.chain(self.silent.iter().copied())
    }

    fn place(&mut self, address: IpAddr, link: &Link, attachment: &Attachment) {
        self.enter(attachment);
        self.places.insert(
            Place {
                address,
                link: link.index,
            },
            Placed {
                entry: attachment.entry(address),
                attached: attachment.interface,
                mac: attachment.mac,
                up: link.is_up(),
            },
        );
    }

    /// Adds what the program needs to see the frames of an attachment.
    fn enter(&mut self, attachment: &Attachment) {
        let Attachment {
            interface,
            vlan: _,
            mac,
            members,
        } = attachment;
        self.attach.insert(*interface);
        let map_link = layout::Link::new(*mac, *interface);
        self.links.insert(*interface, map_link);
        self.links
            .extend(members.iter().map(|&member| (member, map_link)));
    }
}

/// The links in the VIP's subnet; if there are none, all links, since the network may route the VIP
/// to any.
fn in_subnet_or_all<'a>(address: IpAddr, links: &[&'a Link]) -> Vec<&'a Link> {
    let near: Vec<_> = links
        .iter()
        .copied()
        .filter(|link| link.has_subnet_of(address))
        .collect();
    if near.is_empty() {
        return links.to_vec();
    }
    near
}

/// Why a VIP is not placed on other links: the only link in its subnet cannot tell its requests
/// from those of VLANs.
fn hidden(
    address: IpAddr,
    near: &[&Link],
    links: &Links,
    unusable: &BTreeMap<&str, Unsupported>,
) -> Option<Absent> {
    let has_subnet = |link: &&Link| link.has_subnet_of(address);
    if near.iter().any(has_subnet) {
        return None;
    }
    unusable.iter().find_map(|(name, reason)| {
        let hides = reason.is_of_tags() && links.named(name).as_ref().is_some_and(has_subnet);
        hides.then(|| Absent::Unsupported((*name).to_owned(), reason.clone()))
    })
}

fn absent(
    interfaces: &Interfaces,
    links: &Links,
    unusable: &BTreeMap<&str, Unsupported>,
) -> Absent {
    let Interfaces::Named(names) = interfaces else {
        return match unusable.first_key_value() {
            Some((name, reason)) => Absent::Unsupported((*name).to_owned(), reason.clone()),
            None => Absent::NoInterface,
        };
    };
    for name in names {
        if let Some(reason) = unusable.get(name.as_str()) {
            return Absent::Unsupported(name.clone(), reason.clone());
        }
    }
    let all = || names.iter().cloned().collect::<Vec<_>>().join(", ");
    match names.iter().find(|name| links.named(name).is_some()) {
        Some(name) => Absent::NotChosen(name.clone()),
        None => Absent::NoSuchInterface(all()),
    }
}
