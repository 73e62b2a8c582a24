//! What `speaker status` shows.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};
use speaker_common::layout::Counters;
use speaker_core::{
    cluster::CandidateStanding,
    node::{LinkStatus, PlaceState, PlaceStatus, ProbeStatus, VipStatus},
};

use super::LeaseReport;

/// Everything that `speaker status` shows, and `-o json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The node's name; `None` where no agent runs and only the pins were read.
    pub node: Option<String>,
    /// The state of the kernel-held lease.
    pub lease: LeaseReport,
    /// The VIPs by address.
    pub vips: Vec<VipReport>,
    /// The interfaces that the program runs on, or should run on.
    pub links: Vec<LinkStatus>,
    /// How other nodes' liveness probes are answered; `None` if there are no other nodes.
    #[serde(default)]
    pub probes: Option<ProbeStatus>,
    /// How many frames were not answered, and other events, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Configuration that was refused, and why.
    pub refused: Vec<String>,
    /// How many updates of the configuration have arrived; 0: it has not been read yet.
    #[serde(default)]
    pub updates: u64,
    /// How many of them had something refused.
    #[serde(default)]
    pub update_errors: u64,
    /// The API server, if the configuration comes from a cluster.
    #[serde(default)]
    pub api_server: Option<ApiServerReport>,
    /// This node owns nothing until it is undrained.
    #[serde(default)]
    pub draining: bool,
    /// The other nodes that this one knows.
    #[serde(default)]
    pub members: Vec<MemberReport>,
    /// How many messages could not be decrypted with this node's keys.
    #[serde(default)]
    pub unreadable: u64,
}

/// A VIP, and each link that it is on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipReport {
    /// What the node does about it.
    #[serde(flatten)]
    pub status: VipStatus,
    /// What the kernel counted, for each place in order.
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

impl VipReport {
    /// Whether this node answers for it on any link.
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

/// The state of the connection to the API server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiServerReport {
    /// Set while it does not answer; the last known configuration then stays in force.
    pub away: Option<AwayReport>,
}

/// The API server does not answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AwayReport {
    /// Milliseconds since the first request that failed.
    pub for_ms: u64,
    /// Why the last one failed.
    pub why: String,
}

/// Another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its name.
    pub name: String,
    /// The address of its agent.
    pub address: SocketAddr,
    /// Its standing regardless of VIPs: never [`CandidateStanding::Owner`].
    pub state: CandidateStanding,
    /// Milliseconds since it became a member, or ceased to be one.
    pub since_ms_ago: u64,
    /// Milliseconds since it last replied to a probe of this node, if this node watches it.
    pub heard_ms_ago: Option<u64>,
    /// The links that it can answer on.
    pub links: Vec<String>,
}
