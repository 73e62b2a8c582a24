//! Kernels whose agents do not speak.
//!
//! A node that starts while another one's agent is away cannot meet it, and yet that one's kernel
//! may be answering. So strangers are asked by probe as well; while one stands, nothing is claimed.
//!
//! Strangers are invited one at a time, which takes long if there are many. Those that stand, and
//! all while this node joins, are also asked four times a second each, however many they are.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use speaker_common::probe::{ANYBODY, FLAG_VALID, Probe};

use super::{Cluster, io::Command, name::Life};

/// Scouts that may still come back.
const OUT: usize = 512;
/// How long a stranger is taken to stand after it was last seen to.
const STANDS: Duration = Duration::from_millis(1_500);
/// How often it is asked: losing a few replies in a row must not be enough to forget it.
const AGAIN: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Scouts {
    out: VecDeque<(u64, SocketAddr)>,
    /// Where a kernel stands that is not a member's, and when it was last seen to.
    standing: BTreeMap<SocketAddr, Instant>,
    /// When they are next asked.
    next: Option<Instant>,
}

impl Cluster {
    /// Asks whoever is at this address, a stranger's, whether its lease stands.
    pub(super) fn scout(&mut self, address: SocketAddr) {
        let sequence = self.number();
        if self.scouts.out.len() == OUT {
            self.scouts.out.pop_front();
        }
        self.scouts.out.push_back((sequence, address));
        let to = SocketAddr::new(address.ip(), self.card.endpoints.probes.port());
        let probe = self.request(ANYBODY, Life(0), sequence, 0, 0);
        self.commands.push_back(Command::SendProbe { to, probe });
    }

    /// Asks the strangers that stand again, and while this node joins, all of them.
    pub(super) fn scout_due(&mut self, now: Instant) {
        let joining = self.is_waiting_for_strangers(now);
        if !joining && self.scouts.standing.is_empty() {
            self.scouts.next = None;
            return;
        }
        if now < *self.scouts.next.get_or_insert(now + AGAIN) {
            return;
        }
        self.scouts.next = Some(now + AGAIN);
        let standing = &self.scouts.standing;
        let asked = self.strangers().into_iter();
        let asked: Vec<SocketAddr> = asked
            .filter(|address| joining || standing.contains_key(address))
            .collect();
        for address in asked {
            self.scout(address);
        }
    }

    pub(super) fn scout_wake(&self) -> Option<Instant> {
        self.scouts.next
    }

    /// Takes a scout's report, if the reply is one.
    pub(super) fn on_scout(&mut self, reply: &Probe, now: Instant) -> bool {
        let out = &mut self.scouts.out;
        let Some(at) = out
            .iter()
            .position(|(sequence, _)| *sequence == reply.sequence)
        else {
            return false;
        };
        let (_, address) = out.remove(at).expect("it was just found");
        let life = Life(reply.life);
        // A life that this node holds to be over is told so, not respected.
        let known = self
            .peers
            .values()
            .any(|peer| peer.number == reply.target && (peer.is_live() || peer.is_over(life)));
        if !known && reply.flags & FLAG_VALID != 0 {
            self.scouts.standing.insert(address, now);
        } else {
            self.scouts.standing.remove(&address);
        }
        true
    }

    /// When no stranger's kernel will be known to stand any more, if one is now.
    pub(super) fn strangers_stand(&mut self, now: Instant) -> Option<Instant> {
        let strangers = self.strangers();
        self.scouts
            .standing
            .retain(|address, seen| strangers.contains(address) && now < *seen + STANDS);
        self.scouts
            .standing
            .values()
            .max()
            .map(|seen| *seen + STANDS)
    }
}
