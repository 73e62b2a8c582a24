//! The whole vocabulary: what can happen to a [`Cluster`](super::Cluster), and what can come of it.

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
/// The shell hands inputs in one at a time, and carries out all commands of one before the next.
#[derive(Clone, Debug)]
pub enum Input {
    /// The time that `poll_timeout` named has come.
    Tick,
    /// A message came from another agent: already decrypted, and known to be by the cluster's key.
    Message {
        /// Where it came from.
        from: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A probe's reply came back to this node's probe socket.
    Probe([u8; LENGTH]),
    /// What a probe that came by message was answered with: see [`Command::AnswerProbe`].
    ProbeAnswered {
        /// Who asked.
        to: NodeName,
        /// The sealed reply.
        reply: [u8; LENGTH],
    },
    /// What the kernel holds of the lease, read after each [`Command::Lease`].
    Kernel(KernelLease),
    /// All nodes that there are, whoever else was known before.
    Peers(Configured),
    /// Other addresses than before for the names of [`Config::peers`].
    Resolved(Configured),
    /// The keys of the probes: the first signs, all are accepted.
    Keys(Vec<Key>),
    /// What other nodes should know of this one's links.
    Links(Vec<LinkInfo>),
    /// VIPs are as given, or gone.
    Vips(Vec<(IpAddr, Option<Placement>)>),
    /// Links and intent have been loaded: before, nothing is claimed.
    Planned,
    /// Hand everything over and take nothing, or take part again.
    Drain(bool),
    /// Give one VIP to a node.
    Move {
        /// Which.
        vip: IpAddr,
        /// To whom.
        to: NodeName,
    },
    /// Spread the VIPs evenly over their candidates, with the fewest moves.
    Rebalance,
    /// Somebody else claims this VIP on the wire.
    WireClaim {
        /// Whose VIP it is.
        vip: IpAddr,
        /// Who claims it.
        by: Claimant,
    },
    /// What came of [`Command::Check`].
    Checked {
        /// The VIP.
        vip: IpAddr,
        /// Nobody answered for it.
        free: bool,
    },
    /// The agent is about to end.
    Stop(Stop),
}

/// Something to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send a message, encrypted with the first of the cluster's keys.
    Send {
        /// To the agent there.
        to: SocketAddr,
        /// The message, at most [`MESSAGE_LENGTH`](super::MESSAGE_LENGTH) bytes.
        bytes: Vec<u8>,
    },
    /// Send a probe from the probe socket.
    SendProbe {
        /// To the probe port there.
        to: SocketAddr,
        /// The sealed probe.
        probe: [u8; LENGTH],
    },
    /// Do with this probe, which came by message, what the XDP program would do with it, and hand
    /// the reply back as [`Input::ProbeAnswered`].
    AnswerProbe {
        /// Who asked.
        to: NodeName,
        /// The sealed probe.
        probe: [u8; LENGTH],
    },
    /// Write the agent's side of the lease into the kernel, then read the peers' side
    /// ([`Input::Kernel`]). The deadline is absolute: a late write must not extend it.
    Lease(AgentLease),
    /// Make the maps say this of a VIP.
    Set {
        /// The VIP.
        vip: IpAddr,
        /// What to do when somebody asks for its VIPs.
        state: VipState,
    },
    /// Announce a VIP, as after a take-over, as soon as the lease stands; to be forgotten when its
    /// state is another.
    Announce(IpAddr),
    /// Ask the wire whether anybody answers for this VIP.
    Check(IpAddr),
    /// Keep this for [`Config::remembered`]: all nodes that are known and have not left.
    Remember(BTreeMap<NodeName, SocketAddr>),
    /// Tell whoever listens.
    Event(Event),
    /// After [`Input::Stop`]: all is said, the process may end.
    Stopped,
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
    /// What it comes to.
    pub tenure: Tenure,
    /// How much longer the peers' side lasts in this life, if a peer has renewed it.
    pub peers_left: Option<Duration>,
}

/// The agent's side of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentLease {
    /// The present life.
    pub life: Life,
    /// Until when the agent vouches for itself.
    pub deadline: Instant,
    /// How long one handed-back reply extends the peers' side.
    pub peers_lease: Duration,
    /// Not zero: no renewal is needed. Counts the times that the node has found itself alone.
    pub alone: u32,
    /// The agent is about to restart.
    pub restarting: bool,
    /// This node takes nothing.
    pub draining: bool,
}

/// Who claims a VIP on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// A node of this cluster, by its links' MACs.
    Node(NodeName),
    /// Somebody else.
    Foreign(Mac),
}

/// Who may own a VIP, and where it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The first ingress IP of its Service: MetalLB's order is a hash of its text.
    pub first_ip: IpAddr,
    /// The nodes that may own it, by configuration, links and subnets, each with its preference.
    pub candidates: Vec<(NodeName, i64)>,
    /// The VIP that it is to be with whenever it can: one with the same candidates, which follows
    /// no other.
    pub follows: Option<IpAddr>,
}

/// A network interface, as the other nodes know it.
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
    /// What keeps the program from it, so that no VIP can be answered there.
    pub obstacle: Option<String>,
}

/// What this node does for a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VipState {
    /// It owns the VIP.
    Answer {
        /// Since this many owners.
        epoch: Epoch,
        /// Why it and why now.
        cause: Cause,
    },
    /// Another node owns it: keep this node's own kernel from answering.
    Suppress {
        /// Who.
        owner: NodeName,
    },
    /// This node does not answer, and knows of nobody who does.
    Silent(Silence),
}

/// Why nobody that this node knows of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// No live candidate.
    NoCandidate,
    /// Another candidate comes first and has not claimed it yet, or consent is being gathered.
    Vacant,
    /// This node has not met the others yet, or its lease does not stand.
    Joining,
    /// Something outside of the cluster, or a node that cannot be talked to, answers for its VIPs.
    InUse,
    /// Fewer than half of the known nodes can be reached.
    Minority,
}

/// Why an owner became one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// Nobody owned it.
    First,
    /// It owned it before, and its own lease had lapsed.
    Resumed,
    /// It owned it when this node met it, or told of it later.
    Met,
    /// The agent was restarted while the kernel went on answering.
    Adopted,
    /// The owner was down.
    Down(NodeName),
    /// The owner is alive but had given it up, or begun another life without claiming it.
    GivenUp(NodeName),
    /// The owner handed it over.
    HandedOver {
        /// Who had it.
        by: NodeName,
        /// Why.
        why: Reason,
    },
}

impl Cause {
    /// How much room it takes in a message, at most.
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
    /// It is being drained, or stopped for good.
    Drain,
    /// It is no candidate any more.
    NotCandidate,
    /// A better candidate came back, and the policy says so.
    Failback,
    /// Somebody asked for it.
    Move,
    /// Somebody asked for an even spread.
    Rebalance,
    /// It is to be with another VIP, which is at the other node.
    Together,
}

/// Why a node is held to be down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DownReason {
    /// It replied to nobody for `take_over_after`.
    Unreachable,
    /// Its kernel says that its agent was gone for too long.
    Agentless,
    /// Its kernel says that no peer has renewed its lease in time; its agent will begin anew.
    Lapsed,
}

/// Something that users and metrics should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node is a member.
    MemberUp(NodeName),
    /// A member is down.
    MemberDown(NodeName, Life, DownReason),
    /// A member left.
    MemberLeft(NodeName),
    /// This node has met the others and takes part.
    Joined,
    /// This node's own life was over, and it begins another as if new.
    LifeOver(LifeOver),
    /// Another node uses this node's name, from this address.
    NameTaken(SocketAddr),
    /// A member runs with other times than this node.
    TimesDiffer(NodeName, Spans),
    /// A message could not be read: another version, or not ours.
    Unreadable(SocketAddr),
    /// A VIP was asked for that this node cannot give to that node.
    MoveRefused(IpAddr, NodeName),
    /// Somebody else claims a VIP that this node owns.
    Conflict(IpAddr, Claimant),
}

/// Why a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LifeOver {
    /// The kernel says so: no peer renewed it, or the agent was gone for too long.
    Lapsed,
    /// The others took this node for down.
    Declared,
    /// Fewer than half of the known nodes can be reached.
    Minority,
}

/// When a VIP goes back to a better candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failback {
    /// Not unless asked.
    Never,
    /// As soon as it is there, as MetalLB does.
    Immediate,
    /// When it has been there for this long.
    After(Duration),
}

/// What a [`Cluster`](super::Cluster) starts with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub name: NodeName,
    /// Where the others reach it.
    pub endpoints: Endpoints,
    /// A number above that of every life that this node has had: the wall clock in milliseconds
    /// will do, and if it does not, the others say so.
    pub life: Life,
    /// What the kernel still holds of a former agent's lease.
    pub adopted: Option<Adopted>,
    /// The keys of the probes: the first signs, all are accepted.
    pub keys: Vec<Key>,
    /// Nodes to look for, from which the others are learnt; none: [`Input::Peers`] will tell of all
    /// that there are, and this node waits for it before it joins.
    pub peers: Option<Configured>,
    /// Where nodes were that a former agent of this node knew: they are looked for too.
    pub remembered: BTreeMap<NodeName, SocketAddr>,
    /// Whether this node was drained before it restarted.
    pub draining: bool,
    /// When a VIP goes back to a better candidate.
    pub failback: Failback,
    /// Ask the wire before a VIP is claimed that nobody has owned.
    pub check_first: bool,
    /// Seeds what is left to chance: ties in time, and numbers that must not repeat.
    pub seed: u64,
}

/// What a former agent of this node left in the kernel, read before anything is written. It is
/// gone on with if its lease still stands; if not, its VIPs are the first to be set silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The lease.
    pub lease: KernelLease,
    /// Its agent's deadline.
    pub deadline: Instant,
    /// How long a renewal by a peer lasted.
    pub peers_lease: Duration,
    /// Its count of times alone; zero if it is in company.
    pub alone: u32,
    /// The VIPs that the kernel answers for while the lease stands.
    pub vips: BTreeSet<IpAddr>,
}

/// The flags of the agent's side of the lease, as the kernel holds them.
pub fn lease_flags(lease: &AgentLease) -> u32 {
    let restarting = if lease.restarting { FLAG_RESTARTING } else { 0 };
    let draining = if lease.draining { FLAG_DRAINING } else { 0 };
    restarting | draining
}
