//! Whether the leader accepts the configuration, as the cluster is told.

use std::{future::pending, time::Duration};

use kube::Client;
use speaker_core::allocate::Allocator;
use tokio::{sync::watch, time::sleep};

use super::{REQUEST_TIMEOUT, known};
use crate::kubernetes::publish::State;

/// The wait after a request that failed.
const RETRY: Duration = Duration::from_secs(3);

/// What of the configuration is refused; nothing while another one leads.
type Refused = Option<Vec<String>>;

/// The way to whoever writes it.
pub(super) struct Verdict(watch::Sender<Refused>);

impl Verdict {
    /// Begins to tell.
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        let (to, verdicts) = watch::channel(None);
        let state = State::of_controller(client, namespace);
        tokio::spawn(keep(state, verdicts));
        Self(to)
    }

    /// This holds, if this one leads.
    pub(super) fn set(&self, allocator: Option<&Allocator>) {
        let refused = allocator.map(|it| it.refused().collect());
        self.0.send_if_modified(|before| {
            let is_news = *before != refused;
            *before = refused;
            is_news
        });
    }
}

/// Writes what is news, until there is nobody to say any.
async fn keep(state: State, mut verdicts: watch::Receiver<Refused>) {
    let mut written: Refused = None;
    loop {
        let verdict = verdicts.borrow_and_update().clone();
        let write = async {
            match &verdict {
                Some(refused) if written != verdict => insist(&state, refused).await,
                _ => pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = verdicts.changed() => {
                if changed.is_err() {
                    return;
                }
                // What was cut short may have been written or not.
                written = None;
            }
            () = write => written = verdict,
        }
    }
}

async fn insist(state: &State, refused: &[String]) {
    let what = "write ConfigurationState controller";
    while known(REQUEST_TIMEOUT, what, state.write(refused))
        .await
        .is_none()
    {
        sleep(RETRY).await;
    }
}
