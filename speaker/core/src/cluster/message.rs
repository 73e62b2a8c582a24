//! The messages between agents: one envelope per datagram, a version byte followed by postcard.
//!
//! The shell encrypts each datagram as a whole (nonce in front, authentication tag behind), so
//! nothing here is encrypted or signed by itself. Late and duplicate messages are harmless: rounds
//! are identified by number, handshakes by cookie, and every statement about a node names the life
//! that it is about. Only a request to move a VIP has none of these: at worst, it is moved once
//! more.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use speaker_common::probe;

use super::{
    io::{Cause, Reason},
    links::{LinksHash, LinksPart},
    name::{Endpoints, Epoch, Life, NodeName},
    spans::Spans,
    vouching::Unmet,
};

/// The longest message in bytes. With the 28 bytes that encryption adds, IPv6 and UDP it fits an
/// MTU of 1280. A relayed message is longer, and may be fragmented.
pub const MESSAGE_LENGTH: usize = 1_200;
/// The first byte of every message.
const VERSION: u8 = 1;
/// VIPs per message: this many fit with addresses, epochs and two node names of maximum length.
pub(super) const BATCH: usize = 24;
/// Nodes per message, for the same reason.
pub(super) const BATCH_NODES: usize = 3;
/// The most bytes of entries on a page, or in a part of a node's links.
pub(super) const ROOM: usize = 700;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) from: Sender,
    /// The member that relayed the message, and will relay the answer.
    pub(super) via: Option<NodeName>,
    pub(super) body: Body,
}

/// Who speaks: a node, in one of its lives, through one of its agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sender {
    pub(super) name: NodeName,
    pub(super) life: Life,
    /// A random number for each run of the agent: the statements of one do not bind the next.
    pub(super) agent: u64,
}

/// The content of a message.
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
    /// I consider this life of yours over.
    Over {
        life: Life,
        side: Side,
    },
    /// I consider this life of another node over, but its kernel answers, and its agent is away.
    Ended {
        name: NodeName,
        life: Life,
    },
    /// I have given these up: nothing that I sent can keep their leases valid, and I renew none.
    Gone {
        lives: Vec<GivenUp>,
        reply_wanted: bool,
    },
    /// Sent until it is answered.
    Ask {
        round: u64,
        ask: Ask,
    },
    /// The answer to a claim.
    Verdict {
        round: u64,
        denied: Vec<Denial>,
        /// Those of the claim's unmet members that the sender has met.
        vouched: Vec<u64>,
    },
    /// The answer to any other request: it is done.
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
    /// A probe, in case packets to the probe port do not get through.
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

/// The content of a round: what every member is asked or told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// I want to own these, for this reason.
    Claim {
        cause: Cause,
        entries: BTreeMap<IpAddr, Epoch>,
        /// I have not met these members, and their agents restart.
        unmet: Unmet,
    },
    /// I own these: all members consented.
    Owned(Vec<(IpAddr, Epoch)>),
    /// I no longer own these, and nobody does.
    Release(Vec<(IpAddr, Epoch)>),
    /// The node's kernel says that this life is over, and whether its agent is gone.
    Lapsed {
        name: NodeName,
        life: Life,
        agentless: bool,
    },
    /// I retract that I gave up that life.
    Retract {
        name: NodeName,
        life: Life,
        retractions: u32,
    },
    /// My agent restarts, and claims and renews nothing until it says hello again.
    Pause,
    /// I am leaving for good, and own nothing.
    Leave,
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

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    /// Counts its changes.
    pub(super) version: u32,
    pub(super) endpoints: Endpoints,
    pub(super) draining: bool,
    pub(super) links: LinksHash,
    pub(super) spans: Spans,
}

/// Where a page begins: after this entry, or at the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cursor {
    Members(Option<NodeName>),
    Vips(Option<IpAddr>),
}

/// A part of what a node knows: members, the VIPs that it owns, and those that it believes the
/// reader owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) after: Cursor,
    pub(super) members: Vec<KnownMember>,
    /// The causes of all VIPs on the page, each once.
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
    /// Its agent restarts.
    pub(super) paused: bool,
}

impl KnownMember {
    /// The maximum length of everything but the name, in bytes: a life, two IPv6 endpoints, the
    /// spans and a flag.
    pub(super) const LENGTH_BESIDES_NAME: usize = 98;
}

/// A page's entry for a VIP and its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) vip: IpAddr,
    pub(super) epoch: Epoch,
    /// Index into [`Page::causes`].
    pub(super) cause: u8,
    /// How long the owner has had it, in milliseconds.
    pub(super) age_ms: u64,
}

impl Told {
    /// Enough bytes for four billion epochs and a hundred years.
    pub(super) const LENGTH: usize = 17 + 5 + 1 + 6;
}

/// One side of a split: the heavier one remains, the other begins new lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Side {
    /// Live members, including the sender.
    pub(super) members: u32,
    /// The first of them by name, which breaks ties.
    pub(super) first: NodeName,
}

/// A member that the sender has given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GivenUp {
    pub(super) name: NodeName,
    pub(super) life: Life,
    /// The sender's own probes went unanswered for long enough. Otherwise it relies on others.
    pub(super) probed: bool,
    /// How often the sender has retracted before.
    pub(super) retractions: u32,
}

/// A claimed VIP that the sender does not consent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Denial {
    pub(super) vip: IpAddr,
    /// The epoch that the claim must exceed.
    pub(super) epoch: Epoch,
    pub(super) why: Refusal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// The sender owns it, or is about to.
    Mine,
    /// The epoch is too low.
    Late,
    /// The unmet member with this number may own it.
    Held { by: u64 },
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

/// A message as text, for traces.
pub fn describe_message(bytes: &[u8]) -> String {
    match Envelope::decode(bytes) {
        Some(Envelope { from, via, body }) => {
            let via = via.map_or_else(String::new, |via| format!(" via {via}"));
            format!("{} ({}{via}): {body:?}", from.name, from.life.0)
        }
        None => format!("{} bytes that are no message of this version", bytes.len()),
    }
}
