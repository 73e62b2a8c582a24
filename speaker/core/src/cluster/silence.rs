//! When a member's life is over.
//!
//! A node *gives up* a member (`gone`) when it has heard no reply from it for `take_over_after`, or
//! never probed it and believes others: it will no longer renew that life, and tells all members
//! so. The lives of a set of members are over when every other member has given up each of them:
//! nobody is left that could have renewed them. Each node judges this for itself from the votes of
//! all others. At least one must have probed the lost member without a reply, so that a member that
//! is only slow is not taken for dead.
//!
//! If a node's lease is renewed, a live member hears it. If none of the other members replies to
//! it, perhaps only what it sends gets lost, so it considers nobody down; nor when the first has
//! just begun to reply again, since the others may do so next.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    Cluster,
    io::DownReason,
    message::{Ask, BATCH_NODES, Body, GivenUp},
    name::{Life, NodeName},
    peer::{Evidence, Peer, Retry, Vote, Watch},
    spans::Waits,
    watch::WATCHERS,
};

/// The replies of members to this node's probes.
#[derive(Debug, Default)]
pub(super) struct Replies {
    last: Option<Instant>,
    /// When they began to arrive again after a pause.
    again: Option<Instant>,
}

impl Replies {
    /// One arrived. A pause that ended before the end of this node's last stall was none.
    pub(super) fn arrived(&mut self, stall: Instant, pause: Duration, now: Instant) {
        if self.last.is_some_and(|last| now >= last.max(stall) + pause) {
            self.again = Some(now);
        }
        self.last = Some(now);
    }

    /// Whether they have arrived for long enough that every member would have replied to what this
    /// node sent meanwhile.
    fn are_steady(&self, long: Duration, now: Instant) -> bool {
        self.again.is_none_or(|again| now >= again + long)
    }
}

impl Cluster {
    /// Gives up members that have been silent for too long, and finds those whose lives are over.
    pub(super) fn judge(&mut self, now: Instant) {
        if self.lease.restarting {
            return;
        }
        let waits = self.waits();
        let may_accuse = self.may_accuse(now);
        let mut changed = false;
        let believed = self.given_up_by_watchers(now);
        let heard = |(_, peer): &(&NodeName, &mut Peer)| peer.is_live() && !peer.evidence.gone;
        for (name, peer) in self.peers.awake_mut().filter(heard) {
            let wait = waits.silence(peer);
            let quiet = |since: Instant| now >= since + wait;
            let watch = peer.watch.as_ref();
            let in_vain = may_accuse && watch.is_some_and(|watch| quiet(watch.since));
            let evidence = &mut peer.evidence;
            evidence.gone =
                evidence.heard.is_none_or(quiet) && (in_vain || believed.contains(name));
            changed |= evidence.gone;
        }
        changed |= self.give_up_again(now);
        changed |= self.note_probed_in_vain(now);
        if changed {
            self.gone_poll = Retry::now(now);
            self.gone_poll.due(now);
            self.tell_gone(true, now);
        } else if self.is_any_given_up() && self.gone_poll.due(now) {
            self.tell_gone(false, now);
        }
        let (over, voters) = self.over(now);
        if over.is_empty() {
            return;
        }
        let late = self.timing.settings().suspect_after;
        let may_be_heard = self.lease.is_heard(now) || !self.is_on_time(now);
        let replies = voters.iter().any(|voter| self.hears(voter, now));
        if may_be_heard && !(replies && self.replies.are_steady(late, now)) {
            for voter in voters.iter().take(WATCHERS) {
                self.watch_for_now(voter, now);
            }
            return;
        }
        for name in over {
            self.mark_down(&name, DownReason::Unreachable, now);
        }
    }

    /// Whether the member has replied to this node recently.
    fn hears(&self, name: &NodeName, now: Instant) -> bool {
        let watch = self.peers[name].watch.as_ref();
        let heard = watch.and_then(|watch| watch.heard);
        heard.is_some_and(|at| now < at + self.timing.settings().suspect_after)
    }

    /// Gives up again, instead of retracting, members that have fallen silent since. Returns
    /// whether there were any.
    fn give_up_again(&mut self, now: Instant) -> bool {
        let waits = self.waits();
        let mut again = BTreeSet::new();
        for (name, peer) in self.peers.awake_mut() {
            if !peer.is_live() || !peer.evidence.retracting {
                continue;
            }
            let wait = waits.silence(peer);
            let heard = peer.watch.as_ref().and_then(|watch| watch.heard);
            if heard.is_none_or(|at| now >= at + wait) {
                peer.evidence.retracting = false;
                again.insert(name.clone());
            }
        }
        let stale = |ask: &Ask| matches!(ask, Ask::Retract { name, .. } if again.contains(name));
        self.rounds.retain(|_, round| !stale(&round.ask));
        !again.is_empty()
    }

    /// Finds the given-up members that have not replied to this node's probes for long enough; for
    /// a member that may have been alone, that is as long as a kernel can last alone. Returns
    /// whether there are new ones.
    fn note_probed_in_vain(&mut self, now: Instant) -> bool {
        let waits = self.waits();
        let mut more = false;
        for (_, peer) in self.peers.awake_mut() {
            if !peer.is_given_up() {
                continue;
            }
            let (wait, longest) = (waits.silence(peer), waits.alone(peer));
            let evidence = &mut peer.evidence;
            // A member given up on the word of others may be on the other side of a split: nobody
            // else will notice when it replies again.
            let watch = peer.watch.get_or_insert_with(|| Watch::new(now, Some(now)));
            let since = evidence
                .heard
                .map_or(watch.since, |heard| heard.max(watch.since));
            let wait = evidence.in_company.map_or(longest, |_| wait);
            let probed = now >= since + wait;
            more |= probed && !evidence.probed;
            evidence.probed = probed;
        }
        more
    }

    /// Members that this node does not watch, and gives up on the word of two of their watchers:
    /// one alone may itself be cut off. Without two, this node probes them itself.
    fn given_up_by_watchers(&mut self, now: Instant) -> BTreeSet<NodeName> {
        let mut believed = BTreeSet::new();
        let accused: Vec<NodeName> = self
            .awake()
            .filter(|(_, peer)| !peer.evidence.votes.is_empty() && !peer.evidence.gone)
            .filter(|(_, peer)| !peer.is_watched())
            .map(|(name, _)| name.clone())
            .collect();
        for name in accused {
            let watchers = self.watchers_of(&name);
            let votes = &self.peers[&name].evidence.votes;
            let probed = |watcher: &&NodeName| votes.get(*watcher).is_some_and(|vote| vote.probed);
            if watchers.iter().filter(probed).count() >= 2 {
                believed.insert(name);
            } else {
                self.watch_for_now(&name, now);
            }
        }
        believed
    }

    /// A member that this node gave up replies after all: once all members have forgotten that this
    /// node gave it up, this node may renew it again.
    pub(super) fn retract(&mut self, name: &NodeName, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if !peer.is_given_up() {
            return;
        }
        peer.evidence.retracting = true;
        let (life, retractions) = (peer.life, peer.evidence.retractions);
        peer.evidence.retractions += 1;
        let name = name.clone();
        self.start_round(
            Ask::Retract {
                name,
                life,
                retractions,
            },
            None,
            now,
        );
    }

    pub(super) fn on_retract(
        &mut self,
        from: &NodeName,
        name: &NodeName,
        life: Life,
        retractions: u32,
    ) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.life == life
        {
            let evidence = &mut peer.evidence;
            let retracted = evidence
                .retracted
                .entry(from.clone())
                .or_insert(retractions);
            *retracted = retractions.max(*retracted);
            evidence
                .votes
                .retain(|voter, vote| voter != from || vote.retractions > retractions);
        }
    }

    /// All members have acknowledged the retraction.
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
        let gone = self.is_any_given_up();
        self.awake()
            .filter_map(|(_, peer)| self.is_given_up_at(peer, &waits))
            .chain(gone.then_some(self.gone_poll.next))
            .chain(self.lease.renewed_until().filter(|at| gone && *at > now))
            .min()
    }

    /// When a member that remains silent is given up.
    pub(super) fn is_given_up_at(&self, peer: &Peer, waits: &Waits) -> Option<Instant> {
        if !peer.is_live() || peer.evidence.gone || self.lease.restarting {
            return None;
        }
        let Evidence { heard, votes, .. } = &peer.evidence;
        let since = match &peer.watch {
            Some(watch) => Some(heard.map_or(watch.since, |heard| heard.max(watch.since))),
            None => heard.filter(|_| !votes.is_empty()),
        };
        since.map(|since| (since + waits.silence(peer)).max(self.may_accuse_at()))
    }

    fn is_any_given_up(&self) -> bool {
        self.awake().any(|(_, peer)| peer.is_given_up())
    }

    /// The largest set of given-up members each of which every other member has given up too, and
    /// those other members.
    fn over(&self, now: Instant) -> (BTreeSet<NodeName>, Vec<NodeName>) {
        let mut over: BTreeSet<NodeName> = self
            .awake()
            .filter(|(_, peer)| peer.evidence.gone)
            .map(|(name, _)| name.clone())
            .collect();
        if over.is_empty() {
            return (over, Vec::new());
        }
        let waits = self.waits();
        let waits = self.live().map(|(_, peer)| waits.silence(peer));
        let longest = waits.max().unwrap_or_default();
        // A member whose agent restarts renews nobody: after that time, it counts as having given
        // up all others.
        let has_been_paused =
            |peer: &Peer| peer.paused.is_some_and(|paused| now >= paused + longest);
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
                let probed = evidence.probed
                    || voters
                        .iter()
                        .filter_map(|voter| evidence.votes.get(*voter))
                        .any(|vote| vote.probed);
                agreed && probed && !evidence.retracting
            });
            if over.len() == before {
                let voters = voters.into_iter().cloned().collect();
                return (over, voters);
            }
        }
    }

    /// Announces whom this node has given up, to all members or to those that have not said the
    /// same. Members being retracted are told too: the retraction completes only once the truly
    /// lost members are down.
    fn tell_gone(&mut self, all: bool, now: Instant) {
        let lives: Vec<GivenUp> = self
            .live()
            .filter(|(_, peer)| peer.is_given_up())
            .map(|(name, peer)| GivenUp {
                name: name.clone(),
                life: peer.life,
                probed: peer.evidence.probed,
                retractions: peer.evidence.retractions,
            })
            .collect();
        let agrees = |voter: &NodeName| {
            lives.iter().all(|given_up| {
                self.peers[&given_up.name]
                    .evidence
                    .votes
                    .contains_key(voter)
            })
        };
        let hearers: Vec<(NodeName, bool)> = self
            .live()
            .filter(|(_, peer)| !peer.is_given_up() && peer.paused.is_none())
            .map(|(name, _)| (name.clone(), !agrees(name)))
            .filter(|(_, reply_wanted)| all || *reply_wanted)
            .collect();
        for (name, reply_wanted) in hearers {
            // It did not answer at once: it may be lost too, along with all its watchers.
            if !all && !self.hears(&name, now) {
                self.watch_for_now(&name, now);
            }
            for lives in lives.chunks(BATCH_NODES) {
                let lives = lives.to_vec();
                self.send(
                    &name,
                    Body::Gone {
                        lives,
                        reply_wanted,
                    },
                );
            }
        }
    }

    pub(super) fn on_gone(
        &mut self,
        from: &NodeName,
        lives: Vec<GivenUp>,
        reply_wanted: bool,
        now: Instant,
    ) {
        for given_up in &lives {
            if let Some(peer) = self.peers.get_mut(&given_up.name)
                && peer.is_live()
                && peer.life == given_up.life
            {
                let evidence = &mut peer.evidence;
                let late = evidence
                    .retracted
                    .get(from)
                    .is_some_and(|retractions| given_up.retractions <= *retractions);
                if !late {
                    let (probed, retractions) = (given_up.probed, given_up.retractions);
                    evidence.votes.insert(
                        from.clone(),
                        Vote {
                            probed,
                            retractions,
                        },
                    );
                }
            }
        }
        let unmet = |given_up: &GivenUp| self.is_unmet(&given_up.name, given_up.life);
        let unmet = lives.iter().any(unmet);
        if let Some(peer) = self.peers.get_mut(from).filter(|_| unmet) {
            // The sender waits for this node's vote on a member that it has yet to learn of.
            peer.handshake.restart_if_met(now);
        }
        self.judge(now);
        if !reply_wanted {
            return;
        }
        let agreed: Vec<GivenUp> = lives
            .into_iter()
            .filter_map(|given_up| {
                let peer = self.peers.get(&given_up.name)?;
                let agrees = peer.is_given_up() && peer.life == given_up.life;
                (agrees || peer.is_over(given_up.life)).then_some(GivenUp {
                    probed: peer.evidence.probed,
                    retractions: peer.evidence.retractions,
                    ..given_up
                })
            })
            .collect();
        if !agreed.is_empty() {
            let reply_wanted = false;
            self.reply(
                from,
                Body::Gone {
                    lives: agreed,
                    reply_wanted,
                },
            );
        }
    }

    /// The kernel of a watched member says that its life is over: tells all members.
    pub(super) fn report_lapsed(
        &mut self,
        name: &NodeName,
        life: Life,
        agentless: bool,
        now: Instant,
    ) {
        self.on_lapsed(name, life, agentless, now);
        let name = name.clone();
        self.start_round(
            Ask::Lapsed {
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
