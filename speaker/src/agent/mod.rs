//! The agent: one loop around [`Node`].
//!
//! Everything that can happen is an [`Event`], everything that can come of it a [`Command`]; both
//! are carried out on one thread, in the order of [`Agent::next_event`] and of the node.

mod frames;
mod report;
mod shell;

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use speaker_common::layout;
use speaker_core::{
    announce::{Announcer, Config},
    intent::{self, Intent},
    link::LinkChange,
    node::{Input, Node},
    plan::Choice,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use crate::{
    api::{self, Request},
    kernel::{Events, Kernel, ModeChoice, boottime},
    manifests::{self, Manifests},
    netlink::{self, Watch},
};
use frames::Taps;
use shell::Shell;

/// How long the kernel goes on answering after the agent died.
const GRACE: Duration = Duration::from_secs(3);
/// How long it goes on after the agent was stopped in an orderly way: time for a restart.
const RESTART_GRACE: Duration = Duration::from_secs(60);
/// How often the lease is renewed. Several are missed before anything happens.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// What the agent is told on its command line.
#[derive(Debug)]
pub struct Options {
    /// This node's name.
    pub node_name: String,
    /// The directory of manifests.
    pub manifests: PathBuf,
    /// The interfaces to use; none: the usual ones.
    pub interfaces: BTreeSet<String>,
    /// Where the program runs.
    pub mode: ModeChoice,
    /// The bpf file system.
    pub bpffs: PathBuf,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Where HTTP is served.
    pub http: Option<SocketAddr>,
    /// Between two announcements of a VIP.
    pub refresh: Duration,
    /// The level of the traced build; none: the normal one.
    pub ebpf_log_level: Option<tracing::Level>,
}

/// Everything that can happen to the agent.
#[derive(Debug)]
enum Event {
    /// It is time to renew the lease.
    Heartbeat,
    /// Something that the node has planned is due.
    Due,
    /// A link has changed.
    Link(LinkChange),
    /// The manifests have changed.
    Manifests(manifests::Change),
    /// The program tells of a frame.
    Frame(Box<layout::Event>),
    /// Somebody asks over a socket.
    Request(Request),
    /// The process is told to stop.
    Stop(&'static str),
}

/// Runs the agent until it is told to stop.
///
/// # Errors
///
/// Whatever keeps it from starting, or from going on, for the operator to read.
pub async fn run(options: Options) -> Result<()> {
    let mut agent = Agent::start(options).await?;
    loop {
        let event = agent.next_event().await?;
        if let Event::Stop(signal) = event {
            agent.stop(signal);
            return Ok(());
        }
        agent.handle(event);
        agent.settle();
    }
}

struct Agent {
    name: String,
    node: Node,
    intent: Intent,
    shell: Shell,
    taps: Taps,
    refused: Vec<String>,

    heartbeat: Interval,
    links: mpsc::Receiver<LinkChange>,
    manifests: Manifests,
    events: Events,
    requests: mpsc::Receiver<Request>,
    terminate: Signal,
    interrupt: Signal,
}
