//! What an agent tells the cluster: who answers for which Service, and what is wrong.
//!
//! ```text
//! the agent's event loop ─ Publication ─► steps (pure) ─► API server
//!                                           ▲                 │
//!                                           └──── statuses ◄──┘
//! ```
//!
//! Nothing waits for this: an API server that is away or slow is told later, of what holds then.

mod state;
mod steps;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt as _, stream, stream::BoxStream};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{Event, watcher},
    },
};
use speaker_core::intent::ObjectName;
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use super::{ServiceL2Status, client::watch_config};
use crate::timer::until;
pub(crate) use state::State;
use steps::{Record, Step, Told};
use write::Writer;

/// Whose fields they are (server-side apply).
const MANAGER: &str = "speaker";
/// How long to wait before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(3);
/// How many requests are under way at a time.
const AT_ONCE: usize = 8;

/// What the cluster should know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// The Services that this node answers for, each with the links.
    pub announced: BTreeMap<ObjectName, BTreeSet<String>>,
    /// The Services that other nodes answer for.
    pub elsewhere: BTreeSet<ObjectName>,
    /// The nodes whose agents are there, this one included.
    pub live: BTreeSet<String>,
    /// The Services that cannot be announced, as far as this node is the one to say so, and why.
    pub failed: BTreeMap<ObjectName, String>,
    /// What of the configuration is refused.
    pub refused: Vec<String>,
}

/// Who publishes.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node.
    pub node: String,
    /// The namespace of the installation.
    pub namespace: String,
}

/// Keeps the cluster told of the last publication, until there are no more.
pub async fn publish(
    client: Client,
    options: Options,
    mut publications: watch::Receiver<Option<Publication>>,
) {
    let api = Api::<ServiceL2Status>::namespaced(client.clone(), &options.namespace);
    let mut publisher = Publisher {
        records: BTreeMap::new(),
        listing: None,
        listed: false,
        told: Told::default(),
        writer: Writer::new(client, &options),
        node: options.node,
        retry_at: None,
        failing: false,
    };
    let mut statuses: BoxStream<'static, _> = watcher(api, watch_config())
        .default_backoff()
        .filter_map(|event| std::future::ready(event.ok()))
        .boxed();
    loop {
        tokio::select! {
            changed = publications.changed() => if changed.is_err() {
                return;
            },
            Some(event) = statuses.next() => publisher.hear(event),
            () = until(publisher.retry_at) => publisher.retry_at = None,
        }
        let publication = publications.borrow_and_update().clone();
        if let Some(publication) = publication
            && publisher.listed
            && publisher.retry_at.is_none()
        {
            publisher.work(&publication).await;
        }
    }
}

struct Publisher {
    node: String,
    writer: Writer,
    /// The statuses that there are, by the name of the object.
    records: BTreeMap<String, Record>,
    /// What a list that has begun has named so far.
    listing: Option<BTreeMap<String, Record>>,
    listed: bool,
    told: Told,
    retry_at: Option<Instant>,
    failing: bool,
}

impl Publisher {
    fn hear(&mut self, event: Event<ServiceL2Status>) {
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(status) => {
                if let Some(listing) = &mut self.listing {
                    listing.extend(Record::of(&status));
                }
            }
            Event::InitDone => {
                self.records = self.listing.take().unwrap_or_default();
                self.listed = true;
            }
            Event::Apply(status) => self.records.extend(Record::of(&status)),
            Event::Delete(status) => {
                let name = status.metadata.name.as_deref().unwrap_or_default();
                self.records.remove(name);
            }
        }
    }

    /// Carries all steps out, and those that they lead to.
    async fn work(&mut self, publication: &Publication) {
        loop {
            let steps = steps::steps(&self.node, publication, &self.records, &self.told);
            if steps.is_empty() || !self.carry_out(steps).await {
                return;
            }
        }
    }

    /// Whether all of them succeeded.
    async fn carry_out(&mut self, steps: Vec<Step>) -> bool {
        let writer = &self.writer;
        let mut results = stream::iter(steps)
            .map(|step| async move {
                let result = writer.carry_out(&step).await;
                (step, result)
            })
            .buffer_unordered(AT_ONCE);
        let mut failure = None;
        while let Some((step, result)) = results.next().await {
            match result {
                Ok(()) => step.note(&self.node, &mut self.records, &mut self.told),
                Err(error) => failure = Some((step, error)),
            }
        }
        drop(results);
        match failure {
            Some((step, error)) => {
                if !self.failing {
                    warn!("cannot {step}: {error:#}; trying again");
                }
                self.failing = true;
                self.retry_at = Some(Instant::now() + RETRY);
                false
            }
            None => {
                if self.failing {
                    info!("the cluster knows again what this node does");
                }
                self.failing = false;
                true
            }
        }
    }
}
