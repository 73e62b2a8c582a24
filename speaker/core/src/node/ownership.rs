//! What follows from who owns a VIP: one write for each of its entries, before anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use speaker_common::layout::{self, Action, Vip};

use super::{Command, Node};
use crate::{
    intent::{Group, Wanted},
    plan::{Entry, Place},
};

impl Node {
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.groups = BTreeMap::new();
        for (&address, vip) in &wanted.vips {
            self.groups.entry(vip.group).or_default().insert(address);
        }
        self.wanted = Some(wanted);
        self.stale = true;
        // A VIP may now be of a group that another node owns.
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
            self.turn(entry, Action::Suppress);
        }
    }

    /// What the kernel is to do with requests that an entry is for.
    pub(super) fn action(&self, entry: &Entry) -> Action {
        let group = match &self.wanted {
            Some(wanted) => {
                let vip = wanted.vips.get(&entry.address);
                vip.filter(|vip| vip.interfaces_on(&wanted.node).is_some())
                    .map(|vip| vip.group)
            }
            None => Some(Group(entry.address)),
        };
        match group {
            Some(group) if self.owned.contains(&group) && !self.plan.silent.contains(entry) => {
                Action::Answer
            }
            Some(_) | None => Action::Suppress,
        }
    }

    pub(super) fn own(&mut self, group: Group, answer: bool, now: Instant) {
        self.edition += 1;
        if answer {
            self.owned.insert(group);
        } else {
            self.owned.remove(&group);
        }
        let addresses = match &self.wanted {
            Some(_) => self.groups.get(&group).cloned().unwrap_or_default(),
            // What an earlier agent left is each by itself until the intent is known.
            None => BTreeSet::from([group.0]),
        };
        for address in addresses {
            let entries: Vec<Entry> = self
                .held
                .vips
                .range(first_entry(address)..)
                .map(|(entry, _)| *entry)
                .take_while(|entry| entry.address == address)
                .collect();
            for entry in entries {
                self.turn(entry, self.action(&entry));
            }
            for place in self.places_of(address) {
                self.show(place, now);
            }
        }
    }

    /// Changes what the kernel does for an entry.
    fn turn(&mut self, entry: Entry, action: Action) {
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

    pub(super) fn announce_group(&mut self, group: Group, now: Instant) {
        for address in self.groups.get(&group).into_iter().flatten() {
            for place in self.places_of(*address) {
                if self.live.contains_key(&place) {
                    self.announcer.take_over(place.address, place.link, now);
                }
            }
        }
    }
}

/// Before all entries of an address.
fn first_entry(address: IpAddr) -> Entry {
    Entry {
        address,
        port: 0,
        vlan: layout::Vlan::default(),
    }
}
