//! The handshake: how two nodes become members of each other's cluster.
//!
//! ```text
//! C → V  Hello    (no cookie yet)       V: who is that?
//! V → C  Welcome  (a cookie)            so that a late or one-way hello changes nothing
//! C → V  Hello    (the cookie)          V: C is a member, in this life
//! V → C  Welcome  (accepted)            C: V is a member
//! C → V  AskLinks … Links               C: V's links, if the card's hash of them is new
//! C → V  Pull … Page                    C: what V owns, and which members V knows (`pull`)
//! ```

use std::{net::SocketAddr, time::Instant};

use super::{
    Cluster,
    io::Event,
    message::{Body, Cursor, Hello, Sender, Welcome},
    name::{Life, NodeName},
    peer::{Evidence, Peer, Retry, State},
};

/// Numbers the hellos of this agent from a random start, so that each welcome can be matched to
/// its hello.
#[derive(Debug)]
pub(super) struct HelloStamps {
    first: u64,
    last: u64,
}

impl HelloStamps {
    pub(super) fn starting_at(first: u64) -> Self {
        Self { first, last: first }
    }

    fn next(&mut self) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// How many hellos were sent before this one.
    fn age(&self, stamp: u64) -> u64 {
        stamp.wrapping_sub(self.first)
    }

    /// Whether this agent has sent a hello with this stamp.
    pub(super) fn contain(&self, stamp: u64) -> bool {
        self.age(stamp) <= self.age(self.last)
    }
}

impl Cluster {
    pub(super) fn hello(&mut self, to: SocketAddr, cookie: u64) {
        let body = self.hello_body(cookie);
        self.send_to(to, body);
    }

    fn hello_body(&mut self, cookie: u64) -> Body {
        Body::Hello(Hello {
            stamp: self.hello_stamps.next(),
            cookie,
            card: self.card.clone(),
        })
    }

    /// Continues the handshake with members that lack this node's current life or card, or have not
    /// sent everything yet.
    pub(super) fn handshakes_due(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (name, peer) in self.peers.awake_mut() {
            let open = peer.is_live() && peer.is_handshake_open(&self.card);
            if open && peer.handshake.retry.due(now) {
                due.push(name.clone());
            }
        }
        for name in due {
            let peer = &self.peers[&name];
            let has_card = peer.handshake.acked_card == Some(self.card.version);
            let body = match peer.handshake.pull.clone() {
                Some(cursor) => Body::Pull(cursor),
                None if has_card && !peer.has_told_links() => self.links_asked_of(&name),
                None => self.hello_body(peer.handshake.its_cookie),
            };
            self.send(&name, body);
        }
    }

    pub(super) fn handshake_wake(&self) -> Option<Instant> {
        self.awake()
            .filter(|(_, peer)| peer.is_handshake_open(&self.card))
            .map(|(_, peer)| peer.handshake.retry.next)
            .min()
    }

    /// Sends this node's new card to all members at once.
    pub(super) fn resend_card(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.handshake.retry = Retry::now(now);
        }
    }

    pub(super) fn on_hello(&mut self, from: &Sender, hello: Hello, now: Instant) {
        let Hello {
            stamp,
            cookie,
            card,
        } = hello;
        let Sender { name, life, agent } = from;
        let next_cookie = self.nonce() | 1;
        let peer = self.peers.get_or_insert_with(name, || {
            Peer::new(name, card.clone(), *life, next_cookie, now)
        });
        let is_confirmed = cookie == peer.handshake.cookie;
        let address = card.endpoints.messages;
        if is_confirmed || !peer.is_live() {
            peer.card.endpoints = card.endpoints;
        }
        if peer.is_over(*life) {
            let later = peer.life;
            match peer.is_live() {
                // The cookie proves that the hello is not late: the node's clock was set back, so
                // its new life has a lower number.
                true if is_confirmed => self.tell_life_over(name, later, now),
                true => self.welcome(from, address, stamp, false),
                false => self.tell_over(name, now),
            }
            return;
        }
        if is_confirmed {
            let changed = peer.update_card(card, *agent);
            self.members_version += u64::from(changed);
            peer.agent_spoke(now);
            let is_back = peer.paused.take().is_some();
            if !peer.has_told_links() {
                peer.handshake.retry = Retry::now(now);
            }
            peer.handshake.cookie = next_cookie;
            peer.handshake.confirmed = now;
            self.admit(name, *life, now);
            self.meet_agent(name, *agent);
            self.compare_spans(name);
            if is_back {
                // It has not been asked about claims that began while its agent was away.
                self.ask_newcomer(name, now);
            }
            if changed || is_back {
                self.decide_all();
            }
        } else if peer.state != State::Live {
            peer.life = *life;
            peer.state = State::Unmet;
            peer.contact = Some(now);
        }
        self.welcome(from, address, stamp, is_confirmed);
    }

    /// Answers a hello whose sender claims to be at this address: that may be news, and is not
    /// believed until the hello is confirmed.
    fn welcome(&mut self, to: &Sender, address: SocketAddr, stamp: u64, accepted: bool) {
        let peer = &self.peers[&to.name];
        let body = Body::Welcome(Welcome {
            guest: to.life,
            stamp,
            cookie: peer.handshake.cookie,
            accepted,
            read: peer.card.version,
            card: self.card.clone(),
        });
        self.reply_at(&to.name, Some(address), body);
    }

    pub(super) fn on_welcome(&mut self, from: &Sender, welcome: Welcome, now: Instant) {
        let Welcome {
            guest,
            stamp,
            cookie,
            accepted,
            read,
            card,
        } = welcome;
        if guest != self.lease.life || !self.hello_stamps.contain(stamp) {
            return;
        }
        let Sender { name, life, agent } = from;
        let next_cookie = self.nonce() | 1;
        let peer = self.peers.get_or_insert_with(name, || {
            Peer::new(name, card.clone(), *life, next_cookie, now)
        });
        if peer.is_over(*life) {
            self.tell_over(name, now);
            return;
        }
        let last = peer.handshake.stamp;
        if last != 0 && self.hello_stamps.age(stamp) < self.hello_stamps.age(last) {
            return;
        }
        peer.handshake.stamp = stamp;
        peer.handshake.its_cookie = cookie;
        peer.agent_spoke(now);
        if !accepted {
            self.hello(card.endpoints.messages, cookie);
            return;
        }
        let changed = peer.update_card(card, *agent);
        self.members_version += u64::from(changed);
        self.admit(name, *life, now);
        self.meet_agent(name, *agent);
        self.compare_spans(name);
        if let Some(peer) = self.peers.get_mut(name) {
            let has_told_links = peer.has_told_links();
            let handshake = &mut peer.handshake;
            handshake.acked_card = Some(read);
            let pulls = has_told_links && !handshake.met && handshake.pull.is_none();
            if pulls {
                handshake.pull = Some(Cursor::Members(None));
            }
            if pulls || !has_told_links {
                handshake.retry = Retry::now(now);
            }
        }
        if changed {
            self.decide_all();
        }
    }

    /// Notes which agent speaks for a member. A new agent does not know what its predecessor said,
    /// so that is forgotten.
    fn meet_agent(&mut self, name: &NodeName, agent: u64) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.agent != agent
        {
            peer.agent = agent;
            self.forget_votes_of(name);
        }
    }

    pub(super) fn forget_votes_of(&mut self, name: &NodeName) {
        let heeds = |peer: &Peer| {
            let Evidence {
                votes, retracted, ..
            } = &peer.evidence;
            votes.contains_key(name) || retracted.contains_key(name)
        };
        self.peers.change(heeds, |peer| {
            peer.evidence.votes.remove(name);
            peer.evidence.retracted.remove(name);
        });
    }

    /// Makes the node a member, in this life.
    pub(super) fn admit(&mut self, name: &NodeName, life: Life, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if peer.state == State::Live && peer.life == life {
            return;
        }
        self.members_version += 1;
        let known = peer.state == State::Live;
        peer.life = life;
        peer.state = State::Live;
        peer.since = now;
        peer.paused = None;
        peer.evidence = Evidence::default();
        peer.watch = None;
        // It may have claimed VIPs in this life before this node met it.
        peer.handshake.restart(now);
        self.forget_votes_of(name);
        self.ask_newcomer(name, now);
        self.forget_contests_with(name);
        self.announce_again();
        self.watches_stale = true;
        self.decide_all();
        if !known {
            self.event(Event::MemberUp(name.clone()));
        }
    }

    /// Whether the sender of a message is a member in this life. If not, tells it that its life is
    /// over, or says hello.
    pub(super) fn is_member(
        &mut self,
        sender: &Sender,
        from: SocketAddr,
        is_contact: bool,
        now: Instant,
    ) -> bool {
        let Sender { name, life, agent } = sender;
        match self.peers.get_mut(name) {
            Some(peer) if peer.is_over(*life) => self.tell_over(name, now),
            Some(peer)
                if peer.state == State::Live && peer.life == *life && peer.agent == *agent =>
            {
                if is_contact {
                    peer.agent_spoke(now);
                }
                return true;
            }
            Some(_) | None => self.hello(from, 0),
        }
        false
    }

    /// Whether a node that another member knows in this life has yet to be met by this one.
    pub(super) fn is_unmet(&self, name: &NodeName, life: Life) -> bool {
        *name != self.name
            && self
                .peers
                .get(name)
                .is_none_or(|peer| !peer.is_live() && !peer.is_over(life))
    }

    /// Restarts every handshake in this node's new life. Like any newcomer, it does not know who is
    /// down.
    pub(super) fn restart_handshakes(&mut self, newcomer: bool, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.handshake.restart(now);
            // Votes of this node's former life do not count, but replies to it do, also those of a
            // member that it had given up.
            peer.evidence.gone = !peer.is_live();
            let heard = peer.watch.as_ref().and_then(|watch| watch.heard);
            peer.evidence.heard = peer.evidence.heard.max(heard);
            peer.evidence.retracting = false;
            peer.evidence.ended = false;
            if newcomer && matches!(peer.state, State::Down(_)) {
                peer.state = State::Unmet;
            }
        }
        self.try_all_missing(now);
    }
}
