//! Membership: how nodes meet, part, and find each other again.
//!
//! ```text
//! C → V  Hello    (no cookie yet)       V: who is that?
//! V → C  Welcome  (a cookie)            so that a late or one-way hello changes nothing
//! C → V  Hello    (the cookie)          V: C is a member, in this life
//! V → C  Welcome  (accepted)            C: V is a member
//! C → V  AskLinks … Links               C: V's links, if they are others than before
//! C → V  Pull … Page                    C: what V owns, and whom V knows
//! ```

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::{
    Cluster,
    configured::Known,
    io::{Command, Downfall, Event, LifeOver},
    links::LinksHash,
    message::{Body, Card, Cursor, Page, ROOM, Side},
    name::{Life, NodeName},
    peer::{Evidence, Peer, Retry, State},
    spans::Spans,
    timing::Timing,
};

impl Cluster {
    /// Asks everybody who is not a member to meet, at once.
    pub(super) fn invite_all(&mut self, now: Instant) {
        for address in self.strangers() {
            self.hello(address, 0);
            self.scout(address);
        }
        self.invite.0 = now + self.invite_interval();
    }

    /// Known addresses at which no member is.
    pub(super) fn strangers(&self) -> BTreeSet<SocketAddr> {
        let members = self.known_as(|state| state == State::Live);
        self.peers
            .values()
            .filter(|peer| matches!(peer.state, State::Stranger | State::Down(_)))
            .map(|peer| peer.card.endpoints.messages)
            .chain(self.remembered.values().copied())
            .filter(|address| !members.contains_key(address))
            .chain(self.configured.strangers(&members))
            .collect()
    }

    /// This node, and the others that are in such a state.
    pub(super) fn known_as(&self, wanted: impl Fn(State) -> bool) -> Known<'_> {
        self.peers
            .values()
            .filter(|peer| wanted(peer.state))
            .map(|peer| (peer.card.endpoints.messages, peer.links.known()))
            .chain([(self.card.endpoints.messages, &self.links[..])])
            .collect()
    }

    /// Every node that this one looks for is a member.
    pub(super) fn is_nobody_missing(&self) -> bool {
        self.configured.is_resolved() && self.strangers().is_empty()
    }

    /// The configuration does not say that there is no such node.
    pub(super) fn may_exist(&self, peer: &Peer) -> bool {
        !self.complete || self.configured.contains(peer.card.endpoints.messages)
    }

    /// Has the nodes that are known written down, if they are others than before.
    pub(super) fn remember(&mut self) {
        if self.complete {
            return;
        }
        let unmet = |state: State| state == State::Stranger;
        let peers = &self.peers;
        self.remembered
            .retain(|name, _| peers.get(name).is_none_or(|peer| unmet(peer.state)));
        let mut known = self.remembered.clone();
        for (name, peer) in peers {
            if peer.state != State::Left {
                known.insert(name.clone(), peer.card.endpoints.messages);
            }
        }
        if known != self.written {
            self.written.clone_from(&known);
            self.commands.push_back(Command::Remember(known));
        }
    }

    /// One stranger at a time; a node that comes back is asked by all, so the more there are the
    /// more seldom each asks.
    fn invite_interval(&self) -> std::time::Duration {
        Timing::INVITE.max(Timing::INVITE / 5 * self.live().count() as u32)
    }

    pub(super) fn invite_due(&mut self, now: Instant) {
        if now < self.invite.0 {
            return;
        }
        self.invite.0 = now + self.invite_interval();
        let keep = |peer: &Peer| {
            let forgettable = match peer.state {
                State::Stranger | State::Live => false,
                State::Down(_) => !self.may_exist(peer),
                State::Left => true,
            };
            !forgettable || now < peer.since + Timing::FORGET
        };
        let forgotten: Vec<NodeName> = self
            .peers
            .iter()
            .filter(|(_, peer)| !keep(peer))
            .map(|(name, _)| name.clone())
            .collect();
        for name in forgotten {
            self.peers.remove(&name);
        }
        let strangers = self.strangers();
        let next = strangers
            .iter()
            .find(|address| self.invite.1.is_none_or(|last| **address > last))
            .or(strangers.first())
            .copied();
        self.invite.1 = next;
        if let Some(address) = next {
            self.hello(address, 0);
            self.scout(address);
            self.probe_the_dead(address);
        }
    }

    fn hello(&mut self, to: SocketAddr, cookie: u64) {
        let body = self.hello_body(cookie);
        self.send_to(to, body);
    }

    fn hello_body(&mut self, cookie: u64) -> Body {
        self.stamps.1 = self.stamps.1.wrapping_add(1);
        Body::Hello {
            stamp: self.stamps.1,
            cookie,
            card: self.card.clone(),
        }
    }

    /// Whether this agent has sent a hello with that stamp.
    pub(super) fn is_own_stamp(&self, stamp: u64) -> bool {
        let (first, last) = self.stamps;
        stamp.wrapping_sub(first) <= last.wrapping_sub(first)
    }

    /// Members that do not know this node's present life or card hear from it again.
    pub(super) fn greet_due(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (name, peer) in &mut self.peers {
            let open = peer.is_live() && peer.is_unacquainted(&self.card);
            if open && peer.meeting.retry.due(now) {
                due.push(name.clone());
            }
        }
        for name in due {
            let peer = &self.peers[&name];
            let has_read = peer.meeting.read == Some(self.card.version);
            let body = match peer.meeting.pull.clone() {
                Some(cursor) => Body::Pull(cursor),
                None if has_read && !peer.has_told_links() => self.links_asked_of(&name),
                None => self.hello_body(peer.meeting.its_cookie),
            };
            self.send(&name, body);
        }
    }

    pub(super) fn meet_wake(&self) -> Option<Instant> {
        let greet = self
            .live()
            .filter(|(_, peer)| peer.is_unacquainted(&self.card))
            .map(|(_, peer)| peer.meeting.retry.next)
            .min();
        greet.into_iter().chain([self.invite.0]).min()
    }

    /// Everybody is to hear of this node's new card.
    pub(super) fn reintroduce(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.meeting.retry = Retry::now(now);
        }
    }

    pub(super) fn on_hello(
        &mut self,
        from: &NodeName,
        (life, agent): (Life, u64),
        (stamp, cookie): (u64, u64),
        card: Card,
        now: Instant,
    ) {
        let fresh = self.number() | 1;
        let peer = self
            .peers
            .entry(from.clone())
            .or_insert_with(|| Peer::new(from, card.clone(), life, fresh, now));
        peer.card.endpoints = card.endpoints;
        let is_shown = cookie == peer.meeting.cookie;
        if peer.is_over(life) {
            let later = peer.life;
            match peer.is_live() {
                // It is here in that life, not only late: its clock was set back since.
                true if is_shown => self.say_life_over(from, later, now),
                true => self.welcome(from, life, stamp, false),
                false => self.say_over(from, now),
            }
            return;
        }
        if is_shown {
            let changed = peer.shows(card, agent);
            self.news += u64::from(changed);
            peer.speaks(now);
            let is_back = peer.paused.take().is_some();
            if !peer.has_told_links() {
                peer.meeting.retry = Retry::now(now);
            }
            peer.meeting.cookie = fresh;
            peer.meeting.greeted = now;
            self.admit(from, life, now);
            self.meet_agent(from, agent);
            self.compare_spans(from);
            if changed || is_back {
                self.all_dirty();
            }
        } else if peer.state != State::Live {
            peer.life = life;
            peer.state = State::Stranger;
        }
        self.welcome(from, life, stamp, is_shown);
    }

    fn welcome(&mut self, from: &NodeName, guest: Life, stamp: u64, accepted: bool) {
        let peer = &self.peers[from];
        let body = Body::Welcome {
            guest,
            stamp,
            cookie: peer.meeting.cookie,
            accepted,
            read: peer.card.version,
            card: self.card.clone(),
        };
        self.reply(from, body);
    }

    /// From now on this is the agent that speaks for a member: what others said is forgotten.
    fn meet_agent(&mut self, name: &NodeName, agent: u64) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.agent != agent
        {
            peer.agent = agent;
            self.forget_votes_of(name);
        }
    }

    fn forget_votes_of(&mut self, name: &NodeName) {
        for other in self.peers.values_mut() {
            other.evidence.votes.remove(name);
            other.evidence.retracted.remove(name);
        }
    }

    /// The node of this name is a member in this life.
    fn admit(&mut self, name: &NodeName, life: Life, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if peer.state == State::Live && peer.life == life {
            return;
        }
        self.news += 1;
        let known = peer.state == State::Live;
        peer.life = life;
        peer.state = State::Live;
        peer.since = now;
        peer.paused = None;
        peer.evidence = Evidence::default();
        peer.watch = None;
        // It may own something: it began that life where this node did not hear it.
        peer.meeting.forget(now);
        self.forget_votes_of(name);
        self.ask_newcomer(name, now);
        self.unassigned = true;
        self.all_dirty();
        if !known {
            self.event(Event::MemberUp(name.clone()));
        }
    }

    pub(super) fn on_welcome(
        &mut self,
        from: &NodeName,
        (life, agent): (Life, u64),
        (stamp, cookie): (u64, u64),
        accepted: Option<u32>,
        card: Card,
        now: Instant,
    ) {
        let fresh = self.number() | 1;
        let own_stamp = self.stamps.0;
        let peer = self
            .peers
            .entry(from.clone())
            .or_insert_with(|| Peer::new(from, card.clone(), life, fresh, now));
        if peer.is_over(life) {
            self.say_over(from, now);
            return;
        }
        let age = |stamp: u64| stamp.wrapping_sub(own_stamp);
        if peer.meeting.stamp != 0 && age(stamp) < age(peer.meeting.stamp) {
            return;
        }
        peer.meeting.stamp = stamp;
        peer.meeting.its_cookie = cookie;
        peer.speaks(now);
        let Some(read) = accepted else {
            let to = card.endpoints.messages;
            self.hello(to, cookie);
            return;
        };
        let changed = peer.shows(card, agent);
        self.news += u64::from(changed);
        self.admit(from, life, now);
        self.meet_agent(from, agent);
        self.compare_spans(from);
        if let Some(peer) = self.peers.get_mut(from) {
            peer.meeting.read = Some(read);
            if peer.has_told_links() && !peer.meeting.met && peer.meeting.pull.is_none() {
                peer.meeting.pull = Some(Cursor::Members(None));
                peer.meeting.retry = Retry::now(now);
            } else if !peer.has_told_links() {
                peer.meeting.retry = Retry::now(now);
            }
        }
        if changed {
            self.all_dirty();
        }
    }

    pub(super) fn on_pull(&mut self, from: &NodeName, after: Cursor, now: Instant) {
        let mut page = Page {
            after: after.clone(),
            members: Vec::new(),
            causes: Vec::new(),
            mine: Vec::new(),
            yours: Vec::new(),
            next: None,
        };
        match after {
            Cursor::Members(after) => {
                let mut room = ROOM;
                page.next = Some(Cursor::Vips(None));
                for (name, peer) in self.live() {
                    if name == from || after.as_ref().is_some_and(|after| name <= after) {
                        continue;
                    }
                    // A life, two IPv6 endpoints and the times take up to 90 bytes.
                    let size = name.as_str().len() + 90;
                    if size > room {
                        let last = page.members.last().map(|(name, ..)| NodeName::clone(name));
                        page.next = Some(Cursor::Members(last));
                        break;
                    }
                    room -= size;
                    let (endpoints, spans) = (peer.card.endpoints, peer.card.spans);
                    let member = (name.clone(), peer.life, endpoints, spans);
                    page.members.push(member);
                }
            }
            Cursor::Vips(after) => self.fill_page(from, after, &mut page, now),
        }
        self.reply(from, Body::Page(page));
    }

    pub(super) fn on_page(&mut self, from: &NodeName, page: Page, now: Instant) {
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        if peer.meeting.pull.as_ref() != Some(&page.after) {
            return;
        }
        let met = page.next.is_none();
        peer.meeting.pull.clone_from(&page.next);
        peer.meeting.met = met;
        peer.meeting.retry = Retry::now(now);
        for (name, life, endpoints, spans) in page.members {
            self.introduce(&name, life, (endpoints, spans), now);
        }
        let life = self.peers[from].life;
        for told in page.mine {
            let origin = told.origin(&page.causes, now);
            self.learn_owner(told.vip, from, life, told.epoch, origin, now);
        }
        for told in page.yours {
            let origin = told.origin(&page.causes, now);
            self.learn_own(told.vip, told.epoch, origin);
        }
        // What depends on one owner has been looked at; this is what waits for all.
        if met {
            self.all_dirty();
        }
    }

    /// A member knows this one as a member: until it has been met, or its life is over, it counts.
    fn introduce(
        &mut self,
        name: &NodeName,
        life: Life,
        (endpoints, spans): (super::Endpoints, Spans),
        now: Instant,
    ) {
        if *name == self.name {
            return;
        }
        let fresh = self.number() | 1;
        let card = Card {
            version: 0,
            endpoints,
            draining: false,
            links: LinksHash::of(&[]),
            spans,
        };
        let peer = self
            .peers
            .entry(name.clone())
            .or_insert_with(|| Peer::new(name, card, life, fresh, now));
        if peer.state != State::Live && !peer.is_over(life) {
            peer.card.spans = spans;
            self.admit(name, life, now);
        }
    }

    /// Another node may be a member in this life, and this node has not heard of it.
    pub(super) fn is_unmet(&self, name: &NodeName, life: Life) -> bool {
        *name != self.name
            && self
                .peers
                .get(name)
                .is_none_or(|peer| !peer.is_live() && !peer.is_over(life))
    }

    /// Whether the sender of a message is a member in this life; if not, it is told so.
    pub(super) fn is_member(
        &mut self,
        sender: &NodeName,
        (life, agent): (Life, u64),
        from: SocketAddr,
        now: Instant,
    ) -> bool {
        match self.peers.get_mut(sender) {
            Some(peer) if peer.is_over(life) => self.say_over(sender, now),
            Some(peer) if peer.state == State::Live && peer.life == life && peer.agent == agent => {
                peer.speaks(now);
                return true;
            }
            Some(_) | None => self.hello(from, 0),
        }
        false
    }

    /// Tells a node that the life it claims to be in is over. A member's former lives need not be
    /// told so: their messages are only late.
    fn say_over(&mut self, name: &NodeName, now: Instant) {
        if let Some(peer) = self.peers.get(name).filter(|peer| !peer.is_live()) {
            self.say_life_over(name, peer.life, now);
        }
    }

    fn say_life_over(&mut self, name: &NodeName, life: Life, now: Instant) {
        let side = self.side();
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if peer
            .told_over
            .is_some_and(|told| now < told + Timing::RETRY)
        {
            return;
        }
        peer.told_over = Some(now);
        self.reply(name, Body::Over { life, side });
    }

    fn side(&self) -> Side {
        let first = self.live().map(|(name, _)| name).next();
        Side {
            members: 1 + self.live().count() as u32,
            first: first
                .map_or(&self.name, |first| first.min(&self.name))
                .clone(),
        }
    }

    /// Somebody holds this node's life to be over. There has been a split, or this node was away:
    /// the side with fewer members begins anew.
    pub(super) fn on_over(
        &mut self,
        from: &NodeName,
        its_life: Life,
        over: Life,
        theirs: &Side,
        now: Instant,
    ) {
        if self.own.restarting {
            return;
        }
        if over > self.own.life {
            // Before its clock was set back, it has had that life.
            self.end_life(LifeOver::Declared, over, now);
        }
        if over != self.own.life {
            return;
        }
        if !self.own.stands(now) {
            // It may have been away for longer than it knows: the kernel is asked first.
            self.own.heartbeat = now;
        }
        let ours = self.side();
        let weight = ours
            .members
            .cmp(&theirs.members)
            .then(theirs.first.cmp(&ours.first))
            .then(from.cmp(&self.name));
        // Who has neither joined nor owns anything loses nothing, and may not stand for long enough
        // to insist.
        let newcomer = !self.own.is_joined() && self.owned().next().is_none();
        if newcomer || weight.is_lt() {
            self.end_life(LifeOver::Declared, over, now);
        } else if self.own.stands(now) {
            self.say_life_over(from, its_life, now);
        } else if self.own.sure {
            // Nobody else renews it: with nothing to lose, it need not wait for what cannot come.
            self.end_life(LifeOver::Declared, over, now);
        }
    }

    pub(super) fn mark_down(&mut self, name: &NodeName, why: Downfall, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        peer.state = State::Down(why);
        peer.since = now;
        peer.watch = None;
        peer.evidence.gone = true;
        let life = peer.life;
        let address = peer.card.endpoints.messages;
        self.event(Event::MemberDown(name.clone(), life, why));
        // It may hear though it is not heard, and believe itself alone.
        self.probe_the_dead(address);
        self.gone_from_rounds(name, now);
    }

    pub(super) fn on_leave(&mut self, name: &NodeName, now: Instant) {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.state = State::Left;
            peer.since = now;
            peer.watch = None;
            self.event(Event::MemberLeft(name.clone()));
            self.gone_from_rounds(name, now);
        }
    }

    fn gone_from_rounds(&mut self, name: &NodeName, now: Instant) {
        self.forget_votes_of(name);
        self.unassigned = true;
        self.forget_records();
        self.all_dirty();
        self.drop_from_rounds(name, now);
    }

    /// The agent of a member said, at `said` or later, that it restarts: it consents to whatever
    /// does not concern what it owns, and renews nobody, until it says hello.
    pub(super) fn on_pause(&mut self, name: &NodeName, said: Instant, now: Instant) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.paused.is_none()
            && peer.meeting.greeted <= said
        {
            peer.paused = Some(now);
            self.all_dirty();
            self.abandon_claims_against_the_paused();
            self.drop_from_rounds(name, now);
        }
    }

    /// After the end of a life, nobody knows this node any more. As a newcomer, it knows nothing
    /// of who is down either.
    pub(super) fn forget_meetings(&mut self, newcomer: bool, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.meeting.forget(now);
            // Nobody counts what this node said in another life.
            peer.evidence.gone = !peer.is_live();
            peer.evidence.retracting = false;
            if newcomer && matches!(peer.state, State::Down(_)) {
                peer.state = State::Stranger;
            }
        }
        self.invite_all(now);
    }

    pub(super) fn after_vip(vip: Option<IpAddr>) -> std::ops::Bound<IpAddr> {
        vip.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded)
    }
}
