//! Liveness probes: their wire format, their keyed tag, and what a probed node does with one.
//!
//! A watcher sends a `Request`; the probed node's XDP program answers with its state and the time
//! of its own clock (`Reply`); and the watcher hands that time back (`Renew`, and its next
//! `Request`). Only that extends the lease, and it does so *from the time handed back*: even if it
//! arrives late, duplicated or replayed, the lease ends one lease length after a moment at which
//! the node had replied, by the node's own clock. This needs no counter per watcher. And a watcher
//! that has heard nothing for longer than the lease, plus the drift between two clocks, knows that
//! nothing it ever sent can still keep the lease valid.
//!
//! | replayed frame | effect |
//! |---|---|
//! | `Request` | draws a reply; may end the time alone of a node that believed itself alone |
//! | `Reply` | none: a watcher accepts a reply only to a request that it has just sent |
//! | `Renew` | none: its time is past, or belongs to another life |
//!
//! A *life* is a period in which a node holds its lease without interruption. A lapsed lease is
//! never extended: the life is over, and only the agent can begin another, with a new number.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

pub use crate::lease::{AgentLease, PeersLease, Tenure, tenure};
use crate::{
    layout::Probes,
    lease::{Change, is_alone},
};

/// The length of a probe in bytes: the whole UDP payload, the same for each kind, so that a request
/// becomes its reply in place.
pub const LENGTH: usize = 64;

/// The beginning of every probe: a name and the version of this layout. Kind and flags follow in
/// the same word.
const MAGIC: [u8; 3] = *b"SP\x01";

/// A probe's bytes as words in memory order, as in a frame.
pub type Words = [u64; LENGTH / size_of::<u64>()];

/// The number of words before the tag.
const BODY: usize = 7;

/// The step of the exchange.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Asks for the node's state. With [`FLAG_RENEWS`] it hands the time of the last reply back
    /// once more, in case the `Renew` was lost.
    Request = 1,
    /// The probed node's state and time.
    Reply = 2,
    /// Hands the time of a reply back, which extends the lease from that time. It has no reply.
    Renew = 3,
}

/// As a target: any node that receives it.
pub const ANYBODY: u64 = 0;

/// In a request: the sender holds this life to be over, which ends it if the node believed itself
/// alone.
pub const FLAG_OVER: u32 = 1;
/// In a request: the sender will renew the lease once it gets the reply.
pub const FLAG_RENEWS: u32 = 1 << 6;
/// In a reply: the lease is valid, and the node answers for the VIPs that it owns.
pub const FLAG_VALID: u32 = 1 << 1;
/// In a reply: this life is over and will never answer again.
pub const FLAG_LAPSED: u32 = 1 << 2;
/// In a reply: the node is alone, and answers without renewals.
pub const FLAG_ALONE: u32 = 1 << 3;
/// In a reply: the agent has announced that it restarts. It claims and renews nothing until it is
/// back.
pub const FLAG_RESTARTING: u32 = 1 << 4;
/// In a reply: the node hands its VIPs over and takes none.
pub const FLAG_DRAINING: u32 = 1 << 5;

/// A probe. On the wire: the fields in this order as little-endian words, then the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The step of the exchange.
    pub kind: Kind,
    /// `FLAG_*`.
    pub flags: u32,
    /// The number of the node that probes: the first eight bytes of its name's SHA-256.
    pub watcher: u64,
    /// The number of the probed node, or [`ANYBODY`].
    pub target: u64,
    /// A number chosen by the watcher, and repeated in the reply.
    pub sequence: u64,
    /// The target's life that the probe is about.
    pub life: u64,
    /// The target's clock at its last reply, in nanoseconds of `CLOCK_BOOTTIME`; zero if there is
    /// none.
    pub time_ns: u64,
    /// Milliseconds since the agent's last heartbeat, in a reply.
    pub agent_age_ms: u32,
    /// Milliseconds until the agent's deadline, in a reply.
    pub agent_left_ms: u32,
}

impl Probe {
    /// The bytes of the probe, with their tag.
    #[inline(always)]
    pub fn seal(&self, key: &Key) -> [u8; LENGTH] {
        let mut words = [0; LENGTH / size_of::<u64>()];
        self.write(key, &mut words);
        transmute!(words)
    }

    /// Reads a probe, if its tag was made with this key and it has this layout.
    #[inline(always)]
    pub fn open(bytes: &[u8; LENGTH], key: &Key) -> Option<Self> {
        let words = transmute!(*bytes);
        if !is_tagged(&words, key) {
            return None;
        }
        Self::read(&words)
    }

    #[inline(always)]
    fn write(&self, key: &Key, words: &mut Words) {
        let [m0, m1, version] = MAGIC;
        let [f0, f1, f2, f3] = self.flags.to_le_bytes();
        words[0] = u64::from_ne_bytes([m0, m1, version, self.kind as u8, f0, f1, f2, f3]);
        words[1] = self.watcher.to_le();
        words[2] = self.target.to_le();
        words[3] = self.sequence.to_le();
        words[4] = self.life.to_le();
        words[5] = self.time_ns.to_le();
        words[6] = (u64::from(self.agent_age_ms) | u64::from(self.agent_left_ms) << 32).to_le();
        words[BODY] = tag(key, words).to_le();
    }

    /// Reads a probe with a verified tag, if it has this layout.
    #[inline(always)]
    fn read(words: &Words) -> Option<Self> {
        let [m0, m1, version, kind, f0, f1, f2, f3] = words[0].to_ne_bytes();
        if [m0, m1, version] != MAGIC {
            return None;
        }
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Renew,
            _ => return None,
        };
        let agent = u64::from_le(words[6]);
        Some(Self {
            kind,
            flags: u32::from_le_bytes([f0, f1, f2, f3]),
            watcher: u64::from_le(words[1]),
            target: u64::from_le(words[2]),
            sequence: u64::from_le(words[3]),
            life: u64::from_le(words[4]),
            time_ns: u64::from_le(words[5]),
            agent_age_ms: agent as u32,
            agent_left_ms: (agent >> 32) as u32,
        })
    }

    /// Whether it is a request or renewal for the node of this number, or for any node.
    #[inline(always)]
    fn asks(&self, node: u64) -> bool {
        self.kind != Kind::Reply
            && (self.target == node || self.target == ANYBODY)
            && self.watcher != node
    }
}

/// A key of the tag, as two little-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Key(pub [u64; 2]);

/// The outcome of an authentic probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The new peers' side of the lease, to be stored before the reply is sent.
    pub peers: PeersLease,
    /// The reply to send back to the source of the probe.
    pub reply: Option<Probe>,
}

/// Answers an authentic probe that reached the node of this number.
#[inline(always)]
pub fn answer(
    probe: &Probe,
    node: u64,
    agent: &AgentLease,
    peers: &PeersLease,
    now: u64,
) -> Outcome {
    let mut peers = *peers;
    // Before the first life, and between two, there is nothing to answer.
    if !probe.asks(node) || agent.life == 0 {
        return Outcome { peers, reply: None };
    }
    let ours = probe.life == agent.life;
    match probe.kind {
        Kind::Reply => Outcome { peers, reply: None },
        Kind::Renew => {
            if ours {
                renew(agent, &mut peers, probe.time_ns, now);
            }
            Outcome { peers, reply: None }
        }
        Kind::Request => {
            if ours && probe.flags & FLAG_RENEWS != 0 {
                renew(agent, &mut peers, probe.time_ns, now);
            }
            // If the node is not alone, its members settle that: the sender may be the one cut off.
            if ours && probe.flags & FLAG_OVER != 0 && agent.alone != 0 {
                peers.over = agent.life;
            }
            if probe.flags & (FLAG_OVER | FLAG_RENEWS) != 0 {
                end_time_alone(agent, &mut peers, now);
            }
            let tenure = tenure(agent, &peers, now);
            // Once sent, this must stay true: nodes that receive it take this node's VIPs over.
            if tenure == Tenure::Over {
                peers.over = agent.life;
            }
            let reply = Probe {
                kind: Kind::Reply,
                flags: agent.flags & (FLAG_RESTARTING | FLAG_DRAINING)
                    | if is_alone(agent, &peers) {
                        FLAG_ALONE
                    } else {
                        0
                    }
                    | match tenure {
                        Tenure::Unarmed => 0,
                        Tenure::Valid => FLAG_VALID,
                        Tenure::Over => FLAG_LAPSED,
                    },
                life: agent.life,
                time_ns: now,
                agent_age_ms: millis(now.saturating_sub(agent.heartbeat_ns)),
                agent_left_ms: millis(agent.agent_deadline_ns.saturating_sub(now)),
                target: node,
                ..*probe
            };
            Outcome {
                peers,
                reply: Some(reply),
            }
        }
    }
}

/// The outcome of a datagram of a probe's length at the port of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// No key makes its tag, or it has another layout.
    Foreign,
    /// It is authentic, but not for the program: a reply, or for another node.
    Passed,
    /// It needs no reply.
    Renewed,
    /// Its words have been replaced by the reply.
    Answered,
}

/// Judges a datagram at the port of probes: passes changes of the peers' side of the lease to
/// `store`, to be stored at once, and replaces the request by the reply.
#[inline(always)]
pub fn judge(
    words: &mut Words,
    probes: &Probes,
    agent: &AgentLease,
    peers: &PeersLease,
    now: u64,
    store: impl FnMut(Change),
) -> Judgement {
    let Some(key) = find_key(words, probes) else {
        return Judgement::Foreign;
    };
    let Some(probe) = Probe::read(words) else {
        return Judgement::Foreign;
    };
    let outcome = answer(&probe, probes.node, agent, peers, now);
    peers.changes(&outcome.peers, store);
    match outcome.reply {
        Some(reply) => {
            reply.write(&key, words);
            Judgement::Answered
        }
        None if probe.kind == Kind::Renew && probe.asks(probes.node) => Judgement::Renewed,
        None => Judgement::Passed,
    }
}

/// The key that made the tag.
#[inline(always)]
fn find_key(words: &Words, probes: &Probes) -> Option<Key> {
    let mut at = 0;
    while at < probes.keys.len() && (at as u32) < probes.count {
        let key = probes.keys[at];
        if is_tagged(words, &key) {
            return Some(key);
        }
        at += 1;
    }
    None
}

/// Ends the time alone, since there is another node. A node that was alone needed no renewals, so
/// their absence does not end its life: it is silent until the sender's `Renew`.
#[inline(always)]
fn end_time_alone(agent: &AgentLease, peers: &mut PeersLease, now: u64) {
    if is_alone(agent, peers)
        && tenure(agent, peers, now) == Tenure::Valid
        && now >= peers.deadline_ns
    {
        peers.life = 0;
    }
    peers.company = agent.alone;
}

#[inline(always)]
fn renew(agent: &AgentLease, peers: &mut PeersLease, heard: u64, now: u64) {
    if heard == 0 || heard > now {
        return;
    }
    let until = heard.saturating_add(agent.peers_lease_ns);
    match tenure(agent, peers, now) {
        Tenure::Over => peers.over = agent.life,
        Tenure::Unarmed | Tenure::Valid => {
            let begun = peers.life == agent.life;
            if until > now && !(begun && until <= peers.deadline_ns) {
                peers.deadline_ns = until;
                peers.life = agent.life;
            }
        }
    }
}

#[inline(always)]
fn millis(ns: u64) -> u32 {
    let ms = ns / 1_000_000;
    if ms > u32::MAX as u64 {
        u32::MAX
    } else {
        ms as u32
    }
}

#[inline(always)]
fn is_tagged(words: &Words, key: &Key) -> bool {
    tag(key, words) == u64::from_le(words[BODY])
}

// Not inlined, so that the program contains it once.
#[inline(never)]
fn tag(key: &Key, words: &Words) -> u64 {
    let mut v = begin(key);
    let mut at = 0;
    while at < BODY {
        absorb(&mut v, u64::from_le(words[at]));
        at += 1;
    }
    finish(v, BODY)
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of the little-endian bytes of these words.
#[inline(always)]
pub fn siphash<const N: usize>(key: &Key, words: &[u64; N]) -> u64 {
    let mut v = begin(key);
    for word in words {
        absorb(&mut v, *word);
    }
    finish(v, N)
}

#[inline(always)]
fn begin(key: &Key) -> [u64; 4] {
    let [k0, k1] = key.0;
    [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]
}

#[inline(always)]
fn finish(mut v: [u64; 4], words: usize) -> u64 {
    // The last word holds the length. There are no remaining bytes.
    absorb(&mut v, ((8 * words) as u64) << 56);
    v[2] ^= 0xff;
    round(&mut v);
    round(&mut v);
    round(&mut v);
    round(&mut v);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests;
