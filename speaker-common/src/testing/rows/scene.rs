//! The node, the VIPs and the hosts that the rules are about.

use std::{format, vec::Vec};

use crate::{
    layout::{Action, Counters, Event, Link, Vip, VipKeyV4, VipKeyV6, Vlan},
    respond::{Reason, Verdict},
    testing::{Host, Subject, alone_until},
    wire::Mac,
};

pub(super) const NODE: Host = Host::number(1);
pub(super) const CLIENT: Host = Host::number(2);
pub(super) const STRANGER: Host = Host::number(3);
/// Owned by the node: its address of either family is answered for.
pub(super) const OURS: Host = Host::number(100);
/// Another VIP that the node owns.
pub(super) const OURS_TOO: Host = Host::number(101);
/// Owned by another node.
pub(super) const THEIRS: Host = Host::number(102);

/// The port of the node's link: none that is also an interface index here.
pub(super) const PORT: u32 = 7;
pub(super) const UNTAGGED: Vlan = Vlan { id: 0, service: 0 };

/// Counter slots.
const SLOT_V4: u32 = 10;
const SLOT_V6: u32 = 20;
pub(super) const OURS_V4: u32 = SLOT_V4 + OURS.v4[3] as u32;
pub(super) const OURS_V6: u32 = SLOT_V6 + OURS.v6[15] as u32;
pub(super) const THEIRS_V4: u32 = SLOT_V4 + THEIRS.v4[3] as u32;
pub(super) const THEIRS_V6: u32 = SLOT_V6 + THEIRS.v6[15] as u32;

pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// A subject with a link, VIPs and a valid lease, and what is asserted of it.
pub(super) struct Scene<'a, S> {
    pub(super) subject: &'a mut S,
}

impl<'a, S: Subject> Scene<'a, S> {
    pub(super) fn new(subject: &'a mut S) -> Self {
        let mut scene = Self { subject };
        scene.link(NODE.mac, PORT);
        scene.lease(60 * SECOND_NS as i64);
        for (vip, action) in [
            (OURS, Action::Answer),
            (OURS_TOO, Action::Answer),
            (THEIRS, Action::Suppress),
        ] {
            scene.vip(&vip, PORT, UNTAGGED, action);
        }
        scene
    }

    pub(super) fn link(&mut self, mac: Mac, port: u32) {
        self.subject.set_link(Some(Link::new(mac, port)));
    }

    /// Sets the lease to end so many nanoseconds from now.
    pub(super) fn lease(&mut self, from_now_ns: i64) {
        let now = self.subject.now_ns();
        let deadline = now.saturating_add_signed(from_now_ns);
        self.subject.set_lease(alone_until(deadline));
    }

    /// Enters both addresses of a VIP.
    pub(super) fn vip(&mut self, vip: &Host, port: u32, vlan: Vlan, action: Action) {
        let (v4, v6) = (vip.v4, vip.v6);
        self.subject.set_vip_v4(
            VipKeyV4 {
                address: v4,
                port,
                vlan,
            },
            Some(Vip::new(action, SLOT_V4 + u32::from(v4[3]))),
        );
        self.subject.set_vip_v6(
            VipKeyV6 {
                address: v6,
                port,
                vlan,
            },
            Some(Vip::new(action, SLOT_V6 + u32::from(v6[15]))),
        );
    }

    /// The frame is sent back as `reply`.
    #[track_caller]
    pub(super) fn answers(&mut self, frame: &[u8], reply: &[u8]) {
        let outcome = self.subject.handle(frame);
        assert_eq!(outcome.verdict, Verdict::Transmit, "of {}", hex(frame));
        assert_eq!(hex(&outcome.frame), hex(reply), "to {}", hex(frame));
    }

    /// The frame goes on as it is, and nothing is written down.
    #[track_caller]
    pub(super) fn passes(&mut self, frame: &[u8]) {
        let before = self.written();
        self.goes(frame, Verdict::Pass);
        assert_eq!(self.written(), before, "after {}", hex(frame));
        assert_eq!(self.subject.take_events(), [], "after {}", hex(frame));
    }

    /// The frame goes on as it is, counted for this reason and nothing else.
    #[track_caller]
    pub(super) fn rejects(&mut self, frame: &[u8], reason: Reason) {
        let mut expected = self.written();
        self.goes(frame, Verdict::Pass);
        expected.reasons[reason as usize] += 1;
        assert_eq!(self.written(), expected, "after {}", hex(frame));
        assert_eq!(self.subject.take_events(), [], "after {}", hex(frame));
    }

    /// The frame goes on as it is, and the agent is told that it is claimed.
    #[track_caller]
    pub(super) fn reports_claim(&mut self, frame: &[u8]) {
        use crate::layout::EventKind;
        let before = self.written();
        self.goes(frame, Verdict::Pass);
        assert_eq!(self.written(), before, "after {}", hex(frame));
        let events = self.subject.take_events();
        let [event] = &events[..] else {
            panic!("one event, not {events:?}, after {}", hex(frame));
        };
        assert_eq!(event.kind, EventKind::Claimed);
        assert_shows(event, frame);
    }

    /// The frame is dropped.
    #[track_caller]
    pub(super) fn drops(&mut self, frame: &[u8]) {
        self.goes(frame, Verdict::Drop);
    }

    /// The frame goes this way, as it is.
    #[track_caller]
    pub(super) fn goes(&mut self, frame: &[u8], verdict: Verdict) {
        let outcome = self.subject.handle(frame);
        assert_eq!(outcome.verdict, verdict, "of {}", hex(frame));
        assert_eq!(hex(&outcome.frame), hex(frame));
    }

    fn written(&self) -> Written {
        Written {
            reasons: Reason::ALL
                .iter()
                .map(|reason| self.subject.reason(*reason))
                .collect(),
            counters: [OURS_V4, OURS_V6, THEIRS_V4, THEIRS_V6]
                .map(|slot| self.subject.counters(slot)),
        }
    }
}

/// Everything that a frame could have changed.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    /// By the reasons' numbers.
    reasons: Vec<u64>,
    counters: [Counters; 4],
}

/// Asserts that an event holds the frame.
#[track_caller]
pub(super) fn assert_shows(event: &Event, frame: &[u8]) {
    assert_eq!(usize::from(event.length), frame.len());
    let mut shown = event.frame.to_vec();
    let end = shown.len().min(frame.len());
    assert!(shown.split_off(end).iter().all(|byte| *byte == 0));
    assert_eq!(hex(&shown), hex(&frame[..end]));
}

pub(super) fn hex(bytes: &[u8]) -> std::string::String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
