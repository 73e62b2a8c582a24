//! When a member's life is over.
//!
//! Each node judges for itself, and needs everybody for it. A member that has given another one up
//! (`gone`) has heard no reply from it for `take_over_after`, or never asked, and will not renew it
//! in that life; it says so to all. The life of a set of members is over when every other member
//! has given up each of them: nobody is left who could have renewed them. At least one must have
//! asked in vain, so that a member that is only slow to speak is not taken for dead. And a node that
//! is renewed is heard by somebody who lives: if it hears nobody itself, it is only what it sends
//! that gets lost, and it takes nothing for itself.

use std::{collections::BTreeSet, time::Instant};

use super::{
    Cluster,
    io::DownReason,
    message::{Absent, BATCH_NODES, Body},
    name::{Life, NodeName},
    peer::{Retry, Vote, Watch},
    rounds::Kind,
};

impl Cluster {
    /// Gives up who has been silent for too long, and finds whose lives are over.
    pub(super) fn judge(&mut self, now: Instant) {
        if self.lease.restarting {
            return;
        }
        let waits = self.waits();
        let may_accuse = self.may_accuse(now);
        let mut changed = false;
        let believed = self.believed(now);
        for (name, peer) in &mut self.peers {
            if !peer.is_live() {
                continue;
            }
            let wait = waits.silence(peer);
            let evidence = &mut peer.evidence;
            if evidence.gone {
                continue;
            }
            let asked = peer.watch.as_ref().map(|watch| watch.since);
            let quiet = |since: Instant| now >= since + wait;
            let unheard = evidence.heard.is_none_or(quiet);
            evidence.gone = unheard
                && match asked {
                    Some(since) if may_accuse && quiet(since) => true,
                    Some(_) | None => believed.contains(name),
                };
            changed |= evidence.gone;
        }
        changed |= self.give_up_again(now);
        changed |= self.weigh(now);
        if changed {
            self.gone_poll = Retry::now(now);
            self.gone_poll.due(now);
            self.tell_gone(true);
        } else if self.live().any(|(_, peer)| peer.is_given_up()) && self.gone_poll.due(now) {
            self.tell_gone(false);
        }
        let over = self.over(now);
        for name in over {
            self.mark_down(&name, DownReason::Unreachable, now);
        }
    }

    /// Stops taking back that it gave up a member whose reply was only late. Whether there was one.
    fn give_up_again(&mut self, now: Instant) -> bool {
        let waits = self.waits();
        let mut again = BTreeSet::new();
        for (name, peer) in &mut self.peers {
            let wait = waits.silence(peer);
            let heard = peer.watch.as_ref().and_then(|watch| watch.heard);
            if peer.is_live() && peer.evidence.retracting && heard.is_none_or(|at| now >= at + wait)
            {
                peer.evidence.retracting = false;
                again.insert(name.clone());
            }
        }
        let stale =
            |kind: &Kind| matches!(kind, Kind::Retract { name, .. } if again.contains(name));
        self.rounds.retain(|_, round| !stale(&round.kind));
        !again.is_empty()
    }

    /// Finds whom this node has asked in vain for long enough: a node that may be alone, for as long
    /// as one can be. Whether that is more than before.
    fn weigh(&mut self, now: Instant) -> bool {
        let waits = self.waits();
        let mut more = false;
        for peer in self.peers.values_mut().filter(|peer| peer.is_given_up()) {
            let (wait, longest) = (waits.silence(peer), waits.alone(peer));
            let evidence = &mut peer.evidence;
            // Whoever was given up on the word of others may have been on the far side of a split:
            // nobody else will find that it replies again.
            let watch = peer.watch.get_or_insert_with(|| Watch::new(now, Some(now)));
            let since = evidence
                .heard
                .map_or(watch.since, |heard| heard.max(watch.since));
            let asked = now >= since + if evidence.in_company { wait } else { longest };
            more |= asked && !evidence.asked;
            evidence.asked = asked;
        }
        more
    }

    /// Members that this node does not watch, and that it gives up on the word of others: of two of
    /// their watchers, since one alone may be the one that is cut off. Else it asks them itself.
    fn believed(&mut self, now: Instant) -> BTreeSet<NodeName> {
        let mut believed = BTreeSet::new();
        let regular = |watch: &Watch| watch.until.is_none();
        let accused: Vec<NodeName> = self
            .live()
            .filter(|(_, peer)| peer.evidence.accused && !peer.evidence.gone)
            .filter(|(_, peer)| !peer.watch.as_ref().is_some_and(regular))
            .map(|(name, _)| name.clone())
            .collect();
        for name in accused {
            let watchers = self.watchers_of(&name);
            let votes = &self.peers[&name].evidence.votes;
            let asked = |watcher: &&NodeName| votes.get(*watcher).is_some_and(|vote| vote.asked);
            if watchers.iter().filter(asked).count() >= 2 {
                believed.insert(name);
            } else {
                self.watch_for_now(&name, now);
            }
        }
        believed
    }

    /// A member that this node gave up replies after all: once everybody has forgotten that this
    /// node gave it up, this node may renew it again.
    pub(super) fn retract(&mut self, name: &NodeName, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if !peer.is_given_up() {
            return;
        }
        peer.evidence.retracting = true;
        let (life, turn) = (peer.life, peer.evidence.turn);
        peer.evidence.turn += 1;
        let name = name.clone();
        self.start_round(Kind::Retract { name, life, turn }, None, now);
    }

    pub(super) fn on_retract(&mut self, from: &NodeName, name: &NodeName, life: Life, turn: u32) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.life == life
        {
            let evidence = &mut peer.evidence;
            let retracted = evidence.retracted.entry(from.clone()).or_insert(turn);
            *retracted = turn.max(*retracted);
            evidence
                .votes
                .retain(|voter, vote| voter != from || vote.turn > turn);
            evidence.accused = !evidence.votes.is_empty();
        }
    }

    /// Everybody has forgotten it.
    pub(super) fn retracted(&mut self, name: &NodeName, life: Life, now: Instant) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.is_live()
            && peer.life == life
        {
            peer.evidence.gone = false;
            peer.evidence.retracting = false;
            peer.evidence.heard = Some(now);
            self.decide_all();
        }
    }

    pub(super) fn silence_wake(&self, now: Instant) -> Option<Instant> {
        if self.lease.restarting {
            return None;
        }
        let waits = self.waits();
        let may_accuse = self.may_accuse_at();
        let gone = self.live().any(|(_, peer)| peer.is_given_up());
        self.live()
            .filter(|(_, peer)| !peer.evidence.gone)
            .filter_map(|(_, peer)| {
                let heard = peer.evidence.heard;
                let since = match &peer.watch {
                    Some(watch) => Some(heard.map_or(watch.since, |heard| heard.max(watch.since))),
                    None => heard.filter(|_| peer.evidence.accused),
                };
                since.map(|since| (since + waits.silence(peer)).max(may_accuse))
            })
            .chain(gone.then_some(self.gone_poll.next))
            .chain(self.lease.renewed_until().filter(|at| gone && *at > now))
            .min()
    }

    /// The largest set of given-up members such that every other one has given up each of them; none,
    /// if there is no other one to say so, as long as somebody may hear this node.
    fn over(&self, now: Instant) -> BTreeSet<NodeName> {
        let mut over: BTreeSet<NodeName> = self
            .live()
            .filter(|(_, peer)| peer.evidence.gone)
            .map(|(name, _)| name.clone())
            .collect();
        let waits = self.waits();
        let waits = self.live().map(|(_, peer)| waits.silence(peer));
        let longest = waits.max().unwrap_or_default();
        // A member whose agent restarts renews nobody, so with time it has given up everybody.
        let has_been_paused =
            |peer: &super::Peer| peer.paused.is_some_and(|paused| now >= paused + longest);
        loop {
            let voters: Vec<&NodeName> = self
                .live()
                .filter(|(name, _)| !over.contains(*name))
                .filter(|(_, peer)| !has_been_paused(peer))
                .map(|(name, _)| name)
                .collect();
            let before = over.len();
            over.retain(|name| {
                let evidence = &self.peers[name].evidence;
                let agreed = voters
                    .iter()
                    .all(|voter| evidence.votes.contains_key(*voter));
                let asked = evidence.asked
                    || voters
                        .iter()
                        .filter_map(|voter| evidence.votes.get(*voter))
                        .any(|vote| vote.asked);
                agreed && asked && !evidence.retracting
            });
            if over.len() == before {
                let may_be_heard = self.lease.is_heard(now) || !self.is_on_time(now);
                return if voters.is_empty() && may_be_heard {
                    BTreeSet::new()
                } else {
                    over
                };
            }
        }
    }

    /// Says whom this node has given up: to all, or to those that have not said the same. Those
    /// that reply after all have to hear it too: that they do can be taken back only when the truly
    /// lost ones are no more.
    fn tell_gone(&mut self, all: bool) {
        let lives: Vec<Absent> = self
            .live()
            .filter(|(_, peer)| peer.is_given_up())
            .map(|(name, peer)| Absent {
                name: name.clone(),
                life: peer.life,
                asked: peer.evidence.asked,
                turn: peer.evidence.turn,
            })
            .collect();
        let agrees = |voter: &NodeName| {
            lives
                .iter()
                .all(|absent| self.peers[&absent.name].evidence.votes.contains_key(voter))
        };
        let hearers: Vec<(NodeName, bool)> = self
            .live()
            .filter(|(_, peer)| !peer.is_given_up() && peer.paused.is_none())
            .map(|(name, _)| (name.clone(), !agrees(name)))
            .filter(|(_, please)| all || *please)
            .collect();
        for (name, please) in hearers {
            for lives in lives.chunks(BATCH_NODES) {
                let lives = lives.to_vec();
                self.send(&name, Body::Gone { lives, please });
            }
        }
    }

    pub(super) fn on_gone(
        &mut self,
        from: &NodeName,
        lives: Vec<Absent>,
        please: bool,
        now: Instant,
    ) {
        for absent in &lives {
            if let Some(peer) = self.peers.get_mut(&absent.name)
                && peer.is_live()
                && peer.life == absent.life
            {
                let evidence = &mut peer.evidence;
                let late = evidence
                    .retracted
                    .get(from)
                    .is_some_and(|turn| absent.turn <= *turn);
                if !late {
                    evidence.accused = true;
                    let (asked, turn) = (absent.asked, absent.turn);
                    evidence.votes.insert(from.clone(), Vote { asked, turn });
                }
            }
        }
        let unmet = |absent: &Absent| self.is_unmet(&absent.name, absent.life);
        let unmet = lives.iter().any(unmet);
        if let Some(peer) = self.peers.get_mut(from).filter(|_| unmet) {
            // The sender waits for a word on somebody of whom this node has yet to hear.
            peer.handshake.restart_if_met(now);
        }
        self.judge(now);
        if !please {
            return;
        }
        let agreed: Vec<Absent> = lives
            .into_iter()
            .filter_map(|absent| {
                let peer = self.peers.get(&absent.name)?;
                let given_up = peer.is_given_up() && peer.life == absent.life;
                (given_up || peer.is_over(absent.life)).then_some(Absent {
                    asked: peer.evidence.asked,
                    turn: peer.evidence.turn,
                    ..absent
                })
            })
            .collect();
        if !agreed.is_empty() {
            let please = false;
            self.reply(
                from,
                Body::Gone {
                    lives: agreed,
                    please,
                },
            );
        }
    }

    /// The kernel of a watched member says that its life is over: everybody should know.
    pub(super) fn lapsed(&mut self, name: &NodeName, life: Life, agentless: bool, now: Instant) {
        self.on_lapsed(name, life, agentless, now);
        let name = name.clone();
        self.start_round(
            Kind::Lapsed {
                name,
                life,
                agentless,
            },
            None,
            now,
        );
    }

    pub(super) fn on_lapsed(&mut self, name: &NodeName, life: Life, agentless: bool, now: Instant) {
        if let Some(peer) = self.peers.get(name)
            && peer.is_live()
            && peer.life == life
        {
            let why = if agentless {
                DownReason::Agentless
            } else {
                DownReason::Lapsed
            };
            self.mark_down(name, why, now);
        } else if *name == self.name && life == self.lease.life {
            self.end_life(super::LifeOver::Lapsed, life, now);
        }
    }
}
