//! What an agent reports to the cluster: who answers for which Service, and what is wrong.
//!
//! ```text
//! the agent's event loop ─ Publication ─► steps (pure) ─► API server
//!                                           ▲                 │
//!                                           └──── statuses ◄──┘
//! ```
//!
//! MetalLB's speakers write objects of the same kinds. While both run, theirs are left alone.
//!
//! Nothing waits for this. An API server that is away or slow gets a later state.

mod names;
mod pace;
mod state;
mod statuses;
mod steps;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use kube::{Api, Client};
use speaker_core::intent::ObjectName;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{ServiceL2Status, client::watch_config, watch::events};
use crate::timer::until;
use names::node_label;
use pace::{Outcome, Pace};
pub use state::Judgement;
pub(crate) use state::{Said, State};
use statuses::Statuses;
use steps::{Step, Told};
use write::{Writer, outcome};

/// The field manager (server-side apply).
const MANAGER: &str = "speaker";
/// How many requests are in flight at a time.
const AT_ONCE: usize = 8;
/// The shortest time between two looks at what is to be done: each considers every status, and the
/// watch may report thousands of changes one by one.
const PACE: Duration = Duration::from_millis(100);

/// What to report to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// The Services that this node answers for, each with its links.
    pub announced: BTreeMap<ObjectName, BTreeSet<String>>,
    /// The Services that other nodes answer for.
    pub elsewhere: BTreeSet<ObjectName>,
    /// The nodes with a live agent, including this one.
    pub live: BTreeSet<String>,
    /// The Services that cannot be announced, and why, if this node is the one to say so.
    pub failed: BTreeMap<ObjectName, String>,
    /// The uids of these Services.
    pub uids: BTreeMap<ObjectName, String>,
    /// The verdict on the configuration. `None` if the cluster has no such node: it would never be
    /// cleaned up.
    pub judgement: Option<Judgement>,
}

/// Who publishes.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node.
    pub node: String,
    /// The namespace of the installation.
    pub namespace: String,
}

/// Writes the latest publication to the cluster, until the sender is dropped.
pub async fn publish(
    client: Client,
    options: Options,
    mut publications: watch::Receiver<Option<Publication>>,
) {
    let api = Api::<ServiceL2Status>::namespaced(client.clone(), &options.namespace);
    let mut publisher = Publisher {
        label: node_label(&options.node),
        statuses: Statuses::default(),
        told: Told::default(),
        pace: Pace::default(),
        writer: Writer::new(client, &options),
        failing: false,
    };
    let until_then = "the cluster is not told what this node announces";
    let mut heard = pin!(events(api, watch_config(), until_then));
    let mut judged = pin!(publisher.writer.judged());
    let mut looked: Option<Instant> = None;
    let mut has_news = false;
    loop {
        let now = Instant::now();
        let look_at = match has_news {
            true => Some(now),
            false => publisher.pace.poll_timeout(now),
        };
        let next = looked.map_or(now, |looked| looked + PACE);
        has_news = tokio::select! {
            changed = publications.changed() => {
                if changed.is_err() {
                    return;
                }
                true
            }
            Some(event) = heard.next() => {
                publisher.statuses.hear(event);
                true
            }
            Some(said) = judged.next() => {
                publisher.told.judged = said;
                true
            }
            () = until(look_at.map(|at| at.max(next))) => false,
        };
        if has_news {
            continue;
        }
        looked = Some(Instant::now());
        let publication = publications.borrow_and_update().clone();
        if let Some(publication) = publication
            && publisher.statuses.is_listed()
        {
            publisher.work(&publication).await;
        }
    }
}

struct Publisher {
    /// This node, as labels name it.
    label: String,
    writer: Writer,
    statuses: Statuses,
    told: Told,
    pace: Pace,
    failing: bool,
}

impl Publisher {
    /// Carries out all due steps, and those that follow from them.
    async fn work(&mut self, publication: &Publication) {
        let announced = &publication.announced;
        self.told.said.retain(|it| announced.contains_key(it));
        loop {
            let records = &self.statuses.records;
            let steps = steps::steps(&self.label, publication, records, &self.told);
            let due = self.pace.due(steps, Instant::now());
            if self.failing && !self.pace.is_failing() {
                self.failing = false;
                info!("the cluster's view of this node is up to date again");
            }
            if due.is_empty() {
                return;
            }
            self.carry_out(due).await;
        }
    }

    async fn carry_out(&mut self, steps: Vec<Step>) {
        let writer = &self.writer;
        let mut results = stream::iter(steps)
            .map(|step| async move {
                let result = writer.carry_out(&step).await;
                (step, result)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((step, result)) = results.next().await {
            let outcome = match &result {
                Ok(_) => Outcome::Done,
                Err(error) => outcome(error),
            };
            let is_first = self.pace.note(step.clone(), outcome, Instant::now());
            match result {
                Ok(passing) => {
                    if let Some((name, version)) = passing {
                        self.statuses.pass(name, version);
                    }
                    step.note(&self.label, &mut self.statuses.records, &mut self.told);
                }
                Err(error) => {
                    // While the API server is away, one line is enough.
                    if is_first && (outcome == Outcome::Refused || !self.failing) {
                        warn!("cannot {step}: {error:#}; trying again");
                    }
                    self.failing = true;
                }
            }
        }
    }
}
