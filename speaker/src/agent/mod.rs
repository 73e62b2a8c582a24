//! The agent: one loop around [`Node`].
//!
//! Everything that can happen is an [`Event`], and everything that can result a [`Command`]; both
//! are handled on one thread, in the order of [`Agent::next_event`] and of the node.

mod adoption;
mod configuration;
mod frames;
mod ownership;
mod publication;
mod report;
mod shell;
mod start;

use std::{
    iter,
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use speaker_common::{layout, respond::Reason};
use speaker_core::{cluster, link::LinkChange, node::Input};
use tokio::{signal::unix::Signal, sync::mpsc, task::yield_now};
use tracing::{info, warn};

use crate::{
    api::{self, Request, Verb},
    kernel::{EventError, Events},
    kubernetes::Reach,
    source::Change,
    timer::until,
};
use adoption::Adoption;
use configuration::Configuration;
use frames::Taps;
use ownership::{LocalNode, Ownership, OwnershipEvent};
use publication::Publisher;

pub use ownership::Options as Membership;
pub use report::pinned;
pub use start::{Options, Source};

/// How long commands are carried out before other events get their turn: short enough that the
/// cluster does not consider this agent stalled.
const SLICE: Duration = Duration::from_millis(10);
/// How many link changes are handled together: each pod that comes or goes causes several, and
/// handling them looks at every VIP.
const LINKS: usize = 256;
/// How often to look for due work while nothing may be announced.
const WITHOUT_LEASE: Duration = Duration::from_millis(20);

/// Everything that can happen to the agent.
#[derive(Debug)]
enum Event {
    /// Something about ownership: a message, a probe, or a timer.
    Ownership(OwnershipEvent),
    /// Something that the node has planned is due, or commands are pending.
    Due,
    /// A link has changed.
    Link(LinkChange),
    /// The configuration has changed.
    Configuration(Change),
    /// The program reports a frame.
    Frame(Box<layout::Event>),
    /// A request over a socket.
    Request(Request),
    /// A signal to stop.
    Stop(&'static str),
}

/// Runs the agent until it is told to stop.
///
/// # Errors
///
/// It cannot start, or cannot continue.
pub async fn run(options: Options) -> Result<()> {
    let mut agent = Agent::start(options).await?;
    loop {
        let event = agent.next_event().await?;
        agent.handle(event);
        if agent.ownership.stopped {
            info!("stopped");
            return Ok(());
        }
        agent.settle();
        // A run of events that are always ready would starve the runtime's timers and sockets, and
        // the lease would lapse.
        yield_now().await;
    }
}

struct Agent {
    local: LocalNode,
    /// This node's name.
    name: String,
    configuration: Configuration,
    ownership: Ownership,
    /// Where the program runs may have changed since the last report to the other nodes.
    reattached: bool,
    /// The intent or the links have changed since candidates were last computed.
    replan: bool,
    taps: Taps,
    /// This and the next are `None` if the configuration does not come from a cluster.
    publisher: Option<Publisher>,
    reach: Option<Reach>,
    /// When there is something to publish.
    publish_at: Option<Instant>,
    /// It is settled what this node owns at the start.
    settled: bool,
    adoption: Adoption,

    links: mpsc::Receiver<LinkChange>,
    changes: mpsc::Receiver<Change>,
    events: Events,
    requests: mpsc::Receiver<Request>,
    terminate: Signal,
    interrupt: Signal,
}

impl Agent {
    /// The next event, most urgent first: what keeps the lease, then what moves VIPs, then what
    /// only informs.
    async fn next_event(&mut self) -> Result<Event> {
        // Announcements wait for the lease, which only other events can renew.
        let idle = match self.local.shell.is_lease_valid() {
            true => Duration::ZERO,
            false => WITHOUT_LEASE,
        };
        let earliest = Instant::now() + idle;
        let work = self.has_work();
        let adoption = self.adoption.due().filter(|_| self.settled);
        let times = [
            self.local.node.poll_timeout(),
            self.publish_at,
            adoption,
            self.taps.losses_due(),
        ];
        let time = times.into_iter().flatten().min();
        let due = async {
            if !work {
                until(time.map(|time| time.max(earliest))).await;
            }
        };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Ok(Event::Stop("SIGTERM")),
            _ = self.interrupt.recv() => Ok(Event::Stop("SIGINT")),
            event = self.ownership.next() => Ok(Event::Ownership(event)),
            change = self.links.recv() => match change {
                Some(change) => Ok(Event::Link(change)),
                None => bail!(
                    "the netlink subscription is lost, and links are no longer followed: restart \
                     the agent"
                ),
            },
            change = self.changes.recv() => match change {
                Some(change) => Ok(Event::Configuration(change)),
                None => bail!(
                    "the task that follows the configuration has ended: restart the agent, and \
                     report this as a bug"
                ),
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
            Event::Ownership(event) => {
                self.ownership.handle_event(event, &mut self.local);
            }
            Event::Due => {}
            Event::Link(first) => {
                let waiting = iter::from_fn(|| self.links.try_recv().ok());
                for change in iter::once(first).chain(waiting).take(LINKS) {
                    self.local.node.handle(Input::Link(change), now);
                }
                self.replan |= self.ownership.tell_links(&mut self.local);
            }
            Event::Configuration(change) => self.configure(change),
            Event::Frame(event) => {
                self.taps.tell(&event);
                if let Some((entry, by)) =
                    frames::claim(&event, self.local.node.port(event.ifindex))
                    && !self.local.node.has_mac(by)
                {
                    let local = &mut self.local;
                    if self.ownership.claimed(entry.address, by, local) {
                        self.local.node.handle(Input::Claimed { entry, by }, now);
                    }
                }
            }
            Event::Stop(signal) => {
                info!("{signal}: stopping");
                self.ownership.stop(&mut self.local);
            }
            Event::Request(request) => self.answer(request),
        }
    }

    /// Brings the kernel and the network closer to what the node has decided.
    fn settle(&mut self) {
        let end = Instant::now() + SLICE;
        while Instant::now() < end {
            // The node decides again only when all results are in: each decision considers
            // everything.
            if let Some(command) = self.local.node.next_command() {
                if let Some(input) = self.local.shell.carry_out(command) {
                    self.reattached |= matches!(
                        input,
                        Input::Attached { .. } | Input::KeptTags { .. } | Input::LinkSet { .. }
                    );
                    self.local.node.handle(input, Instant::now());
                }
                continue;
            }
            self.local.node.poll(Instant::now());
            if !self.local.node.is_behind() {
                break;
            }
        }
        if self.local.node.is_behind() {
            return;
        }
        if std::mem::take(&mut self.reattached) {
            self.replan |= self.ownership.tell_links(&mut self.local);
        }
        self.plan();
        if !self.settled && self.ownership.is_settled() {
            self.settled = true;
            let now = Instant::now();
            self.local.node.handle(Input::Settled, now);
            self.local.node.poll(now);
        }
        if self.local.node.is_behind() {
            return;
        }
        self.publish();
        if self.settled {
            let kernel = &mut self.local.shell.kernel;
            self.adoption.finish(kernel, Instant::now());
        }
        // A node that may not answer does not announce.
        if !self.local.shell.is_lease_valid() {
            self.tap();
            return;
        }
        let now = Instant::now();
        let announcements = self.local.node.announcements(now);
        let deliveries = self.local.shell.announce(&announcements);
        for (announcement, delivery) in announcements.iter().zip(&deliveries) {
            self.local
                .node
                .announced(announcement, delivery.outcome(), now);
        }
        self.tap();
    }

    /// Publishes this node's state for the cluster's users.
    fn publish(&mut self) {
        if let Some(publisher) = &mut self.publisher
            && self.settled
        {
            let (local, ownership) = (&self.local, &self.ownership);
            self.publish_at = publisher.publish(&self.configuration, local, ownership);
        }
    }

    /// Whether work can proceed at once.
    fn has_work(&self) -> bool {
        self.local.node.is_behind() || self.ownership.has_untold()
    }

    /// Tells the cluster which VIPs there are and who may own them, if that may have changed.
    fn plan(&mut self) {
        if !self.local.node.is_ready() {
            return;
        }
        let news = self.ownership.has_news();
        if std::mem::take(&mut self.replan) || news {
            self.ownership.plan(&self.configuration.intent, &self.local);
        }
        self.ownership.tell_vips(&mut self.local);
    }

    /// Opens the tap while there are watchers, and tells them what the ring has dropped.
    fn tap(&mut self) {
        let maps = self.local.shell.kernel.maps_mut();
        let lost = || maps.count(Reason::EventLost);
        let told = self.taps.tell_losses(lost, Instant::now());
        let watched = self.taps.watched();
        let result = told.and_then(|()| match maps.watched() {
            Ok(open) if open != watched => maps.set_watched(watched),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        });
        if let Err(error) = result {
            warn!("{:#}", anyhow::Error::from(error));
        }
    }

    fn configure(&mut self, mut change: Change) {
        if let Some(peers) = change.peers.take() {
            self.ownership.set_peers(peers, &mut self.local);
        }
        if self.configuration.take(change) || self.local.node.wanted().is_none() {
            let wanted = self.configuration.wanted(&self.name);
            self.local.want(wanted);
            self.replan = true;
        }
    }

    fn answer(&mut self, request: Request) {
        // If the client is gone, nobody needs the answer.
        match request {
            Request::Health(reply) => drop(reply.send(self.health())),
            Request::Report(reply) => drop(reply.send(self.report())),
            Request::Watch(reply) => drop(reply.send(self.taps.subscribe())),
            Request::Explain(vip, reply) => {
                let explanation = self.explain(vip);
                drop(reply.send(explanation));
            }
            Request::Ask(verb, reply) => {
                let (ownership, local) = (&mut self.ownership, &mut self.local);
                let done = match verb {
                    Verb::Drain => ownership.drain(true, local),
                    Verb::Undrain => ownership.drain(false, local),
                    Verb::Move { vip, node } => {
                        ownership.r#move(vip, &node, local).map_err(Into::into)
                    }
                    Verb::Rebalance => {
                        ownership.handle(cluster::Input::Rebalance, local);
                        Ok(())
                    }
                    Verb::EbpfLog { level } => {
                        let kernel = &mut local.shell.kernel;
                        let level = level.into_level();
                        kernel.set_ebpf_log_level(level).map_err(Into::into)
                    }
                };
                drop(reply.send(done.map_err(|error| format!("{error:#}"))));
            }
        }
    }

    fn explain(&self, vip: IpAddr) -> Option<api::Explanation> {
        let explanation = self.ownership.explain(vip)?;
        let intent = &self.configuration.intent;
        let excluded = self.ownership.excluded(vip, intent, &self.local);
        Some(report::explanation(vip, &self.name, explanation, excluded))
    }

    fn health(&self) -> api::Health {
        api::Health {
            is_configured: self.configuration.updates() > 0,
            is_settled: self.adoption.is_done(),
            is_lease_valid: self.local.shell.is_lease_valid(),
        }
    }

    fn report(&self) -> Result<api::Report> {
        let (local, ownership) = (&self.local, &self.ownership);
        let reach = self.reach.as_ref();
        report::report(&self.name, local, ownership, &self.configuration, reach)
    }
}
