//! Which nodes may own which VIPs: a pure function of the intent and of the links of each node.

mod reach;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    cluster::{LinkInfo, NodeName, Placement},
    intent::{Group, NotAnnounced, Wanted, WantedVip},
};
use reach::{Reach, are_alike, reach_of, reach_through};

/// A node that may own VIPs.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// The address at which other nodes reach it; `None` if there are no others.
    pub address: Option<IpAddr>,
    /// What the intent wants from nodes in its position.
    pub wanted: &'a Wanted,
    /// The links on which it can answer.
    pub links: &'a [LinkInfo],
}

/// All VIPs, each with the nodes that may own it, and the VIP that it follows.
///
/// A node may own a VIP if the intent allows it and the node has a suitable link on which the
/// program runs. If any such link has carrier, only nodes with carrier qualify; and if any of those
/// is in the VIP's subnet, only nodes with a link there. The VIPs of a group go to the nodes that
/// may own all of them, or if there are none, to those that may own the most. No node may own the
/// address of a node, which would be cut off.
pub fn candidates(hosts: &[Host<'_>]) -> BTreeMap<IpAddr, Placement> {
    let hosts = Hosts::new(hosts);
    let mut groups: BTreeMap<Group, (IpAddr, BTreeSet<IpAddr>)> = BTreeMap::new();
    for kind in &hosts.kinds {
        for (&address, vip) in &kind.wanted.vips {
            let (_, addresses) = groups
                .entry(vip.group)
                .or_insert_with(|| (vip.first_ip, BTreeSet::new()));
            addresses.insert(address);
        }
    }
    let mut vips = BTreeMap::new();
    for (first_ip, mut addresses) in groups.into_values() {
        let of_nodes = addresses.extract_if(.., |it| hosts.at.contains_key(it));
        vips.extend(of_nodes.map(|address| {
            let nobody = Placement {
                first_ip,
                candidates: Vec::new(),
                follows: None,
            };
            (address, nobody)
        }));
        let candidates: Vec<_> = hosts
            .judge(&addresses)
            .into_iter()
            .filter(|it| it.is_candidate)
            .map(|it| (it.host.name.clone(), i64::from(it.preference)))
            .collect();
        let leader = addresses.first().copied();
        for address in addresses {
            let placement = Placement {
                first_ip,
                candidates: candidates.clone(),
                follows: leader.filter(|leader| *leader != address),
            };
            vips.insert(address, placement);
        }
    }
    vips
}

/// The nodes that may not own a VIP, and why.
pub fn excluded(hosts: &[Host<'_>], vip: IpAddr) -> BTreeMap<NodeName, Excluded> {
    let hosts = Hosts::new(hosts);
    if let Some(node) = hosts.at.get(&vip) {
        let why = Excluded::OfNode(vip, (*node).clone());
        let all = hosts.hosts.iter();
        return all.map(|it| (it.name.clone(), why.clone())).collect();
    }
    let all = || hosts.kinds.iter().flat_map(|kind| &kind.wanted.vips);
    let group = all().find(|(address, _)| **address == vip);
    let group = group.map(|(_, vip)| vip.group);
    let addresses = all().filter(|(_, vip)| Some(vip.group) == group);
    let addresses = addresses.map(|(address, _)| *address);
    let addresses = addresses.filter(|it| !hosts.at.contains_key(it)).collect();
    let judged = hosts.judge(&addresses).into_iter();
    judged
        .filter(|it| !it.is_candidate)
        .filter_map(|it| Some((it.host.name.clone(), it.excluded()?)))
        .collect()
}

/// Why a node may not own the VIPs of a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excluded {
    /// The intent does not allow it.
    #[error("{0}")]
    Refused(NotAnnounced),
    /// It has none of the interfaces.
    #[error("it has no interface to answer for {0} on, or none that the L2Advertisement names")]
    NoLink(IpAddr),
    /// The program cannot answer on this interface, for this reason.
    #[error("its program cannot answer on {0}: {1}")]
    Obstacle(String, String),
    /// Its link is down, and other nodes have one that is up.
    #[error("its link has no carrier")]
    NoCarrier,
    /// The address is that of a node.
    #[error("{0} is the address of {1} itself: give the Service another one")]
    OfNode(IpAddr, NodeName),
    /// It would need a route, and other nodes would not.
    #[error("none of its links is in the subnet of {0}, and other nodes have one there")]
    OtherSubnet(IpAddr),
}

/// A node's suitability as owner of the VIPs of a group.
struct Judged<'a> {
    host: Host<'a>,
    /// How many of the VIPs it may own.
    vips: usize,
    preference: u32,
    /// The first VIP that it may not own, and how well it would reach that VIP's clients, if at
    /// all.
    miss: Option<(IpAddr, Option<Reach>)>,
    is_candidate: bool,
}

impl Judged<'_> {
    fn excluded(&self) -> Option<Excluded> {
        let (address, reach) = self.miss?;
        if let Some(obstacle) = self.obstacle(address, reach) {
            return Some(obstacle);
        }
        Some(match reach {
            Some(Reach::Down) => Excluded::NoCarrier,
            Some(Reach::Routed | Reach::Near) => Excluded::OtherSubnet(address),
            None => {
                let vip = self.host.wanted.vips.get(&address)?;
                let refusal = vip.refusal_on(self.host.name.as_str());
                refusal.map_or(Excluded::NoLink(address), Excluded::Refused)
            }
        })
    }

    /// A link that would reach a VIP's clients better if the program ran there.
    fn obstacle(&self, address: IpAddr, reach: Option<Reach>) -> Option<Excluded> {
        let vip = self.host.wanted.vips.get(&address)?;
        let interfaces = vip.interfaces_on(self.host.name.as_str())?;
        let mut links = self.host.links.iter();
        links.find_map(|link| {
            let why = link.obstacle.as_ref()?;
            let is_better =
                interfaces.contain(&link.name) && Some(reach_through(link, address)) > reach;
            is_better.then(|| Excluded::Obstacle(link.name.clone(), why.clone()))
        })
    }
}

/// All nodes by name. Even hundreds of nodes fall into a few kinds, and expensive work is done once
/// per kind.
struct Hosts<'a> {
    hosts: Vec<Host<'a>>,
    /// For each, the index of its kind.
    kind: Vec<usize>,
    /// One node of each kind. Nodes of a kind have the same wanted VIPs, and links in the same
    /// subnets.
    kinds: Vec<Host<'a>>,
    /// The nodes by their addresses.
    at: BTreeMap<IpAddr, &'a NodeName>,
}

impl<'a> Hosts<'a> {
    fn new(hosts: &[Host<'a>]) -> Self {
        let mut hosts = hosts.to_vec();
        hosts.sort_unstable_by_key(|host| host.name);
        let mut kinds: Vec<Host<'a>> = Vec::new();
        let kind = hosts.iter().map(|host| {
            let alike = |kind: &Host<'_>| {
                std::ptr::eq(kind.wanted, host.wanted) && are_alike(kind.links, host.links)
            };
            kinds.iter().position(alike).unwrap_or_else(|| {
                kinds.push(*host);
                kinds.len() - 1
            })
        });
        let kind = kind.collect();
        let at = hosts.iter().filter_map(|it| Some((it.address?, it.name)));
        let at = at.collect();
        Self {
            hosts,
            kind,
            kinds,
            at,
        }
    }

    fn judge(&self, group: &BTreeSet<IpAddr>) -> Vec<Judged<'a>> {
        let unjudged = |host: &Host<'a>| Judged {
            host: *host,
            vips: 0,
            preference: 0,
            miss: None,
            is_candidate: false,
        };
        let mut judged: Vec<Judged<'a>> = self.hosts.iter().map(unjudged).collect();
        for &address in group {
            let reaches = self.reaches(address);
            let best = reaches.iter().flatten().map(|(reach, _)| *reach).max();
            for (it, reached) in judged.iter_mut().zip(reaches) {
                match reached {
                    Some((reach, preference)) if Some(reach) == best => {
                        if it.vips == 0 {
                            it.preference = preference;
                        }
                        it.vips += 1;
                    }
                    other => {
                        let reach = other.map(|(reach, _)| reach);
                        it.miss.get_or_insert((address, reach));
                    }
                }
            }
        }
        let most = judged.iter().map(|it| it.vips).max().unwrap_or_default();
        for it in &mut judged {
            it.is_candidate = most > 0 && it.vips == most;
        }
        judged
    }

    /// For each node that may own a VIP, how it reaches the clients, and its preference.
    fn reaches(&self, address: IpAddr) -> Vec<Option<(Reach, u32)>> {
        let of_kind = |kind: &Host<'a>| {
            let vip = kind.wanted.vips.get(&address)?;
            let interfaces = vip.alike.as_ref().ok()?;
            Some((vip, reach_of(address, interfaces, kind.links)?))
        };
        let of_kinds: Vec<Option<(&WantedVip, Reach)>> = self.kinds.iter().map(of_kind).collect();
        let of_host = |(host, kind): (&Host<'_>, &usize)| {
            let (vip, reach) = of_kinds[*kind]?;
            let is_served = vip.is_served_on(host.name.as_str());
            is_served.then_some((reach, vip.preference))
        };
        self.hosts.iter().zip(&self.kind).map(of_host).collect()
    }
}
