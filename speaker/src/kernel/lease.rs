//! The kernel-held lease, in memory shared with the program.

use std::{
    mem::offset_of,
    path::Path,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

use speaker_common::{
    lease::{AgentLease, Change, PeersLease},
    probe::{self, Judgement},
};
use tracing::warn;
use zerocopy::transmute;

use super::{
    clock,
    mapped::{Mapped, Words},
    maps::{Maps, ProbesMap},
    typed::MapsError,
};

/// Both sides of the lease, read and written without system calls.
pub struct Lease {
    agent: Mapped<AgentWords>,
    peers: Mapped<PeersWords>,
    probes: ProbesMap,
}

impl Lease {
    pub(super) fn open(directory: &Path) -> Result<Self, MapsError> {
        Ok(Self {
            agent: Mapped::open(directory, Maps::LEASE)?,
            peers: Mapped::open(directory, Maps::PEERS)?,
            probes: ProbesMap::open(directory, Maps::PROBES)?,
        })
    }

    /// Writes the agent's side, of which this process is the only writer. Between two lives there
    /// is none: the program is silent until the new one is complete.
    ///
    /// A life whose deadline has passed is over, and not extended. The agent itself cannot know
    /// that the host was suspended: its own clock, `CLOCK_MONOTONIC`, was stopped.
    pub fn write(&self, lease: &AgentLease) {
        let AgentLease {
            life,
            agent_deadline_ns,
            heartbeat_ns,
            peers_lease_ns,
            alone,
            flags,
        } = *lease;
        let words = self.agent.get();
        if words.life.load(SeqCst) != life {
            words.life.store(0, SeqCst);
        } else if clock::now() >= words.agent_deadline_ns.load(SeqCst) {
            self.store(Change::Over(life));
        }
        words.agent_deadline_ns.store(agent_deadline_ns, SeqCst);
        words.heartbeat_ns.store(heartbeat_ns, SeqCst);
        words.peers_lease_ns.store(peers_lease_ns, SeqCst);
        words.alone.store(alone, SeqCst);
        words.flags.store(flags, SeqCst);
        words.life.store(life, SeqCst);
    }

    /// The agent's side, as this agent or an earlier one last wrote it.
    pub fn agent(&self) -> AgentLease {
        let words = self.agent.get();
        AgentLease {
            life: words.life.load(SeqCst),
            agent_deadline_ns: words.agent_deadline_ns.load(SeqCst),
            heartbeat_ns: words.heartbeat_ns.load(SeqCst),
            peers_lease_ns: words.peers_lease_ns.load(SeqCst),
            alone: words.alone.load(SeqCst),
            flags: words.flags.load(SeqCst),
        }
    }

    /// The peers' side.
    pub fn peers(&self) -> PeersLease {
        let words = self.peers.get();
        PeersLease {
            life: words.life.load(SeqCst),
            deadline_ns: words.deadline_ns.load(SeqCst),
            over: words.over.load(SeqCst),
            company: words.company.load(SeqCst),
            unused: 0,
        }
    }

    /// Handles a probe as the program does: lets it renew the lease, and returns the reply, if any.
    /// For probes that reach the agent's socket or arrive in a message.
    pub fn answer(&self, probe: &[u8; probe::LENGTH]) -> Option<[u8; probe::LENGTH]> {
        let probes = match self.probes.get(0) {
            Ok(probes) => probes,
            Err(error) => {
                warn!("cannot answer a probe: {:#}", anyhow::Error::from(error));
                return None;
            }
        };
        let mut words = transmute!(*probe);
        // The clock is read last, so that no deadline was written after it.
        let (agent, peers) = (self.agent(), self.peers());
        let now = clock::now();
        let judgement = probe::judge(&mut words, &probes, &agent, &peers, now, |change| {
            self.store(change);
        });
        match judgement {
            Judgement::Answered => Some(transmute!(words)),
            Judgement::Foreign | Judgement::Passed | Judgement::Renewed => None,
        }
    }

    fn store(&self, change: Change) {
        let words = self.peers.get();
        match change {
            Change::Deadline(deadline_ns) => words.deadline_ns.store(deadline_ns, SeqCst),
            Change::Life(life) => words.life.store(life, SeqCst),
            Change::Company(company) => words.company.store(company, SeqCst),
            Change::Over(life) => words.over.store(life, SeqCst),
        }
    }
}

/// [`AgentLease`], word for word.
#[repr(C)]
struct AgentWords {
    life: AtomicU64,
    agent_deadline_ns: AtomicU64,
    heartbeat_ns: AtomicU64,
    peers_lease_ns: AtomicU64,
    alone: AtomicU32,
    flags: AtomicU32,
}

/// [`PeersLease`], word for word.
#[repr(C)]
struct PeersWords {
    life: AtomicU64,
    deadline_ns: AtomicU64,
    over: AtomicU64,
    company: AtomicU32,
    unused: AtomicU32,
}

/// Asserts that two structures have the same fields at the same offsets.
macro_rules! same_places {
    ($one:ty, $other:ty, $($field:ident)+) => {
        const _: () = {
            assert!(size_of::<$one>() == size_of::<$other>());
            $(assert!(offset_of!($one, $field) == offset_of!($other, $field));)+
        };
    };
}
same_places!(
    AgentLease, AgentWords, life agent_deadline_ns heartbeat_ns peers_lease_ns alone flags
);
same_places!(PeersLease, PeersWords, life deadline_ns over company unused);

// SAFETY: all fields are atomic integers, without padding.
unsafe impl Words for AgentWords {}
// SAFETY: as above.
unsafe impl Words for PeersWords {}
