//! What this node knows about another one.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    io::DownReason,
    links::Links,
    message::{Card, Cursor},
    name::{Life, NodeName},
    peers::Rest,
    spans::Spans,
    timing::Timing,
};

/// A member that left this many probes unanswered did not run.
const TRIES: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Known, but not a member in its current life.
    Unmet,
    /// A member: nothing that it might answer for is claimed without its consent.
    Live,
    /// Its life is over.
    Down(DownReason),
    /// It left for good.
    Left,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) number: u64,
    pub(super) card: Card,
    pub(super) links: Links,
    pub(super) life: Life,
    /// The agent that speaks for it: see [`Sender`](super::message::Sender).
    pub(super) agent: u64,
    pub(super) state: State,
    /// When it entered that state.
    pub(super) since: Instant,
    pub(super) handshake: Handshake,
    /// When its agent last showed that it runs, by a reply or a message other than the request to be
    /// watched; of an unmet node, its last hello.
    pub(super) contact: Option<Instant>,
    /// Its kernel last reported that its agent does not run.
    pub(super) headless: bool,
    /// When it announced a restart.
    pub(super) paused: Option<Instant>,
    /// Its timeouts, as last compared with this node's.
    pub(super) compared: Option<Spans>,
    /// When it was last told that its life is over.
    pub(super) told_over: Option<Instant>,
    pub(super) evidence: Evidence,
    pub(super) watch: Option<Watch>,
    /// Set by [`Peers`](super::peers::Peers) while there is nothing to do about it.
    pub(super) rest: Option<Rest>,
}

/// How far the handshake with a peer has come.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Its hello must repeat this, which shows that it hears this node. It changes after each
    /// hello, so that a late one has no effect.
    pub(super) cookie: u64,
    /// When its hello last repeated it.
    pub(super) confirmed: Instant,
    /// The stamp of the last hello that it answered; zero if none.
    pub(super) stamp: u64,
    /// The cookie that this node's hello must repeat.
    pub(super) its_cookie: u64,
    /// It knows this node in its current life, and this node knows what it owns.
    pub(super) met: bool,
    /// The version of this node's card that it last acknowledged.
    pub(super) acked_card: Option<u32>,
    /// The next page to pull from it.
    pub(super) pull: Option<Cursor>,
    pub(super) retry: Retry,
}

impl Handshake {
    /// The peer knows members that this node does not: pulls them, unless that is under way.
    pub(super) fn restart_if_met(&mut self, now: Instant) {
        if self.met {
            self.restart(now);
        }
    }

    /// One of the two has begun another life.
    pub(super) fn restart(&mut self, now: Instant) {
        self.met = false;
        self.acked_card = None;
        self.pull = None;
        self.retry = Retry::now(now);
    }
}

/// The evidence that a member's life is over.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// When it last replied to a probe of this node, in its current life.
    pub(super) heard: Option<Instant>,
    /// When this node sent its last probe, if the reply said that the member was not alone and this
    /// node renewed it: so it can only be alone now because it was cut off. `None` also if it has
    /// asked this node to watch it since, or could not reach this node while that stalled.
    pub(super) in_company: Option<Instant>,
    /// This node has given it up, and no longer renews it in this life.
    pub(super) gone: bool,
    /// This node's own probes went unanswered for long enough.
    pub(super) probed: bool,
    /// A member considers this life over: replies no longer count, and it is not renewed.
    pub(super) ended: bool,
    /// It replies after all, and all members are being told to forget that this node gave it up.
    pub(super) retracting: bool,
    /// Counts the retractions.
    pub(super) retractions: u32,
    /// The other members that have given it up.
    pub(super) votes: BTreeMap<NodeName, Vote>,
    /// Each member's last retraction, by its count: votes with this count or a lower one are late.
    pub(super) retracted: BTreeMap<NodeName, u32>,
}

/// Another member's vote that it has given a member up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vote {
    /// The voter's own probes went unanswered for long enough.
    pub(super) probed: bool,
    pub(super) retractions: u32,
}

/// This node's probing of a peer.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) since: Instant,
    pub(super) next: Instant,
    /// When the last reply arrived.
    pub(super) heard: Option<Instant>,
    /// The time in the last reply, by the clock of the peer's kernel.
    pub(super) echo: u64,
    /// When the last direct reply arrived.
    pub(super) direct: Option<Instant>,
    /// Requests without a reply: sequence number, and when they were sent.
    pub(super) pending: VecDeque<(u64, Instant)>,
    /// When the watch ends; `None` if this node is a regular watcher.
    pub(super) until: Option<Instant>,
}

impl Watch {
    /// The most pending requests: more than are sent within one lease.
    const PENDING: usize = 16;

    pub(super) fn new(now: Instant, until: Option<Instant>) -> Self {
        Self {
            since: now,
            next: now,
            heard: None,
            echo: 0,
            direct: None,
            pending: VecDeque::new(),
            until,
        }
    }

    /// How many of the probes sent after the first and up to the second time have no reply.
    fn unanswered(&self, after: Instant, until: Instant) -> usize {
        let sent = self.pending.iter().map(|(_, sent)| *sent);
        sent.filter(|sent| after < *sent && *sent <= until).count()
    }

    pub(super) fn sent(&mut self, sequence: u64, now: Instant) {
        if self.pending.len() == Self::PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((sequence, now));
    }
}

/// Exponential backoff between attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub(super) next: Instant,
    wait: Duration,
}

impl Retry {
    pub(super) fn now(now: Instant) -> Self {
        Self::after(Timing::RETRY, now)
    }

    /// The first attempt is made now, the second after this pause.
    pub(super) fn after(pause: Duration, now: Instant) -> Self {
        Self {
            next: now,
            wait: pause,
        }
    }

    /// Whether it is time for an attempt; if so, schedules the next one.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.wait;
        self.wait = (2 * self.wait).min(Timing::RETRY_MAX);
        true
    }
}

impl Peer {
    pub(super) fn new(name: &NodeName, card: Card, life: Life, cookie: u64, now: Instant) -> Self {
        Self {
            number: name.number(),
            card,
            links: Links::none(),
            life,
            agent: 0,
            state: State::Unmet,
            since: now,
            handshake: Handshake {
                cookie,
                confirmed: now,
                stamp: 0,
                its_cookie: 0,
                met: false,
                acked_card: None,
                pull: None,
                retry: Retry::now(now),
            },
            contact: None,
            headless: false,
            paused: None,
            compared: None,
            told_over: None,
            evidence: Evidence::default(),
            watch: None,
            rest: None,
        }
    }

    /// Notes that its agent sent a message.
    pub(super) fn agent_spoke(&mut self, now: Instant) {
        self.contact = Some(now);
        self.headless = false;
    }

    /// This node stalled, and did not answer the member, which may believe itself alone now only
    /// because of that. But for a while after it was in company, it cannot have done so yet; and if
    /// this node probes it in that time, before the stall or after, and it does not reply, then it
    /// has been lost before it could.
    pub(super) fn doubt_company(&mut self, resumed: Instant) {
        let Some(sent) = self.evidence.in_company else {
            return;
        };
        let until = sent + self.card.spans.in_company();
        let tried = |watch: &Watch| resumed <= until || watch.unanswered(sent, until) >= TRIES;
        if !self.watch.as_ref().is_some_and(tried) {
            self.evidence.in_company = None;
        }
    }

    /// This node has given it up and is not retracting that.
    pub(super) fn is_given_up(&self) -> bool {
        self.evidence.gone && !self.evidence.retracting
    }

    pub(super) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// When its agent last spoke, if it is a member whose agent is not known to be away. Of a member
    /// that this node does not watch regularly, that may be old knowledge.
    pub(super) fn spoke(&self) -> Option<Instant> {
        let headless = self.headless && self.is_watched();
        let speaks = self.is_live() && !headless && self.paused.is_none();
        self.contact.filter(|_| speaks)
    }

    /// When this node begins to watch it if it does not tell everything.
    pub(super) fn unanswered_at(&self) -> Option<Instant> {
        (!self.handshake.met).then(|| self.since + Timing::UNANSWERED)
    }

    /// How long it may renew others after it has lost the majority, if it is a member.
    pub(super) fn notice(&self) -> Option<Duration> {
        self.is_live().then_some(self.card.spans.notice)
    }

    /// This node is one of its regular watchers.
    pub(super) fn is_watched(&self) -> bool {
        let watch = self.watch.as_ref();
        watch.is_some_and(|watch| watch.until.is_none())
    }

    /// Stores the card that its agent sent, unless it is late. Returns whether it has changed.
    pub(super) fn update_card(&mut self, card: Card, agent: u64) -> bool {
        let late = agent == self.agent && card.version < self.card.version;
        let changed = !late && self.card != card;
        if changed {
            self.card = card;
        }
        changed
    }

    /// This node has the links whose hash is on its card.
    pub(super) fn has_told_links(&self) -> bool {
        self.links.are(self.card.links)
    }

    /// It lacks this node's current card, or this node has not learned everything from it.
    pub(super) fn is_handshake_open(&self, card: &Card) -> bool {
        !self.handshake.met
            || self.handshake.acked_card != Some(card.version)
            || !self.has_told_links()
    }

    /// Whether this life of the peer is over: it is down, or in a later one.
    pub(super) fn is_over(&self, life: Life) -> bool {
        life < self.life || life == self.life && matches!(self.state, State::Down(_) | State::Left)
    }
}
