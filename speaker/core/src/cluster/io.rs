//! The inputs and commands of a [`Cluster`](super::Cluster): everything that can happen to it, and
//! everything that it can do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use speaker_common::{
    probe::{FLAG_DRAINING, FLAG_RESTARTING, Key, LENGTH, Tenure},
    wire::Mac,
};

use super::{
    configured::Configured,
    name::{Endpoints, Epoch, Life, NodeName},
    spans::Spans,
};

/// Something happened.
///
/// The shell hands in one input at a time, and carries out all its commands before the next.
#[derive(Clone, Debug)]
pub enum Input {
    /// The time given by `poll_timeout` has come.
    Tick,
    /// A message from another agent, decrypted and authenticated with one of the cluster's keys.
    Message {
        /// The sender's address.
        from: SocketAddr,
        /// Its plaintext.
        bytes: Vec<u8>,
    },
    /// A packet of the probe protocol reached this node's probe socket.
    Probe([u8; LENGTH]),
    /// The reply to a probe that came by message: see [`Command::AnswerProbe`].
    ProbeAnswered {
        /// The node that probed.
        to: NodeName,
        /// The sealed reply.
        reply: [u8; LENGTH],
    },
    /// The kernel's view of the lease, read after each [`Command::Lease`].
    Kernel(KernelLease),
    /// All nodes that exist, whichever were known before.
    Peers(Configured),
    /// The names of [`Config::peers`] resolve to other addresses than before.
    Resolved(Configured),
    /// The keys of the probes: the first signs, each is accepted.
    Keys(Vec<Key>),
    /// This node's links, to be sent to the other nodes.
    Links(Vec<LinkInfo>),
    /// The placement of these VIPs has changed; `None`: the VIP is gone.
    Vips(Vec<(IpAddr, Option<Placement>)>),
    /// Links and intent have been loaded. Nothing is claimed before.
    Planned,
    /// Hand all VIPs over and take none (drain), or take part again.
    Drain(bool),
    /// Move a VIP to a node.
    Move {
        /// The VIP.
        vip: IpAddr,
        /// The node.
        to: NodeName,
    },
    /// Spread the VIPs evenly over their candidates, with the fewest moves.
    Rebalance,
    /// Another host claims this VIP on the wire.
    WireClaim {
        /// The VIP.
        vip: IpAddr,
        /// The host that claims it.
        by: Claimant,
    },
    /// The result of [`Command::Check`]. One is enough for several checks of a VIP.
    Checked {
        /// The VIP.
        vip: IpAddr,
        /// The result.
        occupancy: Occupancy,
    },
    /// The agent should stop.
    Stop(Stop),
}

/// Something to do. Commands are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send a message, encrypted with the first of the cluster's keys.
    Send {
        /// The address of the agent.
        to: SocketAddr,
        /// The message, at most [`MESSAGE_LENGTH`](super::MESSAGE_LENGTH) bytes.
        bytes: Vec<u8>,
    },
    /// Send a probe from the probe socket.
    SendProbe {
        /// The probe endpoint of the node.
        to: SocketAddr,
        /// The sealed probe.
        probe: [u8; LENGTH],
    },
    /// Answer this probe, which came by message, as the XDP program would, and hand the reply back
    /// as [`Input::ProbeAnswered`].
    AnswerProbe {
        /// The node that probed.
        to: NodeName,
        /// The sealed probe.
        probe: [u8; LENGTH],
    },
    /// Write the agent's side of the lease into the kernel, then read the peers' side
    /// ([`Input::Kernel`]). The deadline is absolute: a late write must not extend it.
    Lease(AgentLease),
    /// Set the state of a VIP in the maps.
    Set {
        /// The VIP.
        vip: IpAddr,
        /// What to do with requests for it.
        state: VipState,
    },
    /// Announce a VIP, as after a take-over, as soon as the lease is valid; void once its state
    /// changes. The shell knows whether an earlier agent has already announced what it left.
    Announce(IpAddr),
    /// Announce a VIP as after a take-over, but without the pause after an earlier announcement: a node
    /// that messages do not reach claims it too, and both answer until it sees this.
    Contend(IpAddr),
    /// Announce a VIP once, unless that was done in the last 10 s: a member that does not own it sent
    /// from it, and clients that saw that now send to the wrong node.
    Defend(IpAddr),
    /// Probe the network for hosts that answer for this VIP.
    Check(IpAddr),
    /// Store this for [`Config::remembered`]: all known nodes that have not left.
    Remember(BTreeMap<NodeName, SocketAddr>),
    /// Report an event.
    Event(Event),
    /// After [`Input::Stop`]: the process may end.
    Stopped,
}

/// Whether another host on the network uses a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupancy {
    /// Nobody answered.
    Free,
    /// Another host answered.
    InUse,
    /// The network could not be asked.
    Unknown,
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The agent will be back within this time: the VIPs stay, answered by the kernel.
    Return(Duration),
    /// The agent will not be back: hand everything over first.
    HandOver,
}

/// The kernel's view of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelLease {
    /// The life that the agent last wrote.
    pub life: Life,
    /// Whether the lease is valid.
    pub tenure: Tenure,
    /// The remaining time of the peers' side, if a peer has renewed it in this life.
    pub peers_left: Option<Duration>,
}

/// The agent's side of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentLease {
    /// The present life.
    pub life: Life,
    /// Until when the kernel answers without another heartbeat.
    pub deadline: Instant,
    /// How long a renewal by a peer lasts.
    pub peers_lease: Duration,
    /// Nonzero if no renewal is needed: the number of this time alone.
    pub alone: u32,
    /// The agent is about to restart.
    pub restarting: bool,
    /// This node takes no VIPs.
    pub draining: bool,
}

/// A host that claims a VIP on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// A node of this cluster, recognized by the MAC of a link.
    Node(NodeName),
    /// A host outside the cluster.
    Foreign(Mac),
}

/// Which nodes may own a VIP, and with which other VIP it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The first ingress IP of its Service: MetalLB's order is a hash of its text.
    pub first_ip: IpAddr,
    /// The nodes that may own it by configuration, links and subnets, each with its preference.
    pub candidates: Vec<(NodeName, i64)>,
    /// The VIP with which it shares an owner if possible: one with the same candidates that follows
    /// no other.
    pub follows: Option<IpAddr>,
}

/// A network interface, as other nodes see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkInfo {
    /// Its name.
    pub name: String,
    /// Its MAC, or its bond's.
    pub mac: Mac,
    /// Whether it has carrier.
    pub up: bool,
    /// Its subnets: address and prefix length.
    pub subnets: Vec<(IpAddr, u8)>,
    /// Why the program cannot run on it, so that no VIP can be answered there.
    pub obstacle: Option<String>,
}

/// What this node does for a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VipState {
    /// It owns the VIP.
    Answer {
        /// The epoch of its ownership.
        epoch: Epoch,
        /// Why it became the owner.
        cause: Cause,
    },
    /// Another node owns it: keep this node's own kernel from answering.
    Suppress {
        /// The owner.
        owner: NodeName,
    },
    /// This node does not answer, and knows of no node that does.
    Silent(Silence),
}

/// Why this node knows of no node that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// No live candidate.
    NoCandidate,
    /// A better candidate has not claimed it yet, or consent is being collected.
    Vacant,
    /// This node has not met the others yet, or its lease is not valid.
    Joining,
    /// A host outside the cluster, or an unreachable node, answers for it.
    InUse,
    /// Fewer than half of the known nodes can be reached.
    Minority,
}

/// Why a node became the owner of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// Nobody owned it.
    First,
    /// It owned it before its own lease lapsed.
    Resumed,
    /// It owned it when this node met it, or said so later.
    Met,
    /// It owned it before its agent restarted, and its kernel kept answering.
    Adopted,
    /// The owner was down.
    Down(NodeName),
    /// The owner had released it, or begun another life without claiming it.
    GivenUp(NodeName),
    /// The owner handed it over.
    HandedOver {
        /// The former owner.
        by: NodeName,
        /// Why.
        why: Reason,
    },
}

impl Cause {
    /// Its maximum length in a message, in bytes.
    pub(super) fn length(&self) -> usize {
        let name = match self {
            Self::First | Self::Resumed | Self::Met | Self::Adopted => "",
            Self::Down(name) | Self::GivenUp(name) | Self::HandedOver { by: name, .. } => {
                name.as_str()
            }
        };
        name.len() + 4
    }
}

/// Why an owner hands a VIP over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// The owner is being drained, or stopped for good.
    Drain,
    /// The owner is no longer a candidate.
    NotCandidate,
    /// A better candidate came back, and the policy favours it.
    Failback,
    /// The move was requested.
    Move,
    /// An even spread was requested.
    Rebalance,
    /// The VIP that it follows is on the other node.
    Together,
}

/// Why a node is considered down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DownReason {
    /// It replied to nobody for `take_over_after`.
    Unreachable,
    /// Its kernel says that its agent has been gone for too long.
    Agentless,
    /// Its kernel says that no peer has renewed its lease in time; its agent will begin another
    /// life.
    Lapsed,
}

/// Something to report to users and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node has become a member.
    MemberUp(NodeName),
    /// A member is down.
    MemberDown(NodeName, Life, DownReason),
    /// A member left.
    MemberLeft(NodeName),
    /// This node has met the others and takes part.
    Joined,
    /// This node's life is over, and it begins another one.
    LifeOver(LifeOver),
    /// Another node uses this node's name, from this address.
    NameTaken(SocketAddr),
    /// A member uses different timeouts than this node.
    TimesDiffer(NodeName, Spans),
    /// A message from this address could not be decoded: the agent there is a different version.
    Unreadable(SocketAddr),
    /// The VIP could not be moved to the node as requested.
    MoveRefused(IpAddr, NodeName),
    /// Another host claims a VIP that this node owns.
    Conflict(IpAddr, Claimant),
}

/// Why a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LifeOver {
    /// The kernel says so: no peer renewed it, or the agent was gone for too long.
    Lapsed,
    /// The other nodes considered this node down.
    Declared,
    /// Fewer than half of the known nodes can be reached.
    Minority,
}

/// When a VIP moves back to a better candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failback {
    /// Only on request.
    Never,
    /// As soon as it is a member, as MetalLB does.
    Immediate,
    /// When it has been a member for this long.
    After(Duration),
}

/// The initial state and configuration of a [`Cluster`](super::Cluster).
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub name: NodeName,
    /// Where other nodes reach this one.
    pub endpoints: Endpoints,
    /// A number above those of all earlier lives of this node. The wall clock in milliseconds will
    /// do; if it was set back, other nodes say so.
    pub life: Life,
    /// What an earlier agent left in the kernel.
    pub adopted: Option<Adopted>,
    /// The keys of the probes: the first signs, each is accepted.
    pub keys: Vec<Key>,
    /// Nodes to look for; others are learned from them. `None`: this node does not join before
    /// [`Input::Peers`] names all nodes.
    pub peers: Option<Configured>,
    /// Nodes that an earlier agent of this node knew, with their addresses, to look for too.
    pub remembered: BTreeMap<NodeName, SocketAddr>,
    /// Whether this node was drained before it restarted.
    pub draining: bool,
    /// When a VIP moves back to a better candidate.
    pub failback: Failback,
    /// Check the wire before claiming a VIP that no node has owned yet.
    pub check_first: bool,
    /// The seed for random choices and for numbers that must not repeat.
    pub seed: u64,
}

/// What an earlier agent of this node left in the kernel, read before anything is written. If its
/// lease is still valid, the life goes on; if not, its VIPs are silenced first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The lease.
    pub lease: KernelLease,
    /// The deadline of its agent.
    pub deadline: Instant,
    /// How long a renewal by a peer lasts.
    pub peers_lease: Duration,
    /// The number of its current period alone; zero if it is not alone.
    pub alone: u32,
    /// The VIPs that the kernel answers for while the lease is valid.
    pub vips: BTreeSet<IpAddr>,
}

/// The flags of the agent's side of the lease, as in the kernel's map.
pub fn lease_flags(lease: &AgentLease) -> u32 {
    let restarting = if lease.restarting { FLAG_RESTARTING } else { 0 };
    let draining = if lease.draining { FLAG_DRAINING } else { 0 };
    restarting | draining
}
