//! Following the objects of a cluster.
//!
//! ```text
//! watches ─ News ─► Objects (pure) ─ Change ─► the agent's event loop
//!                      ▲       └─ what is in force ─► store
//!                      └────────────── at the start ──────┘
//! ```
//!
//! Nothing is passed on until every kind has been listed: half a configuration would withdraw VIPs.
//! What was in force before a restart stays in force where the API server has nothing valid to
//! replace it: for an object that is refused, for pools that overlap, and for everything while it
//! is away.

mod objects;
mod store;
mod streams;

use std::{path::PathBuf, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use kube::Client;
use tokio::{sync::mpsc, time::Instant};
use tracing::{info, warn};

use crate::{source::Change, timer::until};
use objects::{News, Objects};
use store::Store;

/// How long to wait for the API server at the start before using the last known configuration.
const PATIENCE: Duration = Duration::from_secs(3);
/// The shortest time between two writes of what is in force.
const KEEP: Duration = Duration::from_secs(5);

/// What an agent follows.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the installation: its pools, advertisements and agents.
    pub namespace: String,
    /// Where the last known objects are kept for a restart.
    pub state_dir: PathBuf,
}

/// Sends the configuration, and then its changes, until the receiver is dropped.
pub async fn follow(client: Client, options: Options, changes: mpsc::Sender<Change>) {
    let store = Store::new(&options.state_dir);
    let mut objects = Objects::default();
    let recalled = match store.load().await {
        Ok(known) => known.map(|known| {
            objects.recall(known.objects, known.peers);
            known.written
        }),
        Err(error) => {
            warn!("{error:#}: starting without the last known configuration");
            None
        }
    };
    let mut follower = Follower {
        news: streams::all(&client, &options.namespace).boxed(),
        objects,
        store,
        recalled,
        keep_at: None,
        stand_in_at: Some(Instant::now() + PATIENCE),
    };
    while follower.step(&changes).await {}
}

struct Follower {
    news: BoxStream<'static, News>,
    objects: Objects,
    store: Store,
    /// When the recalled configuration was written, for people; `None` if there is none.
    recalled: Option<String>,
    /// When to write what is in force.
    keep_at: Option<Instant>,
    /// Until when the API server may answer.
    stand_in_at: Option<Instant>,
}

impl Follower {
    /// Handles one event. False if the receiver was dropped.
    async fn step(&mut self, changes: &mpsc::Sender<Change>) -> bool {
        let has_change = self.objects.has_change();
        let due = self.keep_at.into_iter().chain(self.stand_in_at).min();
        tokio::select! {
            biased;
            permit = changes.reserve(), if has_change => {
                let Ok(permit) = permit else {
                    return false;
                };
                permit.send(self.objects.take_change());
                self.stand_in_at = None;
                self.keep_at.get_or_insert_with(|| Instant::now() + KEEP);
            }
            () = changes.closed() => return false,
            Some(news) = self.news.next() => self.hear(news),
            () = until(due) => self.due().await,
        }
        true
    }

    fn hear(&mut self, news: News) {
        if let Some(refused) = self.objects.hear(news) {
            warn!("{refused}");
        }
    }

    async fn due(&mut self) {
        let now = Instant::now();
        if self.stand_in_at.is_some_and(|at| now >= at) {
            self.stand_in_at = None;
            // It may be away, or its lists may be very long.
            let unlisted = format!("the API server has not returned all lists within {PATIENCE:?}");
            match &self.recalled {
                Some(written) => {
                    warn!("{unlisted}: until it has, the configuration of {written} is in force");
                    self.objects.stand_in();
                }
                None => warn!(
                    "{unlisted}, and no earlier configuration is known: nothing is announced until \
                     it has"
                ),
            }
        }
        if self.keep_at.is_some_and(|at| now >= at) {
            self.keep_at = None;
            if self.objects.is_synced() {
                let (objects, peers) = self.objects.in_force();
                if let Err(error) = self.store.keep(objects, peers).await {
                    info!(
                        "{error:#}: if the agent restarts while the API server is away, it will \
                         announce nothing"
                    );
                }
            }
        }
    }
}
