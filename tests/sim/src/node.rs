//! A modelled host: its clock, its kernel's maps, and the agent that may or may not run on it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::LazyLock,
    time::{Duration, Instant},
};

use speaker_common::probe::{self, AgentLease, Key, LENGTH, PeersLease, Probe, Tenure};
use speaker_core::cluster::{Cluster, Command, Endpoints, Input, NodeName};

/// Nanoseconds in a millisecond.
pub(super) const MS: u64 = 1_000_000;

/// The cluster's probe key.
pub(super) const KEY: Key = Key([0x5eed, 0xcafe]);

/// Instants cannot be created from nothing; all of a run's are relative to this one, whose value
/// does not matter.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Debug)]
pub(super) struct Clock {
    /// Its reading at time zero.
    pub(super) offset: u64,
    /// How much faster it runs than true time, in parts per million.
    pub(super) ppm: i64,
}

impl Clock {
    pub(super) fn reads(&self, now: u64) -> u64 {
        self.offset + (i128::from(now) * i128::from(1_000_000 + self.ppm) / 1_000_000) as u64
    }

    pub(super) fn instant(&self, now: u64) -> Instant {
        *ORIGIN + Duration::from_nanos(self.reads(now))
    }

    pub(super) fn nanos(instant: Instant) -> u64 {
        instant.saturating_duration_since(*ORIGIN).as_nanos() as u64
    }

    /// The first true time at which it shows at least that.
    pub(super) fn when(&self, instant: Instant, now: u64) -> u64 {
        let wanted = Self::nanos(instant);
        let left = wanted.saturating_sub(self.reads(now));
        let true_left = i128::from(left) * 1_000_000 / i128::from(1_000_000 + self.ppm);
        let mut at = now + true_left as u64;
        while self.reads(at) < wanted {
            at += 1;
        }
        at
    }
}

/// What the kernel holds, with or without an agent.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    pub(super) agent: AgentLease,
    pub(super) peers: PeersLease,
    /// VIPs that are answered while the lease is valid.
    pub(super) answer: BTreeSet<usize>,
}

impl Kernel {
    pub(super) fn tenure(&self, now: u64) -> Tenure {
        probe::tenure(&self.agent, &self.peers, now)
    }

    /// What the XDP program does with a probe.
    pub(super) fn answer_probe(
        &mut self,
        number: u64,
        bytes: &[u8; LENGTH],
        now: u64,
    ) -> Option<[u8; LENGTH]> {
        let probe = Probe::open(bytes, &KEY)?;
        let outcome = probe::answer(&probe, number, &self.agent, &self.peers, now);
        self.peers = outcome.peers;
        outcome.reply.map(|reply| reply.seal(&KEY))
    }
}

/// What a host receives.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Message { from: SocketAddr, bytes: Vec<u8> },
    Probe { from: usize, bytes: [u8; LENGTH] },
}

impl Packet {
    /// Bytes of its frame, with what encryption adds to a message.
    pub(super) fn length(&self) -> u64 {
        const ETHERNET_IP_UDP: usize = 14 + 20 + 8;
        const SEAL: usize = 28;
        let payload = match self {
            Self::Message { bytes, .. } => bytes.len() + SEAL,
            Self::Probe { bytes, .. } => bytes.len(),
        };
        (payload + ETHERNET_IP_UDP) as u64
    }
}

pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) number: u64,
    pub(super) endpoints: Endpoints,
    pub(super) clock: Clock,
    /// Whether it is powered on, and the number of boots.
    pub(super) up: bool,
    pub(super) boots: u64,
    /// The whole host is paused, with what reached its network card.
    pub(super) frozen: bool,
    pub(super) ring: VecDeque<Packet>,
    pub(super) kernel: Kernel,
    pub(super) agent: Option<Cluster>,
    /// Counts agents and their wake-ups: a timer of an older one is void.
    pub(super) timer: u64,
    /// When the current timer fires.
    pub(super) wakes: Option<u64>,
    /// The agent is frozen, with what reached its sockets and its pending commands.
    pub(super) stopped: bool,
    pub(super) inbox: VecDeque<Input>,
    pub(super) held: VecDeque<Command>,
    /// The agent will freeze, or end, in the middle of its next commands.
    pub(super) trip: Option<Trip>,
    /// What to announce once the lease is valid.
    pub(super) unannounced: BTreeSet<usize>,
    /// What the agent keeps on disk.
    pub(super) draining: bool,
    pub(super) remembered: BTreeMap<NodeName, SocketAddr>,
    /// The links that VIPs are on are up.
    pub(super) linked: bool,
    /// Counts what blocks everything on the wire to it.
    pub(super) deaf: u32,
    /// It has not heard all announcements, and can settle who owns a VIP only by message.
    pub(super) missed: bool,
    /// Counts what keeps the agent's packets from leaving.
    pub(super) chokes: u32,
    /// When that last began or ended, and the kernel's life and boot when it began.
    pub(super) choked: Option<(u64, (u64, u64))>,
    /// The kernel ignores its lease.
    pub(super) forgetful: bool,
    /// The agent was told to end; the first reason counts.
    pub(super) stopping: bool,
    /// The agent left for good.
    pub(super) left: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Trip {
    /// After this many commands.
    pub(super) after: usize,
    pub(super) kill: bool,
}

impl Node {
    pub(super) fn new(at: usize, clock: Clock) -> Self {
        let name = NodeName::from(format!("node-{at}"));
        let address =
            |port| SocketAddr::from(([10, 0, (at / 250) as u8, (at % 250) as u8 + 1], port));
        Self {
            number: name.number(),
            name,
            endpoints: Endpoints {
                messages: address(7946),
                probes: address(7947),
            },
            clock,
            up: false,
            boots: 0,
            frozen: false,
            ring: VecDeque::new(),
            kernel: Kernel::default(),
            agent: None,
            timer: 0,
            wakes: None,
            stopped: false,
            inbox: VecDeque::new(),
            held: VecDeque::new(),
            trip: None,
            unannounced: BTreeSet::new(),
            draining: false,
            remembered: BTreeMap::new(),
            linked: true,
            deaf: 0,
            missed: false,
            chokes: 0,
            choked: None,
            stopping: false,
            left: false,
            forgetful: false,
        }
    }

    /// The node of an address.
    pub(super) fn at(address: SocketAddr) -> usize {
        match address.ip() {
            std::net::IpAddr::V4(ip) => {
                let [_, _, high, low] = ip.octets();
                usize::from(high) * 250 + usize::from(low) - 1
            }
            std::net::IpAddr::V6(_) => unreachable!("all addresses of the model are IPv4"),
        }
    }

    /// The kernel's current life and boot.
    pub(super) fn present_life(&self) -> (u64, u64) {
        (self.boots, self.kernel.agent.life)
    }

    pub(super) fn stands(&self, now: u64) -> bool {
        self.forgetful || self.kernel.tenure(self.clock.reads(now)) == Tenure::Valid
    }

    /// Whether this node would answer a client that asks for the VIP now.
    pub(super) fn answers(&self, vip: usize, now: u64) -> bool {
        self.deaf == 0 && self.would_answer(vip, now)
    }

    /// The same, if it hears the client.
    pub(super) fn would_answer(&self, vip: usize, now: u64) -> bool {
        self.up && !self.frozen && self.kernel.answer.contains(&vip) && self.stands(now)
    }

    /// The host and its agent run.
    pub(super) fn runs(&self) -> bool {
        self.up && !self.frozen && !self.stopped && self.agent.is_some()
    }
}
