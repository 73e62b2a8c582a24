//! Limits events that every message of a peer would cause to one per minute.

use std::time::{Duration, Instant};

use super::{Cluster, io::Event};

const QUIET: Duration = Duration::from_secs(60);

/// The events of the last minute.
#[derive(Debug, Default)]
pub(super) struct Throttle(Vec<(Event, Instant)>);

impl Throttle {
    fn admits(&mut self, event: &Event, now: Instant) -> bool {
        self.0.retain(|(_, reported)| now < *reported + QUIET);
        let admitted = self.0.iter().all(|(reported, _)| reported != event);
        if admitted {
            self.0.push((event.clone(), now));
        }
        admitted
    }
}

impl Cluster {
    /// Reports an event unless it was reported in the last minute.
    pub(super) fn event_throttled(&mut self, event: Event, now: Instant) {
        if self.throttle.admits(&event, now) {
            self.event(event);
        }
    }
}
