//! The solicited-node groups of IPv6 VIPs, and the changes of a link that make the kernel drop
//! them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use speaker_common::wire::nd::solicited_node;

use super::{Command, Node, Step};
use crate::{
    link::{Link, LinkChange},
    plan::Place,
};

/// A multicast group on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Membership {
    /// Interface index.
    pub link: u32,
    /// `ff02::1:ffXX:XXXX`: VIPs that share their low 24 bits share it (RFC 4291 §2.7.1).
    pub group: Ipv6Addr,
}

impl Membership {
    /// The group to which solicitations for a VIP on a link are sent; `None` for IPv4.
    pub(super) fn of(place: &Place) -> Option<Self> {
        let IpAddr::V6(vip) = place.address else {
            return None;
        };
        Some(Self {
            link: place.link,
            group: solicited_node(&vip.octets()).into(),
        })
    }
}

impl Node {
    fn memberships(&self) -> BTreeSet<Membership> {
        self.plan.places.keys().filter_map(Membership::of).collect()
    }

    pub(super) fn leave_groups(&mut self) {
        let planned = self.memberships();
        let gone = self.held.joined.extract_if(.., |it| !planned.contains(it));
        self.commands.extend(gone.map(Command::Leave));
    }

    pub(super) fn join_groups(&mut self) {
        for membership in self.memberships() {
            if self.failures.of(&Step::Join(membership)).is_none()
                && self.held.joined.insert(membership)
            {
                self.commands.push_back(Command::Join(membership));
            }
        }
    }

    /// Forgets the groups that the kernel drops by itself, so that they are joined again. The
    /// kernel does not restore them, and by the next message the link may look as before.
    pub(super) fn lose_groups(&mut self, change: &LinkChange) {
        let link = match change {
            LinkChange::Gone(index) => Some(*index),
            LinkChange::Set(after) => {
                let before = self.links.as_ref().and_then(|links| links.get(after.index));
                if !before.is_some_and(|before| are_lost(before, after)) {
                    return;
                }
                Some(after.index)
            }
            // It may be any link.
            LinkChange::Missed => None,
        };
        self.held
            .joined
            .retain(|it| link.is_some_and(|link| it.link != link));
        self.stale = true;
    }
}

/// Whether the kernel has dropped the groups of a link that has changed in this way. It does so
/// when the link goes down (some kernels: when it loses carrier), when its MTU is too small for
/// IPv6, and when IPv6 is switched off, which also removes the link-local address.
///
/// Groups of a link that goes down count as lost once it is up again: the kernel reports the link
/// down before it drops them.
fn are_lost(before: &Link, after: &Link) -> bool {
    let was_down = !before.is_up();
    let was_without_ipv6 = before.has_link_local() && !after.has_link_local();
    !after.has_ipv6() || (after.is_up() && (was_down || was_without_ipv6))
}
