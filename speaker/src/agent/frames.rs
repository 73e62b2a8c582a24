//! What the program tells of frames: to the node, and to whoever watches.

use std::collections::BTreeMap;

use nix::net::if_::if_indextoname;
use speaker_common::{
    layout::{Event, EventKind, SNAPSHOT_BYTES},
    respond::Reason,
    wire::Mac,
};
use speaker_core::{describe::Description, plan::Entry};
use tokio::sync::broadcast;

use crate::{api::FrameRecord, kernel};

/// Frames that a slow watcher may lag behind.
const BACKLOG: usize = 4096;

/// Who watches.
pub(super) struct Taps {
    sender: broadcast::Sender<FrameRecord>,
    names: BTreeMap<u32, String>,
}

impl Taps {
    pub(super) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(BACKLOG),
            names: BTreeMap::new(),
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<FrameRecord> {
        self.sender.subscribe()
    }

    pub(super) fn watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Passes an event on to all that watch.
    pub(super) fn tell(&mut self, event: &Event) {
        if !self.watched() {
            // Interfaces may be renamed until the next one comes.
            self.names.clear();
            return;
        }
        let interface = self.names.entry(event.ifindex).or_insert_with(|| {
            if_indextoname(event.ifindex).map_or_else(
                |_| format!("interface {}", event.ifindex),
                |name| name.to_string_lossy().into_owned(),
            )
        });
        let record = FrameRecord {
            time_ns: wall_clock(event.time_ns),
            interface: interface.clone(),
            event: word(event.kind).to_owned(),
            reason: match event.kind {
                EventKind::Rejected => reason(event.reason),
                _ => None,
            },
            length: event.length,
            frame: snapshot(event)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        };
        // Nobody listens: the last one has just gone.
        let _ = self.sender.send(record);
    }
}

/// What an event on this port tells of another MAC that claims a VIP: which, and whose.
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

fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Answered => "answered",
        EventKind::Suppressed => "suppressed",
        EventKind::Refused => "refused",
        EventKind::Rejected => "rejected",
        EventKind::Reply => "reply",
        EventKind::Claimed => "claimed",
        EventKind::Probed => "probed",
    }
}

fn reason(number: u8) -> Option<String> {
    Reason::from_number(number).map(|reason| reason.text().to_owned())
}

/// The moment of an event of the kernel, in nanoseconds since the Unix epoch.
fn wall_clock(event_ns: u64) -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let ago = kernel::now().saturating_sub(event_ns);
    (now.as_nanos() as u64).saturating_sub(ago)
}
