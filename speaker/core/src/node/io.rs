//! The whole vocabulary: what can happen to a [`Node`](super::Node), and what can come of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use speaker_common::{
    layout::{self, Vip},
    wire::Mac,
};

use super::{Attached, Membership};
use crate::{intent::Wanted, link::LinkChange, links::Links, plan::Entry};

/// Everything that can make the node act.
#[derive(Debug)]
pub enum Input {
    /// What the pins of an earlier agent hold. Comes first, if at all.
    Adopted(Adopted),
    /// Where other nodes probe this one. The program is to answer there, VIPs or not.
    ProbedAt(IpAddr),
    /// What is to be announced, should this node own it, has changed.
    Wanted(Wanted),
    /// Answer for a VIP from now on, or keep this host from answering for it. The commands of it
    /// come before all others.
    Answer {
        /// The VIP.
        vip: IpAddr,
        /// Whether to answer.
        answer: bool,
    },
    /// What this node owns is settled: the program may take the place of an earlier agent's, which
    /// may answer by other maps until then.
    Settled,
    /// Announce a VIP as after a take-over, if it is answered here.
    Announce(IpAddr),
    /// All links that there are, once at the start.
    Links(Links),
    /// A link has changed.
    Link(LinkChange),
    /// What became of [`Command::Attach`].
    Attached {
        /// The interface.
        interface: u32,
        /// How the program runs there, or why not.
        result: Result<Attached, NotAttached>,
    },
    /// What became of [`Command::KeepTags`].
    KeptTags {
        /// The interface.
        interface: u32,
        /// Whether tags stay now, or why not.
        result: Result<(), String>,
    },
    /// The program runs no longer on an interface: somebody else took it off.
    Detached(u32),
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
    /// Another MAC claims a VIP that this node owns.
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

/// The maps' content at the start.
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
    /// Whether the lease was still valid: nobody has noticed that the agent was away.
    pub in_time: bool,
}

/// Everything that the node can have done, in the order in which it must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Let VLAN tags stay in the frames of an interface; answered by [`Input::KeptTags`].
    KeepTags(u32),
    /// Write an entry of `links`.
    SetLink(u32, layout::Link),
    /// Remove an entry of `links`.
    RemoveLink(u32),
    /// Join the solicited-node group of VIPs on a link; nothing happens where it is joined.
    Join(Membership),
    /// Leave it; nothing happens where it is not joined.
    Leave(Membership),
    /// Set a slot's counters to zero: another VIP has it now.
    ResetCounters(u32),
    /// Write an entry of the VIP maps.
    Put(Entry, Vip),
    /// Remove an entry of the VIP maps.
    Remove(Entry),
    /// Run the program on an interface; answered by [`Input::Attached`].
    Attach(u32),
    /// See whether the program still runs on an interface; [`Input::Detached`] says that it does
    /// not.
    Look(u32),
    /// Take the program off an interface, or its pin away where the interface is gone.
    Detach(u32),
    /// Tell the operator.
    Tell(Notice),
}

/// What is worth a line in the log and an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This node answers for the VIP on the link.
    Announcing(IpAddr, String),
    /// It does so no longer.
    Withdrawn(IpAddr, String),
    /// It cannot.
    NotAnnounced(IpAddr, String),
    /// Somebody else took the program off the link, and it is attached again.
    TakenOff(String),
    /// Another MAC claims the VIP.
    Conflict(IpAddr, Mac),
    /// The kernel refuses something, for a reason that says what. It is tried again, and told again
    /// when the reason is another one.
    Refused(String),
}
