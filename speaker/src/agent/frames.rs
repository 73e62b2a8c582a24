//! The program's events about frames, for the node and for watchers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use speaker_common::{
    layout::{Event, EventKind, SNAPSHOT_BYTES},
    respond::Reason,
    wire::Mac,
};
use speaker_core::{describe::Description, plan::Entry};
use tokio::sync::broadcast;

use crate::{
    api::{FrameEvent, FrameRecord, WatchLine},
    kernel, netlink,
};

/// How many frames a slow watcher may lag behind.
const BACKLOG: usize = 4096;

/// How often watchers are told of lost frames.
const LOSSES: Duration = Duration::from_millis(200);

/// The watchers.
pub(super) struct Taps {
    sender: broadcast::Sender<WatchLine>,
    names: BTreeMap<u32, String>,
    /// How many events the ring has dropped, and when that was read; `None` while nobody watches.
    lost: Option<(u64, Instant)>,
}

impl Taps {
    pub(super) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(BACKLOG),
            names: BTreeMap::new(),
            lost: None,
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<WatchLine> {
        self.sender.subscribe()
    }

    pub(super) fn watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Passes an event on to all watchers.
    pub(super) fn tell(&mut self, event: &Event) {
        if !self.watched() {
            // Interfaces may be renamed before the next watcher attaches.
            self.names.clear();
            return;
        }
        let interface = self
            .names
            .entry(event.ifindex)
            .or_insert_with(|| netlink::name(event.ifindex));
        let record = FrameRecord {
            time_ns: wall_clock(event.time_ns),
            interface: interface.clone(),
            event: word(event.kind),
            reason: match event.kind {
                EventKind::Rejected => reason(event.reason),
                _ => None,
            },
            length: event.length,
            frame: snapshot(event).to_vec(),
        };
        // An error means that the last watcher has just gone.
        let _ = self.sender.send(WatchLine::Frame(record));
    }

    /// When to check for losses again.
    pub(super) fn losses_due(&self) -> Option<Instant> {
        self.lost.map(|(_, at)| at + LOSSES)
    }

    /// Tells all watchers how many events the ring has dropped since the last call. The first call
    /// must come before the tap is opened.
    pub(super) fn tell_losses<E>(
        &mut self,
        count: impl FnOnce() -> Result<u64, E>,
        now: Instant,
    ) -> Result<(), E> {
        if !self.watched() {
            self.lost = None;
            return Ok(());
        }
        if self.losses_due().is_some_and(|due| due > now) {
            return Ok(());
        }
        let count = count()?;
        let before = self.lost.map_or(count, |(before, _)| before);
        self.lost = Some((count, now));
        if count > before {
            let lost = count - before;
            let _ = self.sender.send(WatchLine::Lost { lost });
        }
        Ok(())
    }
}

/// The claim of a VIP by another MAC that an event on this port reports: the entry and the MAC.
pub(super) fn claim(event: &Event, port: Option<u32>) -> Option<(Entry, Mac)> {
    if event.kind != EventKind::Claimed {
        return None;
    }
    let description = Description::of(snapshot(event))?;
    let (address, by) = description.claim()?;
    let entry = Entry {
        address,
        port: port?,
        vlan: description.vlan,
    };
    Some((entry, by))
}

fn snapshot(event: &Event) -> &[u8] {
    &event.frame[..SNAPSHOT_BYTES.min(usize::from(event.length))]
}

fn word(kind: EventKind) -> FrameEvent {
    match kind {
        EventKind::Answered => FrameEvent::Answered,
        EventKind::Suppressed => FrameEvent::Suppressed,
        EventKind::Refused => FrameEvent::Refused,
        EventKind::Rejected => FrameEvent::Rejected,
        EventKind::Reply => FrameEvent::Reply,
        EventKind::Claimed => FrameEvent::Claimed,
        EventKind::Probed => FrameEvent::Probed,
    }
}

fn reason(number: u8) -> Option<String> {
    Reason::from_number(number).map(|reason| reason.text().to_owned())
}

/// The time of a kernel event, in nanoseconds since the Unix epoch.
fn wall_clock(event_ns: u64) -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let ago = kernel::now().saturating_sub(event_ns);
    (now.as_nanos() as u64).saturating_sub(ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_reported_to_the_watchers_of_that_time() {
        let mut taps = Taps::new();
        let start = Instant::now();
        let look = |taps: &mut Taps, ms: u64, count: u64| {
            let now = start + Duration::from_millis(ms);
            taps.tell_losses(|| Ok::<_, ()>(count), now).unwrap();
        };
        look(&mut taps, 0, 3);
        assert_eq!(taps.losses_due(), None, "nobody watches");
        let mut watcher = taps.subscribe();
        look(&mut taps, 1_000, 5);
        look(&mut taps, 1_100, 7);
        assert!(watcher.try_recv().is_err(), "too early to look");
        look(&mut taps, 1_200, 9);
        let told = watcher.try_recv().unwrap();
        assert!(matches!(told, WatchLine::Lost { lost: 4 }), "{told:?}");
        look(&mut taps, 1_400, 9);
        assert!(watcher.try_recv().is_err(), "nothing more is lost");
        drop(watcher);
        look(&mut taps, 1_600, 20);
        assert_eq!(taps.losses_due(), None);
    }
}
