//! Reports to the cluster whether the leader accepts the configuration.

use std::{future::pending, pin::pin, time::Duration};

use futures::StreamExt as _;
use kube::Client;
use speaker_core::allocate::Allocator;
use tokio::{sync::watch, time::sleep};

use super::{REQUEST_TIMEOUT, known};
use crate::kubernetes::publish::{Judgement, Said, State};

/// The wait after a request that failed.
const RETRY: Duration = Duration::from_secs(3);

/// What to report; none while another controller leads.
type Verdicts = Option<Judgement>;

/// Hands verdicts to the task that writes them.
pub(super) struct Verdict(watch::Sender<Verdicts>);

impl Verdict {
    /// Starts that task.
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        let (to, verdicts) = watch::channel(None);
        let state = State::of_controller(client, namespace);
        tokio::spawn(keep(state, verdicts));
        Self(to)
    }

    /// Sets the verdict of the leader; none if another controller leads.
    pub(super) fn set(&self, allocator: Option<&Allocator>) {
        let verdict = allocator.map(|it| Judgement::new(it.refused(), None));
        self.0.send_if_modified(|before| {
            let is_news = *before != verdict;
            *before = verdict;
            is_news
        });
    }
}

/// Writes verdicts until the controller ends.
async fn keep(state: State, mut verdicts: watch::Receiver<Verdicts>) {
    let mut watched = pin!(state.watch());
    let mut said = Said::default();
    loop {
        let verdict = verdicts.borrow_and_update().clone();
        let due = verdict.filter(|it| said.lacks(it));
        let write = async {
            match &due {
                Some(judgement) => insist(&state, judgement).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = verdicts.changed() => {
                if changed.is_err() {
                    return;
                }
                // A write that was cut short may have happened or not.
                if let Said::This(_) = said {
                    said = Said::Nothing;
                }
            }
            Some(is_said) = watched.next() => said = is_said,
            () = write => said = due.map_or(Said::Nothing, Said::This),
        }
    }
}

async fn insist(state: &State, judgement: &Judgement) {
    let what = "write ConfigurationState controller";
    while known(REQUEST_TIMEOUT, what, state.write(judgement))
        .await
        .is_none()
    {
        sleep(RETRY).await;
    }
}
