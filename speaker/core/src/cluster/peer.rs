//! What this node knows of another one.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    io::DownReason,
    links::Links,
    message::{Card, Cursor},
    name::{Life, NodeName},
    spans::Spans,
    timing::Timing,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Known, but no member in its present life.
    Unmet,
    /// A member: nothing that it might answer for is claimed without its consent.
    Live,
    /// Its life is over.
    Down(DownReason),
    /// It said good-bye.
    Left,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) number: u64,
    pub(super) card: Card,
    pub(super) links: Links,
    pub(super) life: Life,
    /// Which of its agents this node has met.
    pub(super) agent: u64,
    pub(super) state: State,
    /// When it came to be in that state.
    pub(super) since: Instant,
    pub(super) handshake: Handshake,
    /// The last message or reply that came from it.
    pub(super) contact: Option<Instant>,
    /// Its kernel said last that its agent does not run.
    pub(super) headless: bool,
    /// When it announced a restart.
    pub(super) paused: Option<Instant>,
    /// The times of its that this node has last compared with its own.
    pub(super) compared: Option<Spans>,
    /// When it was last told that its life is over.
    pub(super) told_over: Option<Instant>,
    pub(super) evidence: Evidence,
    pub(super) watch: Option<Watch>,
}

/// How far the handshake with a peer has come.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Its hello must repeat this, which shows that it hears this node. It changes after each, so
    /// that a late hello changes nothing.
    pub(super) cookie: u64,
    /// When its hello last repeated it.
    pub(super) confirmed: Instant,
    /// The stamp of the last hello that it answered; zero if none.
    pub(super) stamp: u64,
    /// The cookie that this node's hello must repeat.
    pub(super) its_cookie: u64,
    /// It knows this node in its present life, and this node knows what it owns.
    pub(super) met: bool,
    /// The version of this node's card that it last acknowledged.
    pub(super) acked_card: Option<u32>,
    /// The next page to pull from it.
    pub(super) pull: Option<Cursor>,
    pub(super) retry: Retry,
}

impl Handshake {
    /// The peer knows members that this node does not know: pulls them, unless that is under way.
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
    /// The last reply to a probe of this node, in this life.
    pub(super) heard: Option<Instant>,
    /// It was not alone, since this node's agent last stood still: so it can have become alone only
    /// by being cut off.
    pub(super) in_company: bool,
    /// Some member renews it no more.
    pub(super) accused: bool,
    /// This node renews it no more, for the rest of its life.
    pub(super) gone: bool,
    /// This node asked it in vain for all that time.
    pub(super) asked: bool,
    /// It replies after all, and everybody is being told to forget what this node said of it.
    pub(super) retracting: bool,
    /// Counts how often that has happened.
    pub(super) turn: u32,
    /// Which other members renew it no more.
    pub(super) votes: BTreeMap<NodeName, Vote>,
    /// The last turn that each member has taken back: what is of it, or before, comes late.
    pub(super) retracted: BTreeMap<NodeName, u32>,
}

/// Another member's word that it renews a member no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vote {
    /// It asked in vain for long enough.
    pub(super) asked: bool,
    pub(super) turn: u32,
}

/// This node's probing of a peer.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) since: Instant,
    pub(super) next: Instant,
    /// The last reply, and the time that it told.
    pub(super) heard: Option<Instant>,
    pub(super) echo: u64,
    /// The last reply that took no detour.
    pub(super) direct: Option<Instant>,
    /// Requests that may still be answered.
    pub(super) pending: VecDeque<(u64, Instant)>,
    /// One of its regular watchers; else until then.
    pub(super) until: Option<Instant>,
}

impl Watch {
    /// Requests that are remembered: more than go out within one lease.
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

    pub(super) fn sent(&mut self, sequence: u64, now: Instant) {
        if self.pending.len() == Self::PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((sequence, now));
    }
}

/// A pause between attempts that grows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub(super) next: Instant,
    wait: Duration,
}

impl Retry {
    pub(super) fn now(now: Instant) -> Self {
        Self {
            next: now,
            wait: Timing::RETRY,
        }
    }

    /// Whether it is time; if so, the next time is later.
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
        }
    }

    /// A message or a sign of life came from its agent.
    pub(super) fn agent_spoke(&mut self, now: Instant) {
        self.contact = Some(now);
        self.headless = false;
    }

    /// This node renews it no more, and says so.
    pub(super) fn is_given_up(&self) -> bool {
        self.evidence.gone && !self.evidence.retracting
    }

    pub(super) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Notes the card that an agent of its shows, unless it is late. Whether that is another one.
    pub(super) fn update_card(&mut self, card: Card, agent: u64) -> bool {
        let late = agent == self.agent && card.version < self.card.version;
        let changed = !late && self.card != card;
        if changed {
            self.card = card;
        }
        changed
    }

    /// The links that its card speaks of are known.
    pub(super) fn has_told_links(&self) -> bool {
        self.links.are(self.card.links)
    }

    /// It has yet to hear of this node's card, or this node has yet to hear all of it.
    pub(super) fn is_handshake_open(&self, card: &Card) -> bool {
        !self.handshake.met
            || self.handshake.acked_card != Some(card.version)
            || !self.has_told_links()
    }

    /// This life, or a later one, is over.
    pub(super) fn is_over(&self, life: Life) -> bool {
        life < self.life || life == self.life && matches!(self.state, State::Down(_) | State::Left)
    }
}
