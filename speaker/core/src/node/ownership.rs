//! Changes of ownership: one write for each entry of the VIP, before anything else.

use std::{net::IpAddr, time::Instant};

use speaker_common::layout::{self, Action, Vip};

use super::{Command, Node};
use crate::{
    intent::Wanted,
    plan::{Entry, Place},
};

impl Node {
    pub(super) fn want(&mut self, wanted: Wanted) {
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
        for entry in lost {
            self.set_action(entry, Action::Suppress);
        }
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

    pub(super) fn own(&mut self, vip: IpAddr, answer: bool, now: Instant) {
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
        for entry in entries {
            self.set_action(entry, self.action(&entry));
        }
        for place in self.places_of(vip) {
            self.update_announcement(place, now);
        }
    }

    /// Changes what the kernel does for an entry.
    fn set_action(&mut self, entry: Entry, action: Action) {
        if let Some(vip) = self.held.vips.get_mut(&entry)
            && vip.action != action
        {
            *vip = Vip::new(action, vip.slot);
            self.urgent.push_back(Command::Put(entry, *vip));
        }
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

    pub(super) fn take_over(&mut self, vip: IpAddr, now: Instant) {
        for place in self.places_of(vip) {
            if let Some(placed) = self.live.get(&place).copied() {
                self.announce_take_over(place, placed.entry, now);
            }
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
