//! How nodes exchange their links.
//!
//! A card carries only a hash of them: they may be longer than a message, and seldom change. A node
//! that receives a hash that it does not know asks for the links, one part at a time.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Cluster,
    io::LinkInfo,
    message::{Body, Cursor, ROOM},
    name::NodeName,
    peer::Retry,
};

/// The first eight bytes of the SHA-256 of encoded links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinksHash(u64);

impl LinksHash {
    pub(super) fn of(links: &[LinkInfo]) -> Self {
        Self::of_bytes(&encode(links))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        let head = hash.first_chunk().expect("a SHA-256 has 32 bytes");
        Self(u64::from_le_bytes(*head))
    }
}

/// A part of encoded links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinksPart {
    pub(super) hash: LinksHash,
    /// The byte at which it begins.
    after: u32,
    bytes: Vec<u8>,
    last: bool,
}

/// Another node's links, as far as they are known.
#[derive(Debug)]
pub(super) struct Links {
    /// The last complete links.
    known: Vec<LinkInfo>,
    hash: LinksHash,
    /// Newer links, received in part.
    arriving: Arriving,
}

#[derive(Debug)]
struct Arriving {
    hash: LinksHash,
    bytes: Vec<u8>,
}

impl Arriving {
    fn new(hash: LinksHash) -> Self {
        Self {
            hash,
            bytes: Vec::new(),
        }
    }
}

impl Links {
    pub(super) fn none() -> Self {
        let hash = LinksHash::of(&[]);
        Self {
            known: Vec::new(),
            hash,
            arriving: Arriving::new(hash),
        }
    }

    pub(super) fn known(&self) -> &[LinkInfo] {
        &self.known
    }

    pub(super) fn are(&self, hash: LinksHash) -> bool {
        self.hash == hash
    }

    /// How many bytes of these have arrived.
    fn length(&self, hash: LinksHash) -> u32 {
        let Arriving { hash: of, bytes } = &self.arriving;
        if *of == hash { bytes.len() as u32 } else { 0 }
    }

    /// Adds a part if it is the next one. Returns whether it was.
    fn add(&mut self, part: LinksPart) -> bool {
        let LinksPart {
            hash,
            after,
            bytes,
            last,
        } = part;
        if after != self.length(hash) {
            return false;
        }
        if after == 0 {
            self.arriving = Arriving::new(hash);
        }
        self.arriving.bytes.extend(bytes);
        if !last {
            return true;
        }
        let bytes = std::mem::take(&mut self.arriving.bytes);
        let Ok(links) = postcard::from_bytes(&bytes) else {
            return false;
        };
        self.known = links;
        self.hash = LinksHash::of_bytes(&bytes);
        true
    }
}

fn encode(links: &[LinkInfo]) -> Vec<u8> {
    postcard::to_stdvec(links).expect("a vector takes all bytes")
}

impl Cluster {
    pub(super) fn on_own_links(&mut self, links: Vec<LinkInfo>, now: Instant) {
        if self.links != links {
            self.card.links = LinksHash::of(&links);
            self.card.version += 1;
            self.links = links;
            self.resend_card(now);
        }
    }

    /// The request to a member for the next part of its links.
    pub(super) fn links_asked_of(&self, name: &NodeName) -> Body {
        let peer = &self.peers[name];
        let hash = peer.card.links;
        let after = peer.links.length(hash);
        Body::AskLinks { hash, after }
    }

    /// A request with an outdated hash needs no answer: its sender will receive the new card.
    pub(super) fn on_ask_links(&mut self, from: &NodeName, hash: LinksHash, after: u32) {
        if hash != self.card.links {
            return;
        }
        let bytes = encode(&self.links);
        let rest = bytes.get(after as usize..).unwrap_or_default();
        let part = &rest[..rest.len().min(ROOM)];
        let part = LinksPart {
            hash,
            after,
            bytes: part.to_vec(),
            last: part.len() == rest.len(),
        };
        self.reply(from, Body::Links(part));
    }

    pub(super) fn on_links(&mut self, from: &NodeName, part: LinksPart, now: Instant) {
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        let expected = part.hash == peer.card.links && !peer.has_told_links();
        if !expected || !peer.links.add(part) {
            return;
        }
        peer.handshake.retry = Retry::now(now);
        if peer.has_told_links() {
            if !peer.handshake.met {
                peer.handshake.pull.get_or_insert(Cursor::Members(None));
            }
            self.members_version += 1;
            self.decide_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(count: u8) -> Vec<LinkInfo> {
        let link = |at| LinkInfo {
            name: format!("eth0.{at}"),
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            subnets: vec![([10, 0, at, 0].into(), 24)],
            obstacle: None,
        };
        (0..count).map(link).collect()
    }

    fn parts(links: &[LinkInfo], size: usize) -> Vec<LinksPart> {
        let bytes = encode(links);
        let hash = LinksHash::of(links);
        let after = |at: usize| (at * size) as u32;
        let last = bytes.len().div_ceil(size) - 1;
        let chunks = bytes.chunks(size).enumerate();
        chunks
            .map(|(at, bytes)| LinksPart {
                hash,
                after: after(at),
                bytes: bytes.to_vec(),
                last: at == last,
            })
            .collect()
    }

    #[test]
    fn links_are_known_once_all_parts_have_arrived_in_order() {
        let told = links(40);
        let mut known = Links::none();
        for part in parts(&told, 100) {
            assert_eq!(known.known(), []);
            assert!(known.add(part.clone()));
            // A duplicate.
            assert!(part.last || !known.add(part));
        }
        assert_eq!(known.known(), told);
        assert!(known.are(LinksHash::of(&told)));
    }

    #[test]
    fn parts_of_different_links_are_not_mixed() {
        let (old, new) = (links(20), links(21));
        let mut known = Links::none();
        assert!(known.add(parts(&old, 100)[0].clone()));
        assert!(!known.add(parts(&new, 100)[1].clone()));
        for part in parts(&new, 100) {
            assert!(known.add(part));
        }
        assert_eq!(known.known(), new);
    }
}
