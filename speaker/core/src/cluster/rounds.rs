//! Rounds: a message to every member, repeated until each has answered or is no longer a member.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use super::{
    Cluster,
    message::{Ask, Body},
    name::{Life, NodeName},
    peer::Retry,
    timing::Timing,
};

/// After this many attempts, every other one takes a detour through another member.
const DIRECT: u32 = 2;

#[derive(Debug)]
pub(super) struct Round {
    pub(super) ask: Ask,
    /// Members that have not answered yet.
    waiting: BTreeSet<NodeName>,
    /// The current owner, which stops answering for the VIPs when it consents: it is asked once all
    /// others have answered.
    last: Option<NodeName>,
    has_asked_owner: bool,
    /// Of a claim: unmet members, by number, for which nobody has vouched yet.
    unvouched: BTreeSet<u64>,
    started: Instant,
    attempts: u32,
    retry: Retry,
}

impl Round {
    pub(super) fn is_answered(&self) -> bool {
        self.waiting.is_empty() && self.last.is_none() && self.unvouched.is_empty()
    }

    /// The owner has been asked, and may have consented.
    pub(super) fn has_asked_owner(&self) -> bool {
        self.has_asked_owner
    }

    /// All have answered, and nobody vouched for some member.
    pub(super) fn is_unvouched(&self) -> bool {
        self.waiting.is_empty() && self.last.is_none() && !self.unvouched.is_empty()
    }

    /// A member's own consent, or its death, makes any other's word unnecessary.
    pub(super) fn vouched(&mut self, member: u64) {
        self.unvouched.remove(&member);
    }

    /// Members that have kept this node waiting for long.
    pub(super) fn unanswered(&self, now: Instant) -> impl Iterator<Item = &NodeName> {
        let late = now >= self.started + Timing::UNANSWERED;
        self.waiting.iter().filter(move |_| late)
    }
}

impl Cluster {
    /// Starts a round with all members but those whose agents restart: these have consented to
    /// every claim to a VIP that they cannot own (see `claim`), and learn everything else when they
    /// are back.
    pub(super) fn start_round(&mut self, ask: Ask, last: Option<NodeName>, now: Instant) -> u64 {
        let waiting: BTreeSet<NodeName> = self
            .live()
            .filter(|(name, peer)| peer.paused.is_none() && last.as_ref() != Some(*name))
            .map(|(name, _)| name.clone())
            .collect();
        let last = last.filter(|last| self.peers.get(last).is_some_and(|peer| peer.is_live()));
        let unvouched = match &ask {
            Ask::Claim { unmet, .. } => unmet.keys().copied().collect(),
            Ask::Owned(_)
            | Ask::Release(_)
            | Ask::Lapsed { .. }
            | Ask::Retract { .. }
            | Ask::Pause
            | Ask::Leave => BTreeSet::new(),
        };
        let id = self.nonce();
        let mut round = Round {
            ask,
            waiting,
            last,
            has_asked_owner: false,
            unvouched,
            started: now,
            attempts: 0,
            retry: Retry::now(now),
        };
        round.ask_owner_if_last(now);
        self.rounds.insert(id, round);
        id
    }

    pub(super) fn rounds_wake(&self) -> Option<Instant> {
        self.rounds
            .values()
            .filter(|round| !round.waiting.is_empty())
            .map(|round| round.retry.next)
            .min()
    }

    /// Completes the rounds that all have answered, and resends the message in the others.
    pub(super) fn rounds_due(&mut self, now: Instant) {
        self.withdraw_unvouched(now);
        self.complete_claims(now);
        self.finish_rounds(now);
        let seats = &self.seats;
        let owned = |vip: &IpAddr| seats.get(vip).is_some_and(|seat| seat.mine.is_owned());
        let mut due = Vec::new();
        for (id, round) in &mut self.rounds {
            if round.waiting.is_empty() || !round.retry.due(now) {
                continue;
            }
            if let Ask::Owned(entries) = &mut round.ask {
                // A VIP lost since then has another owner, which some members may not know yet.
                entries.retain(|(vip, _)| owned(vip));
                if entries.is_empty() {
                    round.waiting.clear();
                    continue;
                }
            }
            round.attempts += 1;
            let detour = round.attempts > DIRECT && round.attempts.is_multiple_of(2);
            due.push((*id, detour));
        }
        for (id, detour) in due {
            let round = &self.rounds[&id];
            let body = Body::Ask {
                round: id,
                ask: round.ask.clone(),
            };
            for name in round.waiting.clone() {
                let body = body.clone();
                match self.relay(&name).filter(|_| detour) {
                    Some(relay) => self.send_via(&relay, &name, body),
                    None => self.send(&name, body),
                }
            }
        }
    }

    /// Carries out a member's request, and answers.
    pub(super) fn on_ask(
        &mut self,
        from: &NodeName,
        life: Life,
        round: u64,
        ask: Ask,
        now: Instant,
    ) {
        match ask {
            Ask::Claim {
                cause,
                entries,
                unmet,
            } => {
                let vouched = self.vouch(&unmet);
                let denied = self.on_claim(from, life, &cause, entries, &unmet, now);
                let verdict = Body::Verdict {
                    round,
                    denied,
                    vouched,
                };
                self.reply(from, verdict);
                return;
            }
            Ask::Owned(entries) => self.on_owned(from, life, entries, now),
            Ask::Release(entries) => self.on_release(from, entries, now),
            Ask::Lapsed {
                name,
                life,
                agentless,
            } => self.on_lapsed(&name, life, agentless, now),
            Ask::Retract {
                name,
                life,
                retractions,
            } => self.on_retract(from, &name, life, retractions),
            Ask::Pause => self.on_pause(from, now, now),
            Ask::Leave => self.on_leave(from, now),
        }
        self.reply(from, Body::Ack { round });
    }

    pub(super) fn on_ack(&mut self, from: &NodeName, round: u64, now: Instant) {
        self.answered(from, round, now);
    }

    /// Notes a member's answer. Returns whether the round was waiting for it.
    pub(super) fn answered(&mut self, from: &NodeName, id: u64, now: Instant) -> bool {
        let Some(round) = self.rounds.get_mut(&id) else {
            return false;
        };
        let expected = round.waiting.remove(from);
        round.ask_owner_if_last(now);
        if let Ask::Owned(entries) = &round.ask {
            let vips: Vec<IpAddr> = entries.iter().map(|(vip, _)| *vip).collect();
            self.end_contests(from, &vips);
        }
        self.finish_rounds(now);
        expected
    }

    /// Pending claims need the consent of a new member too: it may have begun one of its own
    /// without asking this node.
    pub(super) fn ask_newcomer(&mut self, name: &NodeName, now: Instant) {
        for round in self.rounds.values_mut() {
            if matches!(round.ask, Ask::Claim { .. }) && round.last.as_ref() != Some(name) {
                round.waiting.insert(name.clone());
                round.retry = Retry::now(now);
            }
        }
    }

    /// Stops waiting for a node that is no longer a member, or has consented by pausing.
    pub(super) fn drop_from_rounds(&mut self, name: &NodeName, now: Instant) {
        let number = self.peers[name].number;
        for round in self.rounds.values_mut() {
            round.vouched(number);
            round.waiting.remove(name);
            if round.last.as_ref() == Some(name) {
                round.last = None;
            }
            round.ask_owner_if_last(now);
        }
        self.finish_rounds(now);
    }

    /// Ends answered rounds, except claims: these wait until the lease is known to be valid.
    fn finish_rounds(&mut self, now: Instant) {
        let done = |round: &Round| round.is_answered() && !matches!(round.ask, Ask::Claim { .. });
        let finished: Vec<Round> = self
            .rounds
            .extract_if(.., |_, round| done(round))
            .map(|(_, round)| round)
            .collect();
        for round in finished {
            if let Ask::Retract { name, life, .. } = round.ask {
                self.retracted(&name, life, now);
            }
        }
    }

    /// Takes a VIP out of a claim.
    pub(super) fn drop_from_claim(&mut self, id: u64, vip: IpAddr) {
        if let Some(round) = self.rounds.get_mut(&id)
            && let Ask::Claim { entries, .. } = &mut round.ask
        {
            entries.remove(&vip);
            if entries.is_empty() {
                self.rounds.remove(&id);
            }
        }
    }
}

impl Round {
    fn ask_owner_if_last(&mut self, now: Instant) {
        if self.waiting.is_empty()
            && let Some(owner) = self.last.take()
        {
            self.waiting.insert(owner);
            self.has_asked_owner = true;
            self.started = now;
            self.attempts = 0;
            self.retry = Retry::now(now);
        }
    }
}
