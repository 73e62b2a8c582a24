//! How a node's links reach the clients of a VIP.

use std::net::IpAddr;

use crate::{cluster::LinkInfo, intent::Interfaces, links::same_subnet};

/// Whether [`reach_of`] is the same with either links, for every VIP.
pub(super) fn are_alike(some: &[LinkInfo], others: &[LinkInfo]) -> bool {
    let subnet = |(one, other): (&(IpAddr, u8), &(IpAddr, u8))| {
        one.1 == other.1 && same_subnet(one.0, other.0, one.1)
    };
    let link = |(one, other): (&LinkInfo, &LinkInfo)| {
        one.name == other.name
            && one.up == other.up
            && one.obstacle.is_some() == other.obstacle.is_some()
            && one.subnets.len() == other.subnets.len()
            && one.subnets.iter().zip(&other.subnets).all(subnet)
    };
    some.len() == others.len() && some.iter().zip(others).all(link)
}

/// How a node's links reach the clients of a VIP, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// No link has carrier.
    Down,
    /// A link is up, but the network must route the VIP to it.
    Routed,
    /// A link is up and in the VIP's subnet.
    Near,
}

/// The best reach through any link; `None` if there is no link to answer on.
pub(super) fn reach_of(
    address: IpAddr,
    interfaces: &Interfaces,
    links: &[LinkInfo],
) -> Option<Reach> {
    let near = links.iter().filter(|link| is_near(link, address));
    let is_obstructed =
        near.clone().next().is_some() && near.clone().all(|it| it.obstacle.is_some());
    // If there are links in its subnet, a VIP is answered on these only.
    if matches!(interfaces, Interfaces::All) && is_obstructed {
        return None;
    }
    links
        .iter()
        .filter(|link| interfaces.contain(&link.name) && link.obstacle.is_none())
        .map(|link| reach_through(link, address))
        .max()
}

fn is_near(link: &LinkInfo, address: IpAddr) -> bool {
    let mut subnets = link.subnets.iter();
    subnets.any(|&(own, prefix)| same_subnet(own, address, prefix))
}

pub(super) fn reach_through(link: &LinkInfo, address: IpAddr) -> Reach {
    if !link.up {
        Reach::Down
    } else if is_near(link, address) {
        Reach::Near
    } else {
        Reach::Routed
    }
}
