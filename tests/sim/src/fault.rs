//! Faults, and actions of users.

use std::fmt;

use speaker_core::cluster::Settings;

/// Something that happens to the cluster. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The host loses power, and boots again after a while.
    Crash { node: usize, back: Option<u64> },
    /// The agent is killed in the middle of its commands, and restarted.
    Kill {
        node: usize,
        after: usize,
        back: u64,
    },
    /// The agent is frozen in the middle of its commands.
    Stop {
        node: usize,
        after: usize,
        span: u64,
    },
    /// All agents stall now and then: the CPUs are busy.
    Busy { pause: u64, span: u64 },
    /// The host is paused, with everything on its way to it.
    Freeze { node: usize, span: u64 },
    /// The agent restarts as announced.
    Restart { node: usize, away: u64 },
    /// The node's next agent has different times.
    Flags { node: usize, settings: Settings },
    /// The configuration no longer has these nodes, and then has them again.
    Remove {
        nodes: Vec<usize>,
        back: Option<u64>,
    },
    /// The agent hands everything over and leaves; it may come back.
    Leave { node: usize, back: Option<u64> },
    /// No packet passes between these and the rest.
    Split { side: Vec<usize>, span: u64 },
    /// No packet passes from one to the other.
    OneWay { from: usize, to: usize, span: u64 },
    /// No packet passes between the two.
    Cut { one: usize, other: usize, span: u64 },
    /// No packet passes from the first to the second of each pair.
    Holes {
        ways: Vec<(usize, usize)>,
        span: u64,
    },
    /// Nothing reaches the node, not even a client's request or another's announcement; what it
    /// sends arrives.
    Deaf { node: usize, span: u64 },
    /// Packets from a node are lost, or packets to it.
    Mute {
        node: usize,
        inbound: bool,
        span: u64,
    },
    /// Packets from a node's agent are lost, while its kernel answers probes: a filter or a full
    /// queue on the way out.
    Choke { node: usize, span: u64 },
    /// Many packets are lost; the chance is in parts per million.
    Storm { loss: u32, span: u64 },
    /// Probes are lost; messages pass.
    NoProbes { span: u64 },
    /// The node's link to the VIPs' subnet is down.
    LinkDown { node: usize, span: u64 },
    /// The node is drained, and undrained.
    Drain { node: usize, span: u64 },
    /// A node is asked to move a VIP.
    Move { asked: usize, vip: usize, to: usize },
    /// A rebalance is requested.
    Rebalance { asked: usize },
    /// A VIP is removed, and added again.
    Withdraw { vip: usize, span: u64 },
    /// A VIP stops following its leader, and then follows it again.
    Separate { vip: usize, span: u64 },
}

impl Fault {
    /// How long it lasts.
    pub fn span(&self) -> u64 {
        match *self {
            Self::Crash { back, .. } | Self::Leave { back, .. } | Self::Remove { back, .. } => {
                back.unwrap_or(0)
            }
            Self::Kill { back, .. } => back,
            Self::Restart { away, .. } => away,
            Self::Stop { span, .. }
            | Self::Busy { span, .. }
            | Self::Freeze { span, .. }
            | Self::Split { span, .. }
            | Self::OneWay { span, .. }
            | Self::Cut { span, .. }
            | Self::Holes { span, .. }
            | Self::Deaf { span, .. }
            | Self::Mute { span, .. }
            | Self::Choke { span, .. }
            | Self::Storm { span, .. }
            | Self::NoProbes { span }
            | Self::LinkDown { span, .. }
            | Self::Drain { span, .. }
            | Self::Withdraw { span, .. }
            | Self::Separate { span, .. } => span,
            Self::Move { .. } | Self::Rebalance { .. } | Self::Flags { .. } => 0,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
