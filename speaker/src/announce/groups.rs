//! Joins the solicited-node groups of IPv6 VIPs so that they outlive the agent.
//!
//! Solicitations go to `ff02::1:ffXX:XXXX`, with the low 24 bits of the address (RFC 4291 §2.7.1).
//! Unless the kernel has joined that group, the NIC's filter and snooping switches keep them away
//! from the program.
//!
//! A socket's membership ends with its process, but the program must keep answering without an
//! agent. So the group is joined through a *proxy neighbour* (`ip -6 neighbour show proxy`): for
//! each of these, the kernel joins the solicited-node group of its address (`pndisc_constructor`),
//! until the entry is removed or the link goes down. The neighbour's address here is the group
//! itself. Nobody can solicit a multicast address (RFC 4861 §7.1.1), so the kernel answers for it
//! under no setting.
#![forbid(unsafe_code)]

use std::{io, net::Ipv6Addr};

use nix::errno::Errno;
use rtnetlink::{
    packet_core::NLM_F_CREATE,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
    },
};
use speaker_common::wire::nd::solicited_node;
use speaker_core::node::Membership;
use thiserror::Error;

use crate::netlink::{self, RouteSocket};

/// A group could not be joined.
#[derive(Debug, Error)]
#[error(
    "cannot join {group} on {link}, so that solicitations for its VIPs may not arrive: \
     {error}{}",
    hint(error)
)]
pub struct JoinError {
    group: Ipv6Addr,
    /// The interface's name.
    link: String,
    error: io::Error,
}

/// The groups that the kernel has joined for VIPs.
///
/// A join or a leave takes about 20 µs, and 150 µs on a link with 10,000 groups, whose list the
/// kernel searches.
#[derive(Debug)]
pub struct Groups(RouteSocket);

impl Groups {
    /// The groups of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The kernel refuses a netlink socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self(RouteSocket::open()?))
    }

    /// The groups that are joined, by this agent or an earlier one.
    ///
    /// # Errors
    ///
    /// The kernel does not list them.
    pub fn joined(&self) -> io::Result<Vec<Membership>> {
        let listed = match self.0.list(RouteNetlinkMessage::GetNeighbour(proxies())) {
            // A kernel without IPv6 has none.
            Err(error) if is(&error, Errno::EOPNOTSUPP) => Vec::new(),
            listed => listed?,
        };
        Ok(listed.iter().filter_map(membership).collect())
    }

    /// Joins a group on a link; nothing happens if it is joined.
    ///
    /// # Errors
    ///
    /// The link is gone or has no IPv6, or the kernel is out of memory. Nothing is joined then, and
    /// the call may be repeated.
    pub fn join(&self, membership: Membership) -> Result<(), JoinError> {
        let neighbour = RouteNetlinkMessage::NewNeighbour(proxy(membership));
        let Membership { link, group } = membership;
        self.0
            .change(neighbour, NLM_F_CREATE)
            .map_err(|error| JoinError {
                group,
                link: name(link),
                error,
            })
    }

    /// Leaves a group on a link, if it is joined.
    pub fn leave(&self, membership: Membership) {
        let neighbour = RouteNetlinkMessage::DelNeighbour(proxy(membership));
        // If the link is gone or has been down, the kernel has left the group.
        if let Err(error) = self.0.change(neighbour, 0) {
            tracing::debug!(?membership, %error, "left a group that was not joined");
        }
    }

    /// Leaves all groups on all links, and returns how many.
    ///
    /// # Errors
    ///
    /// The kernel does not list them.
    pub fn leave_all(&self) -> io::Result<usize> {
        let all = self.joined()?;
        for membership in &all {
            self.leave(*membership);
        }
        Ok(all.len())
    }
}

fn proxies() -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.flags = NeighbourFlags::Proxy;
    message
}

fn proxy(Membership { link, group }: Membership) -> NeighbourMessage {
    let mut message = proxies();
    message.header.ifindex = link;
    // Any other entry is removed when the link loses its carrier.
    message.header.state = NeighbourState::Permanent;
    let address = NeighbourAddress::Inet6(group);
    message
        .attributes
        .push(NeighbourAttribute::Destination(address));
    message
}

/// Reads what [`proxy`] writes; `None` for a proxy neighbour that is not one of ours.
fn membership(message: &RouteNetlinkMessage) -> Option<Membership> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else {
        return None;
    };
    let address = message.attributes.iter().find_map(|it| match it {
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(*address),
        _ => None,
    });
    Some(Membership {
        link: message.header.ifindex,
        group: address.filter(is_solicited_node)?,
    })
}

/// Whether this is one of ff02::1:ff00:0/104.
fn is_solicited_node(address: &Ipv6Addr) -> bool {
    Ipv6Addr::from(solicited_node(&address.octets())) == *address
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn name(link: u32) -> String {
    let known = netlink::link(link).ok().flatten();
    known.map_or_else(|| format!("interface {link}"), |link| link.name)
}

/// What to do about an error.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAFNOSUPPORT) => "; this kernel has no IPv6: use IPv4 addresses only",
        Some(Errno::ENOBUFS) => "; it has no IPv6: its MTU may be below 1280",
        _ => "",
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
