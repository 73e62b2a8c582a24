//! What agents say to each other, byte for byte: one envelope per datagram, in postcard's format.
//!
//! The shell seals each datagram as a whole (nonce in front, authentication tag behind), so
//! nothing here is secret or signed in itself. A late or doubled message is harmless: rounds are
//! known by number, meetings by cookie, and everything about a node names the life it is about.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use speaker_common::probe;

use super::{
    io::{Cause, Reason},
    links::{LinksHash, LinksPart},
    name::{Endpoints, Epoch, Life, NodeName},
    spans::Spans,
};

/// The longest message, but for one that is passed on, which may be fragmented: with what encryption
/// adds (28 bytes), IPv6 and UDP it fits an MTU of 1280.
pub const MESSAGE_LENGTH: usize = 1_200;
/// The first byte of every message.
const VERSION: u8 = 1;
/// VIPs per message: with addresses, epochs and two node names as long as can be, it fits.
pub(super) const BATCH: usize = 24;
/// Nodes per message, for the same reason.
pub(super) const BATCH_NODES: usize = 3;
/// What a page of members, or a part of a node's links, may take.
pub(super) const ROOM: usize = 700;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) from: Sender,
    /// The member that passed the message on, and will pass the answer back.
    pub(super) via: Option<NodeName>,
    pub(super) body: Body,
}

/// Who speaks: a node, in one of its lives, through one of its agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sender {
    pub(super) name: NodeName,
    pub(super) life: Life,
    /// A random number for each run of the agent: what one said does not bind the next.
    pub(super) agent: u64,
}

/// The content of a message. A body with a round is sent until it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    Hello(Hello),
    Welcome(Welcome),
    /// Send me what you know, from here on.
    Pull(Cursor),
    Page(Page),
    /// Send me the links with this hash, from this byte on.
    AskLinks {
        hash: LinksHash,
        after: u32,
    },
    Links(LinksPart),
    /// This life of yours is over, as far as I am concerned.
    Over {
        life: Life,
        side: Side,
    },
    /// I have seen nothing of these for so long that nothing I sent can keep them alive, and will
    /// renew none of them.
    Gone {
        lives: Vec<Absent>,
        please: bool,
    },
    /// The kernel of that node says that this life is over, and whether its agent is gone.
    Lapsed {
        round: u64,
        name: NodeName,
        life: Life,
        agentless: bool,
    },
    /// I have not given up that life after all: forget that I said so.
    Retract {
        round: u64,
        name: NodeName,
        life: Life,
        turn: u32,
    },
    /// I would own these, for this reason.
    Claim {
        round: u64,
        cause: Cause,
        entries: Vec<(IpAddr, Epoch)>,
    },
    Verdict {
        round: u64,
        denied: Vec<Denial>,
    },
    /// I own these: everybody consented.
    Owned {
        round: u64,
        entries: Vec<(IpAddr, Epoch)>,
    },
    /// I own these no more, and nobody does.
    Release {
        round: u64,
        entries: Vec<(IpAddr, Epoch)>,
    },
    /// I restart, and claim and renew nothing until I say hello again.
    Pause {
        round: u64,
    },
    /// I am leaving for good, and own nothing.
    Leave {
        round: u64,
    },
    Ack {
        round: u64,
    },
    /// Take these from me.
    Offer {
        entries: Vec<(IpAddr, Epoch)>,
        why: Reason,
    },
    Decline {
        vips: Vec<IpAddr>,
    },
    /// Give these to that node.
    Move {
        vips: Vec<IpAddr>,
        to: NodeName,
        why: Reason,
    },
    /// My lease is running out: watch me.
    WatchMe,
    /// A probe, where probes do not get through.
    Probe(ProbeBytes),
    /// Send this probe to that node for me.
    ProbeVia {
        target: NodeName,
        probe: ProbeBytes,
    },
    /// Pass this message on to that node.
    Relay {
        to: NodeName,
        message: Vec<u8>,
    },
}

/// I am here and want to be a member: the first step, and again whenever my card changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) stamp: u64,
    /// The cookie of the last welcome; zero if there was none.
    pub(super) cookie: u64,
    pub(super) card: Card,
}

/// You are a member, or (not accepted) prove that you hear me: repeat the cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) guest: Life,
    /// The hello's: a later hello is not answered by an earlier welcome.
    pub(super) stamp: u64,
    pub(super) cookie: u64,
    pub(super) accepted: bool,
    /// The version of the guest's card that is known here.
    pub(super) read: u32,
    pub(super) card: Card,
}

/// A sealed probe as two halves, which serde knows how to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProbeBytes([u8; 32], [u8; 32]);

impl From<[u8; probe::LENGTH]> for ProbeBytes {
    fn from(bytes: [u8; probe::LENGTH]) -> Self {
        let (halves, _) = bytes.as_chunks();
        Self(halves[0], halves[1])
    }
}

impl From<ProbeBytes> for [u8; probe::LENGTH] {
    fn from(ProbeBytes(first, second): ProbeBytes) -> Self {
        let mut bytes = [0; probe::LENGTH];
        bytes[..32].copy_from_slice(&first);
        bytes[32..].copy_from_slice(&second);
        bytes
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    /// Counts its changes.
    pub(super) version: u32,
    pub(super) endpoints: Endpoints,
    pub(super) draining: bool,
    pub(super) links: LinksHash,
    pub(super) spans: Spans,
}

/// How far a page reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cursor {
    Members(Option<NodeName>),
    Vips(Option<IpAddr>),
}

/// A part of what a node knows: its members, what it owns, and what it holds the reader to own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) after: Cursor,
    pub(super) members: Vec<KnownMember>,
    /// Each once: many VIPs may have the same.
    pub(super) causes: Vec<Cause>,
    pub(super) mine: Vec<Told>,
    pub(super) yours: Vec<Told>,
    pub(super) next: Option<Cursor>,
}

/// A member that the sender of a page knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownMember {
    pub(super) name: NodeName,
    pub(super) life: Life,
    pub(super) endpoints: Endpoints,
    pub(super) spans: Spans,
}

impl KnownMember {
    /// The most bytes that a life, two IPv6 endpoints and the spans take.
    pub(super) const LENGTH_BESIDES_NAME: usize = 90;
}

/// What a page says of a VIP and its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) vip: IpAddr,
    pub(super) epoch: Epoch,
    /// The number of the cause on the page.
    pub(super) cause: u8,
    /// How long it has been the owner.
    pub(super) age_ms: u64,
}

impl Told {
    /// More than it takes for the first four billion owners and a hundred years.
    pub(super) const LENGTH: usize = 17 + 5 + 1 + 6;
}

/// One side of a split: the one with more weight goes on, the other begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Side {
    /// Live members, with the speaker.
    pub(super) members: u32,
    /// The first of them by name: settles a draw.
    pub(super) first: NodeName,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Absent {
    pub(super) name: NodeName,
    pub(super) life: Life,
    /// The speaker asked it all that time and got no reply; else it never asked.
    pub(super) asked: bool,
    /// How often the speaker has taken it back before.
    pub(super) turn: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Denial {
    pub(super) vip: IpAddr,
    /// The epoch that the claim must exceed.
    pub(super) epoch: Epoch,
    pub(super) why: Refusal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// The speaker owns it, or is about to.
    Mine,
    /// The epoch is past.
    Late,
}

impl Envelope {
    pub(super) fn encode(&self) -> Vec<u8> {
        let bytes = postcard::to_extend(self, vec![VERSION]).expect("a vector takes all bytes");
        debug_assert!(
            bytes.len() <= MESSAGE_LENGTH || matches!(self.body, Body::Relay { .. }),
            "{} bytes: {self:?}",
            bytes.len()
        );
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else {
            return None;
        };
        postcard::from_bytes(rest).ok()
    }
}

/// A message in words, for a trace.
pub fn describe_message(bytes: &[u8]) -> String {
    match Envelope::decode(bytes) {
        Some(Envelope { from, via, body }) => {
            let via = via.map_or_else(String::new, |via| format!(" via {via}"));
            format!("{} ({}{via}): {body:?}", from.name, from.life.0)
        }
        None => format!("{} bytes that are no message of this version", bytes.len()),
    }
}
