//! The last step of the start: removes what an earlier agent left and this one does not use.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::kernel::Kernel;

/// The wait before a retry.
const RETRY: Duration = Duration::from_secs(5);

/// Whether and when to remove it.
pub(super) struct Adoption {
    /// When to try next; `None`: done.
    due: Option<Instant>,
    /// The last error, which is logged once.
    failure: Option<String>,
}

impl Adoption {
    /// Due as soon as the node is settled.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: Some(now),
            failure: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.due.is_none()
    }

    /// When to try next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Tries if due.
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
