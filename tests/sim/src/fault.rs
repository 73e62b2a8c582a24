//! What can go wrong, and what users do.

use std::fmt;

use speaker_core::cluster::Settings;

/// Something that happens to the cluster. Spans are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The host loses power, and boots again after a while.
    Crash { node: usize, back: Option<u64> },
    /// The agent is killed in the middle of what it does, and started again.
    Kill {
        node: usize,
        after: usize,
        back: u64,
    },
    /// The agent stands still, in the middle of what it does.
    Stop {
        node: usize,
        after: usize,
        span: u64,
    },
    /// All agents stand still now and then: the CPUs are busy.
    Busy { pause: u64, span: u64 },
    /// The host stands still, with all that is on its way to it.
    Freeze { node: usize, span: u64 },
    /// The agent restarts as announced.
    Restart { node: usize, away: u64 },
    /// The node's next agent is told other times.
    Flags { node: usize, settings: Settings },
    /// The configuration no longer has these nodes, and then has them again.
    Remove {
        nodes: Vec<usize>,
        back: Option<u64>,
    },
    /// The agent hands everything over and leaves; it comes back, or not.
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
    /// What a node sends is lost, or what is sent to it.
    Mute {
        node: usize,
        inbound: bool,
        span: u64,
    },
    /// What a node's agent sends is lost, while its kernel answers probes: a filter or a full queue
    /// on the way out.
    Choke { node: usize, span: u64 },
    /// Many packets are lost; the chance is in parts per million.
    Storm { loss: u32, span: u64 },
    /// Probes are lost; messages pass.
    NoProbes { span: u64 },
    /// The node's link to the VIPs' subnet is down.
    LinkDown { node: usize, span: u64 },
    /// Somebody drains the node, and undrains it.
    Drain { node: usize, span: u64 },
    /// Somebody asks a node to move a VIP.
    Move { asked: usize, vip: usize, to: usize },
    /// Somebody asks for an even spread.
    Rebalance { asked: usize },
    /// A VIP goes, and comes back.
    Withdraw { vip: usize, span: u64 },
    /// A VIP is not to be with the one that it follows, and then is again.
    Separate { vip: usize, span: u64 },
}

impl Fault {
    /// When it is over, after it began.
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
