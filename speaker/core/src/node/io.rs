//! The inputs and commands of a [`Node`](super::Node): everything that can happen to it, besides
//! changes of what it [wants](super::Node::want) and [answers](super::Node::answer) for, and
//! everything that it can do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use speaker_common::{
    layout::{self, Vip},
    wire::Mac,
};

use super::{Attached, Membership};
use crate::{link::LinkChange, links::Links, plan::Entry};

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// The content of an earlier agent's pins. Comes first, if at all.
    Adopted(Adopted),
    /// The address at which other nodes probe this one. The program runs on its link even without
    /// VIPs.
    ProbedAt(IpAddr),
    /// The VIPs that this node owns are settled: its program may replace an earlier agent's, which
    /// may answer from other maps until then.
    Settled,
    /// Announce a VIP, as after a take-over, if it is answered here.
    Announce(IpAddr),
    /// Announce a VIP as after a take-over, if it is answered here, but without the pause after an
    /// earlier announcement: another node claims it.
    Contend(IpAddr),
    /// Announce a VIP once where it is answered, unless that was done in the last 10 s.
    Defend(IpAddr),
    /// All links of the node, once at the start.
    Links(Links),
    /// A link has changed.
    Link(LinkChange),
    /// The outcome of [`Command::Attach`].
    Attached {
        /// The interface.
        interface: u32,
        /// How the program runs there, or why not.
        result: Result<Attached, NotAttached>,
    },
    /// The outcome of [`Command::KeepTags`].
    KeptTags {
        /// The interface.
        interface: u32,
        /// Why tags do not stay, if so.
        result: Result<(), String>,
    },
    /// Something else detached the program from an interface.
    Detached(u32),
    /// The outcome of [`Command::SetLink`].
    LinkSet {
        /// The interface.
        interface: u32,
        /// Why not, if the kernel refused.
        result: Result<(), String>,
    },
    /// The kernel refused [`Command::Put`].
    PutFailed {
        /// The entry.
        entry: Entry,
        /// Why.
        reason: String,
    },
    /// The kernel refused [`Command::Join`].
    JoinFailed {
        /// The group and the link.
        membership: Membership,
        /// Why.
        reason: String,
    },
    /// A foreign MAC claims a VIP that this node owns.
    Claimed {
        /// The VIP and where the claim was seen.
        entry: Entry,
        /// The claimant.
        by: Mac,
    },
}

/// Why the program does not run on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAttached {
    /// A device above it, such as one of its VLANs, runs a program already.
    ProgramAbove(String),
    /// Anything else.
    Other(String),
}

/// What an earlier agent left in the kernel.
#[derive(Debug, Default)]
pub struct Adopted {
    /// VIPs and their slots.
    pub vips: BTreeMap<Entry, Vip>,
    /// The `links` map.
    pub links: BTreeMap<u32, layout::Link>,
    /// Interfaces that the program of an earlier agent is attached to.
    pub attached: BTreeSet<u32>,
    /// The groups that an earlier agent has joined.
    pub joined: BTreeSet<Membership>,
    /// Whether the lease was still valid, so answers were not interrupted.
    pub in_time: bool,
}

/// Something to do. Commands are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Keep VLAN tags in the frames of an interface (`rx-vlan-offload` off); answered by
    /// [`Input::KeptTags`].
    KeepTags(u32),
    /// Write an entry of `links`; answered by [`Input::LinkSet`].
    SetLink(u32, layout::Link),
    /// Remove an entry of `links`.
    RemoveLink(u32),
    /// Join the solicited-node group of VIPs on a link, unless it is joined.
    Join(Membership),
    /// Leave a group, unless it is not joined.
    Leave(Membership),
    /// Set a slot's counters to zero for another VIP.
    ResetCounters(u32),
    /// Write an entry of the VIP maps.
    Put(Entry, Vip),
    /// Remove an entry of the VIP maps.
    Remove(Entry),
    /// Attach the program to an interface; answered by [`Input::Attached`].
    Attach(u32),
    /// Restore the pins that something else has removed.
    KeepPins,
    /// Check that the program still runs on an interface; answered by [`Input::Detached`] if not.
    CheckProgram(u32),
    /// Detach the program from an interface; if that is gone, remove the pin.
    Detach(u32),
    /// Tell the operator.
    Tell(Notice),
}

/// Something worth a line in the log and an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This node answers for the VIP on the link.
    Announcing(IpAddr, String),
    /// This node no longer answers for it.
    Withdrawn(IpAddr, String),
    /// This node cannot answer for the VIP, for this reason.
    NotAnnounced(IpAddr, String),
    /// Something else detached the program from the link; it is being reattached.
    TakenOff(String),
    /// Another MAC claims the VIP.
    Conflict(IpAddr, Mac),
    /// The kernel refused something, for this reason. It is retried, and reported again if the
    /// reason changes.
    Refused(String),
}
