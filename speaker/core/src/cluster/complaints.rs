//! What is wrong with every message of a peer is told once a minute.

use std::time::{Duration, Instant};

use super::{Cluster, io::Event};

const QUIET: Duration = Duration::from_secs(60);

/// What has been told in the last minute.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<(Event, Instant)>);

impl Complaints {
    fn is_due(&mut self, event: &Event, now: Instant) -> bool {
        self.0.retain(|(_, told)| now < *told + QUIET);
        let due = self.0.iter().all(|(told, _)| told != event);
        if due {
            self.0.push((event.clone(), now));
        }
        due
    }
}

impl Cluster {
    pub(super) fn complain(&mut self, event: Event, now: Instant) {
        if self.complaints.is_due(&event, now) {
            self.event(event);
        }
    }
}
