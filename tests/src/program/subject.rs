//! The loaded program as a subject of the wire rules.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use speaker_common::{
    layout::{Counters, Event, Link, Probes, Vip, VipKeyV4, VipKeyV6},
    lease::{AgentLease, PeersLease},
    respond::Reason,
    testing::{Outcome, Subject},
};

use super::{Program, TEST_RUN_IFINDEX};
use crate::lab::{Missing, skip};

const WRITES: &str = "a map of a loaded program can be written";
const READS: &str = "a map of a loaded program can be read";

impl Subject for Program {
    const IFINDEX: u32 = TEST_RUN_IFINDEX;

    fn set_link(&mut self, link: Option<Link>) {
        self.maps.set_link(TEST_RUN_IFINDEX, link).expect(WRITES);
    }

    fn set_vip_v4(&mut self, key: VipKeyV4, vip: Option<Vip>) {
        self.maps.set_vip_v4(key, vip).expect(WRITES);
    }

    fn set_vip_v6(&mut self, key: VipKeyV6, vip: Option<Vip>) {
        self.maps.set_vip_v6(key, vip).expect(WRITES);
    }

    fn set_lease(&mut self, lease: AgentLease) {
        self.maps.set_lease(lease).expect(WRITES);
    }

    fn set_peers(&mut self, peers: PeersLease) {
        self.maps.set_peers(peers).expect(WRITES);
    }

    fn set_probes(&mut self, probes: Probes) {
        self.maps.set_probes(probes).expect(WRITES);
    }

    fn set_watched(&mut self, watched: bool) {
        self.maps.set_watched(watched).expect(WRITES);
    }

    fn now_ns(&self) -> u64 {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock");
        let (seconds, nanoseconds) = (now.tv_sec(), now.tv_nsec());
        u64::try_from(seconds * 1_000_000_000 + nanoseconds).expect("time since boot is positive")
    }

    fn has_run_for(&self, ns: u64) -> bool {
        let has = self.now_ns() >= ns;
        if !has {
            skip(&Missing::Uptime(Duration::from_nanos(ns)));
        }
        has
    }

    fn handle(&mut self, frame: &[u8]) -> Outcome {
        self.run(frame).expect("the kernel runs the program")
    }

    fn counters(&self, slot: u32) -> Counters {
        self.maps.counters(slot).expect(READS)
    }

    fn peers(&self) -> PeersLease {
        self.maps.peers().expect(READS)
    }

    fn reason(&self, reason: Reason) -> u64 {
        self.maps.reason(reason).expect(READS)
    }

    fn take_events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.maps.next_event().expect(READS) {
            events.push(event);
        }
        events
    }
}
