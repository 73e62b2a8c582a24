//! The controller: assigns addresses to Services.
//!
//! Its decisions are made in [`speaker_core::allocate`]; this carries them out. One loop receives
//! all events and starts everything that results.

mod feed;
mod key;
mod lease;
mod report;
mod service;
mod verdict;
mod webhook;
mod writes;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use kube::Client;
use speaker_core::allocate::{Command, Input, Leader, Term, Timing};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep_until, timeout},
};

use crate::kubernetes;

use self::{
    feed::{Feed, Sources, WATCHES},
    lease::Leases,
    report::{Readiness, Report},
    verdict::Verdict,
    writes::Writes,
};

/// The controller's flags.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the installation.
    pub namespace: String,
    /// How to reach the API server; without a file, as from a pod.
    pub kubeconfig: Option<PathBuf>,
    /// The class of Services to handle; `None`: those without a class.
    pub class: Option<String>,
    /// The address to serve probes and metrics on.
    pub http: SocketAddr,
    /// The webhooks, if served.
    pub webhooks: Option<Webhooks>,
    /// The name of this controller in leader election.
    pub identity: String,
}

/// Where webhooks are served, and how they are called.
#[derive(Clone, Debug)]
pub struct Webhooks {
    /// The address to serve them on.
    pub bind: SocketAddr,
    /// The Service through which the API server calls them.
    pub service: String,
}

/// Everything that can happen.
enum ControllerEvent {
    /// For the leader.
    Input(Box<Input>),
    /// One of the lists of a term is complete.
    Listed(Term),
    /// A watch broke.
    WatchFailed,
    /// A probe or a scrape requests a report.
    Asked(oneshot::Sender<Report>),
}

/// How long a request about the Lease may take.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long any other request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How many writes of statuses are in flight at a time, and how many of events.
const WRITES: usize = 32;
const EVENTS: usize = 4;
/// A controller that has not read or written the Lease for this long is not ready.
const OUT_OF_TOUCH: Duration = Duration::from_secs(30);

/// Runs the controller until it is told to stop.
///
/// # Errors
///
/// It cannot start: no way to the API server is configured, or an address cannot be listened on.
pub async fn run(options: Options) -> Result<()> {
    let (client, _) = kubernetes::connect(options.kubeconfig.as_deref()).await?;
    let (to, mut incoming) = mpsc::channel(1024);
    let webhooks = match &options.webhooks {
        Some(it) => Some(webhook::start(client.clone(), &options.namespace, it).await?),
        None => None,
    };
    let readiness = webhooks.as_ref().map(|it| it.readiness.clone());
    let readiness = readiness.unwrap_or_else(|| Readiness::new(Ok(())));
    report::serve(options.http, to.clone(), readiness).await?;
    tokio::spawn(key::keep(client.clone(), options.namespace.clone()));
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut controller = Controller::new(client, &options, to)?;
    controller.tell(Input::Tick);
    while !controller.leader.is_stopped() {
        let wake = controller.leader.poll_timeout();
        let wake = wake.unwrap_or_else(|| Instant::now() + REQUEST_TIMEOUT);
        tokio::select! {
            biased;
            _ = terminated.recv() => controller.tell(Input::Stop),
            _ = interrupted.recv() => controller.tell(Input::Stop),
            () = sleep_until(wake.into()) => controller.tell(Input::Tick),
            Some(event) = incoming.recv() => controller.handle(event),
        }
    }
    if let Some(webhooks) = webhooks {
        webhooks.leave().await;
    }
    Ok(())
}

struct Controller {
    leader: Leader,
    leases: Leases,
    writes: Writes,
    verdict: Verdict,
    sources: Sources,
    under_way: Arc<Semaphore>,
    /// For events: however many there are, they delay nothing else.
    events: Arc<Semaphore>,
    feed: Option<Feed>,
    /// How many lists of the term are complete.
    listed: (Term, usize),
    /// When the Lease was last read or written.
    heard: Option<Instant>,
    updates: u64,
    errors: u64,
}

impl Controller {
    fn new(client: Client, options: &Options, to: mpsc::Sender<ControllerEvent>) -> Result<Self> {
        // No two processes, nor two runs of one, may have the same identity.
        let run = u64::from_ne_bytes(key::random()?);
        let identity = format!("{}_{run:016x}", options.identity);
        Ok(Self {
            leader: Leader::new(identity, Timing::default(), Instant::now()),
            leases: Leases::new(client.clone(), &options.namespace),
            writes: Writes::new(client.clone(), options.identity.clone()),
            verdict: Verdict::new(client.clone(), &options.namespace),
            sources: Sources {
                client,
                namespace: options.namespace.clone(),
                class: options.class.clone(),
                to,
            },
            under_way: Arc::new(Semaphore::new(WRITES)),
            events: Arc::new(Semaphore::new(EVENTS)),
            feed: None,
            listed: (Term::default(), 0),
            heard: None,
            updates: 0,
            errors: 0,
        })
    }

    fn handle(&mut self, event: ControllerEvent) {
        match event {
            ControllerEvent::Input(input) => {
                match &*input {
                    Input::Changed(..) => self.updates += 1,
                    Input::Read(_) | Input::Swapped(_) => self.heard = Some(Instant::now()),
                    Input::Unread
                    | Input::NotSwapped
                    | Input::Wrote(_, _, false)
                    | Input::WrotePool(_, _, false) => self.errors += 1,
                    _ => (),
                }
                self.tell(*input);
            }
            ControllerEvent::Listed(term) => {
                if self.listed.0 != term {
                    self.listed = (term, 0);
                }
                self.listed.1 += 1;
                if self.listed.1 == WATCHES {
                    self.tell(Input::Listed(term));
                }
            }
            ControllerEvent::WatchFailed => self.errors += 1,
            // An error means that the client is gone.
            ControllerEvent::Asked(asker) => drop(asker.send(self.report())),
        }
    }

    fn tell(&mut self, input: Input) {
        let was_leading = self.leader.is_leading();
        self.leader.handle(input, Instant::now());
        while let Some(command) = self.leader.next_command() {
            self.carry_out(command);
        }
        self.verdict.set(self.leader.allocator());
        match (was_leading, self.leader.is_leading()) {
            (false, true) => tracing::info!("leading: this controller assigns the addresses"),
            (true, false) => tracing::info!("no longer leading"),
            _ => (),
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Read => {
                let leases = self.leases.clone();
                self.request(false, async move {
                    match known(
                        LEASE_TIMEOUT,
                        "read Lease speaker-controller",
                        leases.read(),
                    )
                    .await
                    {
                        Some(lease) => Input::Read(lease),
                        None => Input::Unread,
                    }
                });
            }
            Command::Swap(lease) => {
                let leases = self.leases.clone();
                self.request(false, async move {
                    let swap = leases.swap(&lease);
                    match known(LEASE_TIMEOUT, "write Lease speaker-controller", swap).await {
                        Some(Some(version)) => Input::Swapped(version),
                        Some(None) | None => Input::NotSwapped,
                    }
                });
            }
            Command::Watch(term) => self.feed = Some(Feed::start(&self.sources, term)),
            Command::Forget => self.feed = None,
            Command::Write(write) => {
                let writes = self.writes.clone();
                self.request(true, async move {
                    let name = &write.pending.name;
                    let what = format!("write the status of Service {name}");
                    let over = known(REQUEST_TIMEOUT, &what, writes.status(&write)).await;
                    Input::Wrote(write.term, write.id, over.unwrap_or(false))
                });
            }
            Command::WritePool(write) => {
                let writes = self.writes.clone();
                self.request(true, async move {
                    let what = format!("write the status of IPAddressPool {}", write.name);
                    let done = known(REQUEST_TIMEOUT, &what, writes.counters(&write)).await;
                    Input::WrotePool(write.term, write.name, done.is_some())
                });
            }
            Command::Tell(notice) => {
                let writes = self.writes.clone();
                let events = Arc::clone(&self.events);
                tokio::spawn(async move {
                    let _permit = events.acquire().await;
                    let what = format!("write an event of Service {}", notice.name);
                    known(REQUEST_TIMEOUT, &what, writes.tell(&notice)).await;
                });
            }
        }
    }

    /// Makes a request, queued if there are many, and tells the loop the outcome.
    fn request(&self, is_in_turn: bool, request: impl Future<Output = Input> + Send + 'static) {
        let to = self.sources.to.clone();
        let under_way = Arc::clone(&self.under_way);
        tokio::spawn(async move {
            let _permit = match is_in_turn {
                true => Some(under_way.acquire().await),
                false => None,
            };
            // An error means that the loop has ended.
            let input = Box::new(request.await);
            drop(to.send(ControllerEvent::Input(input)).await);
        });
    }

    fn report(&self) -> Report {
        let allocator = self.leader.allocator();
        let pools = allocator.into_iter().flat_map(|it| it.usage());
        Report {
            is_leading: self.leader.is_leading(),
            is_in_touch: self.heard.is_some_and(|it| it.elapsed() < OUT_OF_TOUCH),
            is_loaded: allocator.is_some(),
            is_stale: allocator.is_some_and(|it| it.is_stale()),
            updates: self.updates,
            errors: self.errors,
            pools: pools
                .map(|(name, usage)| (name.name.clone(), usage))
                .collect(),
        }
    }
}

/// The outcome of a request; `None` if it failed or took too long, which is logged.
async fn known<T>(
    within: Duration,
    what: &str,
    request: impl Future<Output = Result<T>>,
) -> Option<T> {
    match timeout(within, request).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(error)) => {
            tracing::warn!("cannot {what}: {}", reason(&error));
            None
        }
        Err(_) => {
            tracing::warn!("cannot {what}: no answer within {within:?}");
            None
        }
    }
}

/// An error with its causes, down to the API server's message.
fn reason(error: &anyhow::Error) -> String {
    let mut causes = Vec::new();
    for cause in error.chain() {
        if let Some(kube::Error::Api(status)) = cause.downcast_ref() {
            causes.push(status.message.clone());
            break;
        }
        causes.push(cause.to_string());
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests;
