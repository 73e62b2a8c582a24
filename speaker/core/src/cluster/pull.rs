//! Anti-entropy: a node that meets a member pulls, page by page, which members it knows, what it
//! owns, and what it believes the reader owns.

use std::{
    net::IpAddr,
    ops::Bound::{Excluded, Unbounded},
    time::Instant,
};

use super::{
    Cluster,
    io::{DownReason, LifeOver},
    links::LinksHash,
    message::{Body, Card, Cursor, KnownMember, Page, ROOM, Told},
    name::NodeName,
    peer::{Peer, Retry, State},
    record::Origin,
};

impl Cluster {
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
            Cursor::Members(after) => self.fill_with_members(from, after.as_ref(), &mut page),
            Cursor::Vips(after) => self.fill_with_vips(from, after, &mut page, now),
        }
        self.reply(from, Body::Page(page));
    }

    /// Members by name, without the reader.
    fn fill_with_members(&self, reader: &NodeName, after: Option<&NodeName>, page: &mut Page) {
        let mut room = ROOM;
        page.next = Some(Cursor::Vips(None));
        let rest = self.peers.after(after).filter(|(_, peer)| peer.is_live());
        for (name, peer) in rest.filter(|(name, _)| *name != reader) {
            let size = name.as_str().len() + KnownMember::LENGTH_BESIDES_NAME;
            if size > room {
                let last = page.members.last().map(|member| member.name.clone());
                page.next = Some(Cursor::Members(last));
                return;
            }
            room -= size;
            page.members.push(KnownMember {
                name: name.clone(),
                life: peer.life,
                endpoints: peer.card.endpoints,
                spans: peer.card.spans,
                paused: peer.paused.is_some(),
            });
        }
    }

    /// VIPs that this node owns or believes the reader owns, by address.
    fn fill_with_vips(
        &self,
        reader: &NodeName,
        after: Option<IpAddr>,
        page: &mut Page,
        now: Instant,
    ) {
        let rest = (after.map_or(Unbounded, Excluded), Unbounded);
        let mut last = after;
        let mut room = ROOM;
        for (vip, record) in self.records.range(rest) {
            let owned = self.seats.get(vip).is_some_and(|seat| seat.mine.is_owned());
            let list = if owned {
                &mut page.mine
            } else if self.live_owner(record).as_ref() == Some(reader) {
                &mut page.yours
            } else {
                continue;
            };
            let Origin { cause, since } = &record.origin;
            let known = page.causes.iter().position(|known| known == cause);
            let size = Told::LENGTH + known.map_or_else(|| cause.length(), |_| 0);
            if size > room {
                page.next = Some(Cursor::Vips(last));
                return;
            }
            room -= size;
            last = Some(*vip);
            let cause = known.unwrap_or_else(|| {
                page.causes.push(cause.clone());
                page.causes.len() - 1
            });
            list.push(Told {
                vip: *vip,
                epoch: record.epoch,
                cause: cause as u8,
                age_ms: now.saturating_duration_since(*since).as_millis() as u64,
            });
        }
    }

    pub(super) fn on_page(&mut self, from: &NodeName, page: Page, now: Instant) {
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        if peer.handshake.pull.as_ref() != Some(&page.after) {
            return;
        }
        let life = peer.life;
        let complete = page.next.is_none();
        peer.handshake.pull.clone_from(&page.next);
        peer.handshake.met = complete;
        peer.handshake.retry = Retry::now(now);
        for member in page.members {
            self.introduce(member, now);
        }
        for told in page.mine {
            let origin = told.origin(&page.causes, now);
            self.learn_owner(told.vip, from, life, told.epoch, origin, now);
        }
        for told in page.yours {
            let origin = told.origin(&page.causes, now);
            self.learn_own(told.vip, told.epoch, origin, now);
        }
        // Decisions that wait until every member has been met.
        if complete {
            self.decide_all();
        }
    }

    /// Admits a node that another member knows as a member: its consent is needed until its life is
    /// over, even if it has not been met.
    fn introduce(&mut self, member: KnownMember, now: Instant) {
        let KnownMember {
            name,
            life,
            endpoints,
            spans,
            paused,
        } = member;
        if name == self.name {
            return;
        }
        let cookie = self.nonce() | 1;
        if self.peers.get(&name).is_some_and(Peer::is_live) {
            return;
        }
        let card = Card {
            version: 0,
            endpoints,
            draining: false,
            links: LinksHash::of(&[]),
            spans,
        };
        let joined = self.is_joined();
        let is_unknown_rival =
            paused && self.is_unmet(&name, life) && self.owned().next().is_some();
        let peer = self
            .peers
            .get_or_insert_with(&name, || Peer::new(&name, card, life, cookie, now));
        // A joining node may itself have been cut off when it considered the other one down. That
        // node's kernel may still answer while its agent restarts and cannot say so.
        let was_out_of_reach =
            !joined && peer.life == life && peer.state == State::Down(DownReason::Unreachable);
        if was_out_of_reach || !peer.is_over(life) {
            peer.card.spans = spans;
            self.admit(&name, life, now);
        }
        if is_unknown_rival {
            // Each was on its own side of a split. Only when that node's agent is back can it say
            // what its kernel answers for.
            self.end_life(LifeOver::Declared, self.lease.life, now);
        }
    }
}
