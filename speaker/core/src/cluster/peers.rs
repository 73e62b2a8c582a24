//! The other nodes that this one knows, and which of them it has to look at.
//!
//! After every input, a node looks for what has become due. In a large cluster most members are
//! watched by others, and nothing is due about them for hours. So a peer about which there is
//! nothing to do *rests* until its time comes, or until it is changed, and only the others are
//! looked at.
//!
//! What is kept about resting peers cannot be outdated: nobody gets hold of a peer to change it
//! without waking it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Index,
    time::{Duration, Instant},
};

use super::{
    Cluster,
    name::NodeName,
    peer::{Evidence, Peer},
    spans::Waits,
};

#[derive(Debug, Default)]
pub(super) struct Peers {
    /// In the order of names.
    all: Vec<(NodeName, Peer)>,
    names: BTreeMap<u64, NodeName>,
    /// Those that do not rest, as places in `all`.
    awake: BTreeSet<usize>,
    // Of those that rest, each with its place:
    looks: BTreeSet<(Instant, usize)>,
    wakes: BTreeSet<(Instant, usize)>,
    spoke: BTreeSet<(Instant, usize)>,
    notices: BTreeSet<(Duration, usize)>,
    /// The waits by which these times were set.
    waits: Option<Waits>,
}

/// What is kept about a peer while it rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// When it has to be looked at if nothing changes it before.
    look: Option<Instant>,
    /// When the agent has to be woken for it. The rest can wait for the next input.
    wake: Option<Instant>,
    spoke: Option<Instant>,
    notice: Option<Duration>,
}

impl Peers {
    pub(super) fn get(&self, name: &NodeName) -> Option<&Peer> {
        self.place(name).ok().map(|at| &self.all[at].1)
    }

    pub(super) fn get_mut(&mut self, name: &NodeName) -> Option<&mut Peer> {
        self.place(name).ok().map(|at| self.wake(at))
    }

    pub(super) fn get_or_insert_with(
        &mut self,
        name: &NodeName,
        peer: impl FnOnce() -> Peer,
    ) -> &mut Peer {
        let at = self.place(name).unwrap_or_else(|at| {
            let peer = peer();
            self.names.insert(peer.number, name.clone());
            self.all.insert(at, (name.clone(), peer));
            self.wake_all();
            at
        });
        self.wake(at)
    }

    pub(super) fn remove(&mut self, name: &NodeName) {
        if let Ok(at) = self.place(name) {
            let (_, peer) = self.all.remove(at);
            self.names.remove(&peer.number);
            self.wake_all();
        }
    }

    /// The peer that has this number in probes.
    pub(super) fn numbered(&self, number: u64) -> Option<(&NodeName, &Peer)> {
        let name = self.names.get(&number)?;
        Some((name, self.get(name)?))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.all.iter().map(|(name, peer)| (name, peer))
    }

    /// Those whose names come after this one.
    pub(super) fn after(
        &self,
        name: Option<&NodeName>,
    ) -> impl Iterator<Item = (&NodeName, &Peer)> {
        let first = self.all.partition_point(|(other, _)| Some(other) <= name);
        self.all[first..].iter().map(|(name, peer)| (name, peer))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &NodeName> {
        self.all.iter().map(|(name, _)| name)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Peer> {
        self.all.iter().map(|(_, peer)| peer)
    }

    /// Changes some of them.
    pub(super) fn change(&mut self, which: impl Fn(&Peer) -> bool, change: impl Fn(&mut Peer)) {
        for at in 0..self.all.len() {
            if which(&self.all[at].1) {
                change(self.wake(at));
            }
        }
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.wake_all();
        self.all.iter_mut().map(|(_, peer)| peer)
    }

    /// Those that do not rest.
    pub(super) fn awake(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.awake.iter().map(|&at| {
            let (name, peer) = &self.all[at];
            (name, peer)
        })
    }

    pub(super) fn awake_mut(&mut self) -> impl Iterator<Item = (&NodeName, &mut Peer)> {
        let mut all = self.all.iter_mut();
        let mut passed = 0;
        self.awake.iter().map(move |&at| {
            let skipped = at - passed;
            passed = at + 1;
            let (name, peer) = all.nth(skipped).expect("each place has a peer");
            (&*name, peer)
        })
    }

    /// When the agent has to be woken for one that rests.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// Ends the rest of those that have to be looked at.
    pub(super) fn wake_due(&mut self, now: Instant) {
        while let Some(&(_, at)) = self.looks.first().filter(|(look, _)| *look <= now) {
            self.wake(at);
        }
    }

    /// When an agent of a member last spoke, of those that are not known to be away.
    pub(super) fn last_spoke(&self) -> Option<Instant> {
        let resting = self.spoke.last().map(|(spoke, _)| *spoke);
        let awake = self.awake().filter_map(|(_, peer)| peer.spoke());
        awake.chain(resting).max()
    }

    /// The longest that any member renews others after it has lost the majority.
    pub(super) fn longest_notice(&self) -> Option<Duration> {
        let resting = self.notices.last().map(|(notice, _)| *notice);
        let awake = self.awake().filter_map(|(_, peer)| peer.notice());
        awake.chain(resting).max()
    }

    fn place(&self, name: &NodeName) -> Result<usize, usize> {
        self.all.binary_search_by(|(other, _)| other.cmp(name))
    }

    fn wake(&mut self, at: usize) -> &mut Peer {
        let (_, peer) = &mut self.all[at];
        if let Some(rest) = peer.rest.take() {
            let Rest {
                look,
                wake,
                spoke,
                notice,
            } = rest;
            self.awake.insert(at);
            look.map(|look| self.looks.remove(&(look, at)));
            wake.map(|wake| self.wakes.remove(&(wake, at)));
            spoke.map(|spoke| self.spoke.remove(&(spoke, at)));
            notice.map(|notice| self.notices.remove(&(notice, at)));
        }
        peer
    }

    fn wake_all(&mut self) {
        for (_, peer) in &mut self.all {
            peer.rest = None;
        }
        self.awake = (0..self.all.len()).collect();
        self.looks.clear();
        self.wakes.clear();
        self.spoke.clear();
        self.notices.clear();
    }

    /// Lets those rest that may.
    fn let_rest(&mut self, rest: impl Fn(&Peer) -> Option<Rest>) {
        self.awake.retain(|&at| {
            let (_, peer) = &mut self.all[at];
            let Some(rest) = rest(peer) else {
                return true;
            };
            peer.rest = Some(rest);
            let Rest {
                look,
                wake,
                spoke,
                notice,
            } = rest;
            self.looks.extend(look.map(|look| (look, at)));
            self.wakes.extend(wake.map(|wake| (wake, at)));
            self.spoke.extend(spoke.map(|spoke| (spoke, at)));
            self.notices.extend(notice.map(|notice| (notice, at)));
            false
        });
    }
}

impl Index<&NodeName> for Peers {
    type Output = Peer;

    fn index(&self, name: &NodeName) -> &Peer {
        self.get(name).expect("it is only asked for known peers")
    }
}

impl Cluster {
    /// Lets those peers rest about which there is nothing to do for now.
    pub(super) fn let_peers_rest(&mut self, now: Instant) {
        let waits = self.waits();
        let mut peers = std::mem::take(&mut self.peers);
        if peers.waits.replace(waits) != Some(waits) {
            peers.wake_all();
        }
        peers.let_rest(|peer| self.rest_of(peer, &waits, now));
        self.peers = peers;
    }

    /// How a peer may rest, if it may. This depends on the peer and on what wakes all peers when it
    /// changes.
    fn rest_of(&self, peer: &Peer, waits: &Waits, now: Instant) -> Option<Rest> {
        let (spoke, notice) = (peer.spoke(), peer.notice());
        let Evidence {
            gone,
            probed,
            votes,
            ..
        } = &peer.evidence;
        if !peer.is_live() {
            let may_rest = !gone || *probed && peer.watch.is_some();
            return may_rest.then_some(Rest {
                look: None,
                wake: None,
                spoke,
                notice,
            });
        }
        let unanswered = peer.unanswered_at();
        if *gone || !votes.is_empty() || unanswered.is_some_and(|at| now >= at) {
            return None;
        }
        let is_open = peer.is_handshake_open(&self.card);
        let retry = is_open.then_some(peer.handshake.retry.next);
        let probe = peer.watch.as_ref().map(|watch| watch.next);
        let given_up = self.is_given_up_at(peer, waits);
        let wake = [retry, probe, given_up].into_iter().flatten().min();
        Some(Rest {
            look: wake.into_iter().chain(unanswered).min(),
            wake,
            spoke,
            notice,
        })
    }
}

#[cfg(test)]
impl Cluster {
    /// Whoever rests still may, and is looked at in time.
    pub(super) fn check_rest(&self, now: Instant) {
        let waits = self.waits();
        for (name, peer) in self.peers.iter() {
            let Some(rest) = peer.rest else {
                continue;
            };
            let due = self.rest_of(peer, &waits, now).expect("it may rest");
            let in_time = |set: Option<Instant>, due: Option<Instant>| {
                due.is_none_or(|due| set.is_some_and(|set| set <= due))
            };
            assert!(
                in_time(rest.look, due.look) && in_time(rest.wake, due.wake),
                "{name}: {rest:?}, {due:?}"
            );
            assert_eq!((rest.spoke, rest.notice), (due.spoke, due.notice), "{name}");
        }
    }
}
