//! The end of the start: what an earlier agent left is this one's, or removed.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::kernel::Kernel;

/// How long to wait before what could not be removed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Whether it is done.
pub(super) struct Adoption {
    /// When it is tried next; none: it is done.
    due: Option<Instant>,
    /// What went wrong the last time, which is told once.
    failure: Option<String>,
}

impl Adoption {
    /// To be finished as soon as the node is settled.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: Some(now),
            failure: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.due.is_none()
    }

    /// When it is to be tried next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Finishes it, if it is due.
    pub(super) fn finish(&mut self, kernel: &mut Kernel, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        match kernel.finish_adoption() {
            Ok(_) => {
                self.due = None;
                info!("ready");
            }
            Err(error) => {
                self.due = Some(now + RETRY);
                let failure = format!("{:#}", anyhow::Error::from(error));
                if self.failure.as_ref() != Some(&failure) {
                    warn!(
                        "not ready: cannot remove what an earlier agent left: {failure}; trying \
                         again every {} s",
                        RETRY.as_secs()
                    );
                }
                self.failure = Some(failure);
            }
        }
    }
}
