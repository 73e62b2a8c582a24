//! What the agent tells over its unix socket, and over HTTP.

mod client;
mod hex;
mod lease;
mod metrics;
mod server;

pub use client::{Client, NoAgent, OTHER_VERSION};
pub use lease::{LeaseReport, LeaseState};
pub use server::{Request, serve_http, serve_socket};

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use serde::{Deserialize, Serialize};
use speaker_common::layout::Counters;
use speaker_core::node::{LinkStatus, PlaceState, PlaceStatus, ProbeStatus, VipStatus};
use tracing::level_filters::LevelFilter;

/// Everything that `speaker status` shows, and `-o json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The node's name; `None` where no agent runs and only the pins were read.
    pub node: Option<String>,
    /// How the kernel-held lease stands.
    pub lease: LeaseReport,
    /// The VIPs by address.
    pub vips: Vec<VipReport>,
    /// The interfaces that the program runs on, or should.
    pub links: Vec<LinkStatus>,
    /// How other nodes' liveness probes are answered; none where there are no other nodes.
    #[serde(default)]
    pub probes: Option<ProbeStatus>,
    /// Frames that were not answered, by reason, and other things counted.
    pub reasons: BTreeMap<String, u64>,
    /// Configuration that was refused, and why.
    pub refused: Vec<String>,
    /// How often the configuration was told of; 0: not yet.
    #[serde(default)]
    pub updates: u64,
    /// Of these, how often something of it was refused.
    #[serde(default)]
    pub update_errors: u64,
    /// The API server, where the configuration is a cluster's.
    #[serde(default)]
    pub api_server: Option<ApiServerReport>,
    /// This node owns nothing until it is undrained.
    #[serde(default)]
    pub draining: bool,
    /// The other nodes that this one knows.
    #[serde(default)]
    pub members: Vec<MemberReport>,
    /// Messages that were sealed with none of this node's keys.
    #[serde(default)]
    pub unreadable: u64,
}

/// Whether the agent does its work.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    /// The configuration has been read.
    pub is_configured: bool,
    /// The agent has joined the others, and holds what an earlier agent left, or has removed it.
    pub is_settled: bool,
    /// The kernel may answer.
    pub is_lease_valid: bool,
}

impl Health {
    /// What is missing, if anything.
    pub fn obstacle(&self) -> Option<&'static str> {
        let Self {
            is_configured,
            is_settled,
            is_lease_valid,
        } = *self;
        if !is_configured {
            Some("the configuration has not been read yet: see the log")
        } else if !is_settled {
            Some("the agent is still joining the other nodes or taking over its maps: see the log")
        } else if !is_lease_valid {
            Some("the lease is not valid: see `speaker status`")
        } else {
            None
        }
    }
}

/// How the way to the API server stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiServerReport {
    /// That it does not answer: then what is known of the cluster stays in force.
    pub away: Option<AwayReport>,
}

/// The API server does not answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AwayReport {
    /// Milliseconds since the first request that failed.
    pub for_ms: u64,
    /// What the last one failed for.
    pub why: String,
}

/// Another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its name.
    pub name: String,
    /// Where its agent is reached.
    pub address: SocketAddr,
    /// `ready`, `draining`, `restarting`, `silent`, `down`, `left` or `not a member`.
    pub state: String,
    /// Milliseconds since it became a member, or ceased to be one.
    pub since_ms_ago: u64,
    /// Milliseconds since it last replied to a probe of this node, if this node watches it.
    pub heard_ms_ago: Option<u64>,
    /// The links that it can answer on.
    pub links: Vec<String>,
}

/// Who owns a VIP, since when, why that node and why not another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The VIP.
    pub vip: IpAddr,
    /// The node that tells.
    pub node: String,
    /// What that node does: `answering`, or why not.
    pub state: String,
    /// The node that owns it; none while it is vacant.
    pub owner: Option<String>,
    /// The ownership's epoch, which each new owner raises.
    pub epoch: u64,
    /// Milliseconds since the owner became one, as far as this node knows.
    pub since_ms_ago: Option<u64>,
    /// Why the owner became one.
    pub cause: Option<String>,
    /// The owners before, the last first, and why each was followed.
    pub history: Vec<FormerOwner>,
    /// The nodes that may own it, first in line first.
    pub candidates: Vec<CandidateReport>,
    /// The nodes that may not own it, and why.
    #[serde(default)]
    pub excluded: BTreeMap<String, String>,
    /// Who else claimed it last.
    pub claimed_by: Option<String>,
    /// Milliseconds since then.
    pub claimed_ms_ago: Option<u64>,
}

/// A node that owned a VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FormerOwner {
    /// Its name.
    pub node: String,
    /// Why another one followed.
    pub followed_because: String,
}

/// A node that may own a VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CandidateReport {
    /// Its name.
    pub node: String,
    /// Its preference.
    pub preference: i64,
    /// `owner`, `ready`, or why it cannot take the VIP now.
    pub standing: String,
}

/// What the operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Verb {
    /// Hand everything over and take nothing.
    Drain,
    /// Take part again.
    Undrain,
    /// Give a VIP, and those that belong together with it, to a node.
    Move {
        /// The VIP.
        vip: IpAddr,
        /// The node.
        node: String,
    },
    /// Spread the VIPs evenly over the nodes, with the fewest moves.
    Rebalance,
    /// Load the build of the program that logs, or the one that does not.
    EbpfLog {
        /// What it logs, and above.
        #[serde(with = "level")]
        level: LevelFilter,
    },
}

/// A level as its name.
mod level {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tracing::level_filters::LevelFilter;

    pub(super) fn serialize<S: Serializer>(level: &LevelFilter, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(level)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LevelFilter, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A VIP, and each link that it is on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipReport {
    /// What the agent knows.
    #[serde(flatten)]
    pub status: VipStatus,
    /// What the kernel counted, in the order of the places.
    pub counts: Vec<Counts>,
    /// The node that owns it, as far as this one knows.
    #[serde(default)]
    pub owner: Option<String>,
}

/// What the kernel counted for a VIP on a link.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests, solicitations and probes.
    pub requests: u64,
    /// Answered.
    pub answered: u64,
    /// Dropped because another node owns the VIP.
    pub suppressed: u64,
    /// Dropped because the lease had lapsed.
    pub refused: u64,
    /// Milliseconds since the last request.
    pub last_request_ms_ago: Option<u64>,
}

impl Counts {
    /// Counts as of `now`, in nanoseconds of `CLOCK_BOOTTIME`.
    pub fn new(counters: Counters, now: u64) -> Self {
        let requests = counters.requests();
        let Counters {
            answered,
            suppressed,
            refused,
            last_request_ns,
        } = counters;
        Self {
            requests,
            answered,
            suppressed,
            refused,
            last_request_ms_ago: (last_request_ns > 0)
                .then(|| now.saturating_sub(last_request_ns) / 1_000_000),
        }
    }
}

/// A line of the watch stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WatchLine {
    /// The program has handled a frame.
    Frame(FrameRecord),
    /// There were more frames than could be told of.
    Lost {
        /// How many have been left out.
        lost: u64,
    },
}

/// A frame that the program has handled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrameRecord {
    /// When, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The interface that it came in on.
    pub interface: String,
    /// What became of it.
    pub event: FrameEvent,
    /// Why, where it was rejected.
    pub reason: Option<String>,
    /// The frame's length on the wire.
    pub length: u16,
    /// Its first bytes.
    #[serde(with = "hex")]
    pub frame: Vec<u8>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameEvent {
    /// A request for a VIP, answered.
    Answered,
    /// A request for a VIP that another node owns, dropped.
    Suppressed,
    /// A request for a VIP, dropped because the lease was not valid.
    Refused,
    /// Not answered, for the reason in the record.
    Rejected,
    /// A reply that the program sent.
    Reply,
    /// Another MAC claims a VIP.
    Claimed,
    /// Another host probed whether a VIP is free, and was answered.
    Probed,
}

impl fmt::Display for FrameEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Answered => "answered",
            Self::Suppressed => "suppressed",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Reply => "reply",
            Self::Claimed => "claimed",
            Self::Probed => "probed",
        })
    }
}

/// The path of the agent's socket.
pub fn socket(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join(crate::state::SOCKET)
}

impl VipReport {
    /// Whether this node answers for it on some link.
    pub fn is_answering(&self) -> bool {
        let mut places = self.status.places.iter();
        places.any(|place| place.state == PlaceState::Answering)
    }

    /// The places with their counts.
    pub fn places(&self) -> impl Iterator<Item = (&PlaceStatus, Counts)> {
        let counts = self
            .counts
            .iter()
            .copied()
            .map(Some)
            .chain(std::iter::repeat(None));
        self.status
            .places
            .iter()
            .zip(counts)
            .map(|(place, counts)| (place, counts.unwrap_or_default()))
    }
}
