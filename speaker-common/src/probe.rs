//! Liveness probes: their wire format, their keyed tag, and what a probed node does with one.
//!
//! A watcher asks (`Request`), the probed node's XDP program says how it is and what time its own
//! clock shows (`Reply`), and the watcher hands that time back (`Renew`, and its next `Request`).
//! Only that extends the lease, and it extends it *from the time handed back*: however late,
//! doubled or replayed it arrives, the lease ends one lease length after a moment at which the node
//! had spoken, by the node's own clock. No counter per watcher is needed for that, and a watcher
//! that has heard nothing for longer than the lease (plus what two clocks may differ in rate)
//! knows that nothing it ever sent can still be keeping the node alive.
//!
//! | replayed frame | what it does |
//! |---|---|
//! | `Request` | draws a reply; may end the loneliness of a node that believed itself alone |
//! | `Reply` | nothing: a watcher takes an answer only to a request that it has just made |
//! | `Renew` | nothing: its time is past, or belongs to another life |
//!
//! A *life* is the span in which a node holds its lease without interruption. A lapsed lease is
//! never extended: the life is over, and only the agent can begin another, under a new number.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a probe: the whole UDP payload, whatever its kind, so that a request becomes its
/// reply in place.
pub const LENGTH: usize = 64;

/// What every probe begins with: a name, and the version of this layout. Then, in the same word,
/// kind and flags.
const MAGIC: [u8; 3] = *b"SP\x01";

/// Words before the tag.
const BODY: usize = 7;

/// The step of the exchange.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// How are you? With [`FLAG_RENEWS`] it hands the time of the last reply back once more, in
    /// case the `Renew` was lost.
    Request = 1,
    /// What the probed node says.
    Reply = 2,
    /// Hands the time of a reply back, and extends the lease from it. Draws no reply.
    Renew = 3,
}

/// As a target: whoever is there.
pub const ANYBODY: u64 = 0;

/// Of a request: the sender holds this life to be over, which ends it if the node believed itself
/// alone.
pub const FLAG_OVER: u32 = 1;
/// Of a request: the sender will renew the lease when it is answered.
pub const FLAG_RENEWS: u32 = 1 << 6;
/// Of a reply: the lease stands, and what the node owns is answered.
pub const FLAG_VALID: u32 = 1 << 1;
/// Of a reply: this life is over and will never answer again.
pub const FLAG_LAPSED: u32 = 1 << 2;
/// Of a reply: the node answers without being renewed, since it knows of nobody else.
pub const FLAG_ALONE: u32 = 1 << 3;
/// Of a reply: the agent announced that it restarts; it claims and renews nothing until it is back.
pub const FLAG_RESTARTING: u32 = 1 << 4;
/// Of a reply: the node is handing over what it owns and takes nothing.
pub const FLAG_DRAINING: u32 = 1 << 5;

/// A probe. On the wire: little-endian words in the order of the fields, then the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Which step this is.
    pub kind: Kind,
    /// `FLAG_*`.
    pub flags: u32,
    /// Who asks: the node's number (the first eight bytes of its name's SHA-256).
    pub watcher: u64,
    /// Who is asked, or [`ANYBODY`].
    pub target: u64,
    /// Chosen by the watcher, repeated in the reply.
    pub sequence: u64,
    /// The life of the target that this is about.
    pub life: u64,
    /// The target's clock at its last reply, in nanoseconds of `CLOCK_BOOTTIME`; zero if there is
    /// none.
    pub time_ns: u64,
    /// Milliseconds since the agent's last heartbeat, in a reply.
    pub agent_age_ms: u32,
    /// Milliseconds until the agent's deadline, in a reply.
    pub agent_left_ms: u32,
}

/// A key of the tag: two little-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Key(pub [u64; 2]);

impl Probe {
    /// The probe's bytes with their tag.
    #[inline(always)]
    pub fn seal(&self, key: &Key) -> [u8; LENGTH] {
        let mut words = [0; 8];
        let [m0, m1, version] = MAGIC;
        let [f0, f1, f2, f3] = self.flags.to_le_bytes();
        words[0] = u64::from_le_bytes([m0, m1, version, self.kind as u8, f0, f1, f2, f3]);
        words[1] = self.watcher;
        words[2] = self.target;
        words[3] = self.sequence;
        words[4] = self.life;
        words[5] = self.time_ns;
        words[6] = u64::from(self.agent_age_ms) | u64::from(self.agent_left_ms) << 32;
        words[7] = tag(key, &words);
        let mut bytes = [0; LENGTH];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    /// The probe in these bytes, if the tag is by this key and the layout is this version's.
    #[inline(always)]
    pub fn open(bytes: &[u8; LENGTH], key: &Key) -> Option<Self> {
        let mut words = [0; 8];
        for (word, place) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*place);
        }
        if tag(key, &words) != words[7] {
            return None;
        }
        let [m0, m1, version, kind, f0, f1, f2, f3] = words[0].to_le_bytes();
        if [m0, m1, version] != MAGIC {
            return None;
        }
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Renew,
            _ => return None,
        };
        Some(Self {
            kind,
            flags: u32::from_le_bytes([f0, f1, f2, f3]),
            watcher: words[1],
            target: words[2],
            sequence: words[3],
            life: words[4],
            time_ns: words[5],
            agent_age_ms: words[6] as u32,
            agent_left_ms: (words[6] >> 32) as u32,
        })
    }
}

/// What the agent writes, and nobody else: its side of the lease.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct AgentLease {
    /// The present life; zero before the first.
    pub life: u64,
    /// The agent is alive, or expected back, until then; nanoseconds of `CLOCK_BOOTTIME`.
    pub agent_deadline_ns: u64,
    /// When the agent last wrote this.
    pub heartbeat_ns: u64,
    /// How long one handed-back reply extends the lease.
    pub peers_lease_ns: u64,
    /// Not zero: the agent knows of nobody else, for the so-manieth time.
    pub alone: u32,
    /// [`FLAG_RESTARTING`] and [`FLAG_DRAINING`].
    pub flags: u32,
}

/// What the program writes while it answers probes, and nobody else: the peers' side of the lease.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PeersLease {
    /// The life that `deadline_ns` belongs to. Stored after it, loaded before it.
    pub life: u64,
    /// The peers' deadline, in nanoseconds of `CLOCK_BOOTTIME`.
    pub deadline_ns: u64,
    /// The last life that is known to be over.
    pub over: u64,
    /// The last [`AgentLease::alone`] that a probe has disproved.
    pub company: u32,
    #[doc(hidden)]
    pub unused: u32,
}

/// What the two sides of the lease come to at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// No peer has renewed this life yet: silent, and the first `Renew` begins the lease.
    Unarmed,
    /// What is owned is answered.
    Valid,
    /// Silent for the rest of this life.
    Over,
}

/// What the lease allows at `now`, in nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn tenure(agent: &AgentLease, peers: &PeersLease, now: u64) -> Tenure {
    if agent.life == peers.over || now >= agent.agent_deadline_ns {
        Tenure::Over
    } else if is_alone(agent, peers) {
        Tenure::Valid
    } else if agent.life != peers.life {
        Tenure::Unarmed
    } else if now < peers.deadline_ns {
        Tenure::Valid
    } else {
        Tenure::Over
    }
}

#[inline(always)]
fn is_alone(agent: &AgentLease, peers: &PeersLease) -> bool {
    agent.alone != 0 && agent.alone != peers.company
}

/// What becomes of an authentic probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The peers' side of the lease from now on: to be stored before the reply leaves.
    pub peers: PeersLease,
    /// What to send back to where the probe came from.
    pub reply: Option<Probe>,
}

/// Judges an authentic probe that reached the node of this number.
#[inline(always)]
pub fn answer(
    probe: &Probe,
    node: u64,
    agent: &AgentLease,
    peers: &PeersLease,
    now: u64,
) -> Outcome {
    let mut peers = *peers;
    if probe.target != node && probe.target != ANYBODY || probe.watcher == node {
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
            // In company it is for the members to settle: the sender may be the one cut off.
            if ours && probe.flags & FLAG_OVER != 0 && agent.alone != 0 {
                peers.over = agent.life;
            }
            if probe.flags & (FLAG_OVER | FLAG_RENEWS) != 0 {
                end_loneliness(agent, &mut peers, now);
            }
            let tenure = tenure(agent, &peers, now);
            // Said once, it must stay true: whoever reads it takes this node's VIPs over.
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

/// Somebody is there. While the node was alone its lease needed no renewal, so that it was not
/// renewed does not end its life: it falls silent until the sender's `Renew`.
#[inline(always)]
fn end_loneliness(agent: &AgentLease, peers: &mut PeersLease, now: u64) {
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
fn tag(key: &Key, words: &[u64; 8]) -> u64 {
    let mut message = [0; BODY];
    let mut at = 0;
    while at < BODY {
        message[at] = words[at];
        at += 1;
    }
    siphash(key, &message)
}

/// SipHash-2-4 of whole words (Aumasson and Bernstein, 2012): the message is their little-endian
/// bytes.
#[inline(always)]
pub fn siphash<const N: usize>(key: &Key, words: &[u64; N]) -> u64 {
    let [k0, k1] = key.0;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut at = 0;
    while at < N {
        absorb(&mut v, words[at]);
        at += 1;
    }
    // The last word holds the length and the bytes left over, of which there are none.
    absorb(&mut v, ((8 * N) as u64) << 56);
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
