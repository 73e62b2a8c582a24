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

/// What to report; `None` while another controller leads.
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

    /// Sets the verdict of the leader; `None` if another controller leads.
    pub(super) fn set(&self, allocator: Option<&Allocator>) {
        let verdict = allocator.map(|it| Judgement::new(it.refused(), None));
        self.0.send_if_modified(|before| {
            for refusal in new_refusals(before.as_ref(), verdict.as_ref()) {
                tracing::warn!("{refusal}");
            }
            let is_news = *before != verdict;
            *before = verdict;
            is_news
        });
    }
}

/// What is newly refused.
fn new_refusals<'a>(
    before: Option<&'a Judgement>,
    now: Option<&'a Judgement>,
) -> impl Iterator<Item = &'a str> {
    let lines = |of: Option<&'a Judgement>| of.into_iter().flat_map(|it| it.refused.lines());
    lines(now).filter(move |line| !lines(before).any(|it| it == *line))
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
                // An interrupted write may or may not have happened.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_logged_once() {
        let judgement =
            |lines: &[&str]| Judgement::new(lines.iter().map(ToString::to_string), None);
        let logged = |before: Option<&[&str]>, now: Option<&[&str]>| {
            let (before, now) = (before.map(judgement), now.map(judgement));
            let new = new_refusals(before.as_ref(), now.as_ref());
            new.map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(logged(None, Some(&["lan", "dmz"])), "lan dmz");
        assert_eq!(logged(Some(&["lan"]), Some(&["lan", "dmz"])), "dmz");
        assert_eq!(logged(Some(&["lan"]), Some(&["lan"])), "");
        assert_eq!(logged(Some(&["lan"]), Some(&[])), "");
        assert_eq!(logged(Some(&["lan"]), None), "", "another controller leads");
    }
}
