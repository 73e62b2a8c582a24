//! The agent's API: a unix socket for the command line, and HTTP for probes and metrics.

mod client;
mod explanation;
mod hex;
mod lease;
mod metrics;
mod report;
mod server;
mod verb;
mod watch;

pub use client::{Client, NoAgent, OTHER_VERSION};
pub use explanation::{CandidateReport, Explanation, FormerOwner, NodeState};
pub use lease::{LeaseReport, LeaseState};
pub use report::{ApiServerReport, AwayReport, Counts, MemberReport, Report, VipReport};
pub use server::{Request, serve_http, serve_socket};
pub use verb::Verb;
pub use watch::{FrameEvent, FrameRecord, WatchLine};

use std::path::{Path, PathBuf};

use crate::state;

/// Whether the agent does its work.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    /// The configuration has been read.
    pub is_configured: bool,
    /// The agent has joined the other nodes, and has adopted or removed what an earlier agent left.
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

/// The path of the agent's socket.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join(state::SOCKET)
}
