//! The agent: one loop around [`Node`].
//!
//! Everything that can happen is an [`Event`], everything that can come of it a [`Command`]; both
//! are carried out on one thread, in the order of [`Agent::next_event`] and of the node.

mod frames;
mod report;
mod shell;

use std::{
    collections::BTreeSet,
    fs::DirBuilder,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use futures::future::{Either, pending, ready};
use speaker_common::layout;
use speaker_core::{
    announce::{Announcer, Config},
    intent::{self, Intent},
    link::LinkChange,
    node::{Command, Input, Node},
    plan::Choice,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use crate::{
    api::{self, Request},
    kernel::{self, EventError, Events, Kernel, ModeChoice},
    manifests,
    netlink::{self, Watch},
};
use frames::Taps;
use shell::Shell;

pub use report::pinned;

/// How long the kernel goes on answering after the agent died.
const GRACE: Duration = Duration::from_secs(3);
/// How long it goes on after the agent was stopped in an orderly way: time for a restart.
const RESTART_GRACE: Duration = Duration::from_secs(60);
/// How often the lease is renewed. Several are missed before anything happens.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How long commands are carried out without a look at what else has happened.
const SLICE: Duration = Duration::from_millis(50);

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
    /// Something that the node has planned is due, or commands are left over.
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
    node: Node,
    me: intent::Node,
    intent: Intent,
    shell: Shell,
    taps: Taps,
    /// The manifests' own errors.
    refused: Vec<String>,
    /// What an earlier agent left is this one's, or gone.
    adopted: bool,
    /// What the maps hold is what this agent wants: it may hold the lease.
    holds: bool,

    heartbeat: Interval,
    links: mpsc::Receiver<LinkChange>,
    manifests: mpsc::Receiver<manifests::Change>,
    events: Events,
    requests: mpsc::Receiver<Request>,
    terminate: Signal,
    interrupt: Signal,
}

impl Agent {
    async fn start(options: Options) -> Result<Self> {
        let Options {
            node_name,
            manifests,
            interfaces,
            mode,
            bpffs,
            state_dir,
            http,
            refresh,
            ebpf_log_level,
        } = options;
        // Before what only fails because of it.
        kernel::check()?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state_dir)
            .with_context(|| format!("cannot make {} (--state-dir)", state_dir.display()))?;
        let kernel = Kernel::open(&kernel::Options {
            bpffs,
            ebpf_log_level,
        })?;
        let events = kernel.events()?;
        let shell = Shell::new(kernel, mode)?;

        let (sender, requests) = mpsc::channel(16);
        api::serve_socket(&api::socket(&state_dir), sender.clone())?;
        if let Some(address) = http {
            api::serve_http(address, sender).await?;
        }

        let Watch { links, changes } = netlink::watch().await?;
        for name in &interfaces {
            if !links.iter().any(|link| link.name == *name) {
                warn!("there is no interface {name} (--interface) yet: waiting for it");
            }
        }
        let (changed, changes_of_manifests) = mpsc::channel(1);
        tokio::spawn(manifests::watch(manifests, state_dir, changed));

        let choice = if interfaces.is_empty() {
            Choice::Usual
        } else {
            Choice::Named(interfaces)
        };
        let now = Instant::now();
        let config = Config {
            refresh,
            seed: seed(&node_name),
            ..Config::default()
        };
        let mut node = Node::new(choice, Announcer::new(&config, now));
        node.handle(Input::Adopted(shell.adopted()?), now);
        node.handle(Input::Links(links.into_iter().collect()), now);

        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            node,
            me: intent::Node::standalone(node_name),
            intent: Intent::new(None),
            shell,
            taps: Taps::new(),
            refused: Vec::new(),
            adopted: false,
            holds: false,
            heartbeat,
            links: changes,
            manifests: changes_of_manifests,
            events,
            requests,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next event, the most urgent first: what keeps the lease, then what moves VIPs, then what
    /// only informs.
    async fn next_event(&mut self) -> Result<Event> {
        let due = match (self.node.has_commands(), self.node.poll_timeout()) {
            (true, _) => Either::Left(ready(())),
            (false, Some(time)) => Either::Right(Either::Left(sleep_until(time.into()))),
            (false, None) => Either::Right(Either::Right(pending())),
        };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Ok(Event::Stop("SIGTERM")),
            _ = self.interrupt.recv() => Ok(Event::Stop("SIGINT")),
            _ = self.heartbeat.tick() => Ok(Event::Heartbeat),
            change = self.links.recv() => match change {
                Some(change) => Ok(Event::Link(change)),
                None => bail!("the kernel tells no more of its links"),
            },
            change = self.manifests.recv() => match change {
                Some(change) => Ok(Event::Manifests(change)),
                None => bail!("nobody reads the manifests any more"),
            },
            () = due => Ok(Event::Due),
            Some(request) = self.requests.recv() => Ok(Event::Request(request)),
            event = self.events.next() => match event {
                Ok(event) => Ok(Event::Frame(Box::new(event))),
                Err(error @ EventError::Meaningless { .. }) => {
                    warn!("{error}");
                    Ok(Event::Due)
                }
                Err(error @ EventError::Ring(_)) => Err(error.into()),
            },
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Heartbeat => self.renew(GRACE),
            Event::Due | Event::Stop(_) => {}
            Event::Link(change) => self.node.handle(Input::Link(change), now),
            Event::Manifests(change) => self.configure(change, now),
            Event::Frame(event) => {
                self.taps.tell(&event);
                if let Some(input) = frames::input(&event, self.node.port(event.ifindex)) {
                    self.node.handle(input, now);
                }
            }
            Event::Request(request) => self.answer(request),
        }
    }

    /// Brings the kernel and the network to what the node has decided, or some of the way.
    fn settle(&mut self) {
        let end = Instant::now() + SLICE;
        while Instant::now() < end {
            // All results are in before the node decides anew: each decision looks at everything.
            if let Some(command) = self.node.next_command() {
                if matches!(command, Command::Attach(_)) {
                    // Entries come first: where the program takes the place of one with other
                    // maps, it is to answer from its first frame on.
                    self.holds = true;
                    self.renew(GRACE);
                }
                if let Some(input) = self.shell.carry_out(command) {
                    self.node.handle(input, Instant::now());
                }
                continue;
            }
            self.node.poll(Instant::now());
            if !self.node.has_commands() {
                break;
            }
            // To decide about many VIPs takes a while.
            self.renew(GRACE);
        }
        if self.node.has_commands() {
            return;
        }
        if self.node.is_ready() && !self.adopted {
            self.adopted = true;
            self.holds = true;
            self.renew(GRACE);
            match self.shell.kernel.finish_adoption() {
                Ok(_) => info!("ready"),
                Err(error) => warn!("{:#}", anyhow::Error::from(error)),
            }
        }
        let now = Instant::now();
        let announcements = self.node.announcements(now);
        let deliveries = self.shell.announce(&announcements);
        for (announcement, delivery) in announcements.iter().zip(&deliveries) {
            self.node.announced(announcement, delivery.outcome(), now);
        }
        self.tap();
    }

    /// Holds the lease for this long, if this agent may.
    fn renew(&mut self, lasts: Duration) {
        if !self.holds {
            return;
        }
        self.shell.hold(lasts);
    }

    /// Opens the tap while somebody watches, and closes it when the last one is gone.
    fn tap(&mut self) {
        let watched = self.taps.watched();
        let maps = self.shell.kernel.maps_mut();
        let result = match maps.watched() {
            Ok(open) if open != watched => maps.set_watched(watched),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            warn!("{:#}", anyhow::Error::from(error));
        }
    }

    fn configure(&mut self, change: manifests::Change, now: Instant) {
        let manifests::Change {
            delete,
            apply,
            refused,
        } = change;
        for key in &delete {
            self.intent.delete(key);
        }
        for object in apply {
            self.intent.apply(object);
        }
        // With many objects, each of these steps takes a while.
        self.renew(GRACE);
        self.refused = refused.iter().map(ToString::to_string).collect();
        let wanted = self.intent.wanted(&self.me);
        self.renew(GRACE);
        self.node.handle(Input::Wanted(wanted), now);
    }

    fn answer(&self, request: Request) {
        // Who asked may be gone: then nobody needs the answer.
        match request {
            Request::Report(reply) => match self.report() {
                Ok(report) => drop(reply.send(report)),
                Err(error) => warn!("{error:#}"),
            },
            Request::Watch(reply) => drop(reply.send(self.taps.subscribe())),
        }
    }

    fn report(&self) -> Result<api::Report> {
        let conflicts = self.intent.conflicts().values().map(ToString::to_string);
        let refused = self.refused.iter().cloned().chain(conflicts).collect();
        let maps = self.shell.kernel.maps();
        report::report(&self.me.name, self.node.status(), maps, refused)
    }

    /// Leaves everything as it is, with time for a restart.
    fn stop(&mut self, signal: &str) {
        self.renew(RESTART_GRACE);
        info!(
            "{signal}: stopping. The kernel goes on answering for {} s; `speaker detach` ends that",
            RESTART_GRACE.as_secs()
        );
    }
}

/// What sets this node's refreshes apart from those of others.
fn seed(node_name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    node_name.hash(&mut hasher);
    hasher.finish()
}
