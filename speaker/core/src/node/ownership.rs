//! Changes of ownership: one write for each entry of the VIP. Other nodes rely on it, so it does not
//! wait for other commands: it is returned, to be carried out before another node is told anything.

use std::{net::IpAddr, time::Instant};

use speaker_common::layout::{self, Action, Vip};

use super::{Command, Node};
use crate::{
    intent::Wanted,
    plan::{Entry, Place, Placed},
};

impl Node {
    /// Sets the VIPs that this node should announce whenever it owns them. Returns the writes for
    /// those that it may no longer own.
    #[must_use = "other nodes must not be told before this is carried out"]
    pub fn want(&mut self, wanted: Wanted) -> Vec<Command> {
        if self.wanted.as_ref() == Some(&wanted) {
            return Vec::new();
        }
        self.wanted = Some(wanted);
        self.stale = true;
        // The configuration may no longer allow this node to own a VIP.
        let lost: Vec<Entry> = self
            .held
            .vips
            .iter()
            .filter(|(entry, vip)| {
                vip.action == Action::Answer && self.action(entry) == Action::Suppress
            })
            .map(|(entry, _)| *entry)
            .collect();
        let lost = lost.into_iter();
        lost.filter_map(|entry| self.set_action(entry, Action::Suppress))
            .collect()
    }

    /// What the kernel should do with requests that match an entry.
    pub(super) fn action(&self, entry: &Entry) -> Action {
        let may = self.wanted.as_ref().is_none_or(|wanted| {
            let vip = wanted.vips.get(&entry.address);
            vip.is_some_and(|vip| vip.interfaces_on(&wanted.node).is_some())
        });
        if may && self.owned.contains(&entry.address) && !self.plan.silent.contains(entry) {
            Action::Answer
        } else {
            Action::Suppress
        }
    }

    /// Answers for a VIP from now on, or keeps this host from answering for it. Returns the writes.
    #[must_use = "other nodes must not be told before this is carried out"]
    pub fn answer(&mut self, vip: IpAddr, answer: bool, now: Instant) -> Vec<Command> {
        self.edition += 1;
        if answer {
            self.owned.insert(vip);
        } else {
            self.owned.remove(&vip);
        }
        let entries: Vec<Entry> = self
            .held
            .vips
            .range(first_entry(vip)..)
            .map(|(entry, _)| *entry)
            .take_while(|entry| entry.address == vip)
            .collect();
        let entries = entries.into_iter();
        let writes = entries.filter_map(|entry| self.set_action(entry, self.action(&entry)));
        let writes = writes.collect();
        for place in self.places_of(vip) {
            self.update_announcement(place, now);
        }
        writes
    }

    /// Changes what the kernel does for an entry. Returns the write, if there is one.
    fn set_action(&mut self, entry: Entry, action: Action) -> Option<Command> {
        let vip = self.held.vips.get_mut(&entry)?;
        if vip.action == action {
            return None;
        }
        *vip = Vip::new(action, vip.slot);
        Some(Command::Put(entry, *vip))
    }

    pub(super) fn places_of(&self, address: IpAddr) -> Vec<Place> {
        let from = Place { address, link: 0 };
        let to = Place {
            address,
            link: u32::MAX,
        };
        let places = self.plan.places.range(from..=to);
        places.map(|(place, _)| *place).collect()
    }

    /// Where a VIP is answered.
    pub(super) fn live_places_of(&self, vip: IpAddr) -> Vec<(Place, Placed)> {
        let places = self.places_of(vip).into_iter();
        places
            .filter_map(|place| Some((place, *self.live.get(&place)?)))
            .collect()
    }

    pub(super) fn take_over(&mut self, vip: IpAddr, now: Instant) {
        for (place, placed) in self.live_places_of(vip) {
            self.announce_take_over(place, placed.entry, now);
        }
    }

    /// Announces a VIP that another node claims too.
    pub(super) fn contend(&mut self, vip: IpAddr, now: Instant) {
        for (place, placed) in self.live_places_of(vip) {
            self.mark_announced(placed.entry, false);
            self.announcer.contend(vip, place.link, now);
        }
    }

    pub(super) fn announce_take_over(&mut self, place: Place, entry: Entry, now: Instant) {
        self.mark_announced(entry, false);
        self.announcer.take_over(place.address, place.link, now);
    }

    /// Records in the kernel whether a VIP has been announced, for the next agent: this one may end
    /// at any time.
    pub(super) fn mark_announced(&mut self, entry: Entry, announced: bool) {
        if let Some(vip) = self.held.vips.get_mut(&entry)
            && vip.is_announced() != announced
        {
            *vip = vip.with_announced(announced);
            self.commands.push_back(Command::Put(entry, *vip));
        }
    }
}

/// The first possible entry of an address in the order of keys.
fn first_entry(address: IpAddr) -> Entry {
    Entry {
        address,
        port: 0,
        vlan: layout::Vlan::default(),
    }
}
