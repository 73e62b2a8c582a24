//! From what the kernel holds to what is planned.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use speaker_common::layout::{Action, Link, Vip};

use super::{Command, Node, Notice, Step, slots::Room};
use crate::plan::{Entry, Place, Placed, Plan};

impl Node {
    /// Plans, and creates the commands that lead there. Their order leaves no gap: groups before
    /// entries, entries before the program, the program before announcements; to withdraw, entries
    /// come first.
    pub(super) fn reconcile(&mut self, now: Instant) {
        let (Some(wanted), Some(links)) = (&self.wanted, &self.links) else {
            return;
        };
        let before = std::mem::replace(&mut self.plan, Plan::new(wanted, links, &self.site));
        self.remove_entries();
        self.leave_groups();
        self.keep_tags();
        self.set_links();
        self.join_groups();
        self.put_entries();
        self.attach();
        self.announce(now);
        self.report_absent(&before);
        self.report_unprobed(&before);
        self.edition += 1;
    }

    fn remove_entries(&mut self) {
        let planned: BTreeSet<Entry> = self.plan.entries().collect();
        self.failures.retain_entries(&planned);
        self.conflicts.retain(|entry, _| planned.contains(entry));
        let gone = self
            .held
            .vips
            .extract_if(.., |entry, _| !planned.contains(entry));
        for (entry, vip) in gone {
            self.slots.release(vip.slot);
            self.commands.push_back(Command::Remove(entry));
        }
    }

    fn keep_tags(&mut self) {
        let held = &mut self.held.keep_tags;
        held.retain(|interface, _| self.plan.keep_tags.contains(interface));
        for &interface in &self.plan.keep_tags {
            if held.entry(interface).or_default().take_due() {
                self.commands.push_back(Command::KeepTags(interface));
            }
        }
    }

    /// An interface without VIPs keeps the program, since detaching it resets the rings of some
    /// drivers. It is detached once the interface is gone or may no longer be used.
    fn set_links(&mut self) {
        let Some(links) = &self.links else {
            return;
        };
        let usable: BTreeSet<u32> = links
            .iter()
            .filter(|link| self.site.choice.admits(link, links))
            .map(|link| link.index)
            .collect();
        let keep = |index: &u32| usable.contains(index) || self.plan.links.contains_key(index);

        let detached = self.held.attached.extract_if(.., |index, _| !keep(index));
        self.commands
            .extend(detached.map(|(index, _)| Command::Detach(index)));
        // Not so an entry of `links`: with that of a member which now stands by, a bond would answer
        // twice.
        let planned = &self.plan.links;
        let removed = self
            .held
            .links
            .extract_if(.., |index, _| !planned.contains_key(index));
        self.commands
            .extend(removed.map(|(index, _)| Command::RemoveLink(index)));
        let changed = self.plan.links.iter().filter(|(index, link)| {
            let refused = self.failures.of(&Step::SetLink(**index)).is_some();
            !refused && self.held.links.get(index) != Some(link)
        });
        let changed: Vec<(u32, Link)> = changed.map(|(index, link)| (*index, *link)).collect();
        for (index, link) in changed {
            let before = self.held.links.insert(index, link);
            if before.is_some_and(|before| before.mac != link.mac) {
                self.outdate_announcements(link.port);
            }
            self.commands.push_back(Command::SetLink(index, link));
        }
    }

    /// The announcements of a port's VIPs are no longer true: it has another MAC.
    fn outdate_announcements(&mut self, port: u32) {
        let entries = self.held.vips.keys().copied();
        let entries: Vec<Entry> = entries.filter(|entry| entry.port == port).collect();
        for entry in entries {
            self.unbroken.remove(&entry);
            self.mark_announced(entry, false);
        }
    }

    fn put_entries(&mut self) {
        let mut room = Room::beside(&self.held.vips);
        for entry in self.plan.entries() {
            let held = self.held.vips.get(&entry).copied();
            let action = self.action(&entry);
            if self.failures.of(&Step::Put(entry)).is_some()
                || held.is_some_and(|vip| vip.action == action)
            {
                continue;
            }
            let slot = match held {
                Some(vip) => vip.slot,
                None if room.take(entry.address) => {
                    let slot = self.slots.take();
                    let slot = slot.expect("there are as many slots as entries");
                    self.commands.push_back(Command::ResetCounters(slot));
                    slot
                }
                None => {
                    let full = Room::lacking(entry.address);
                    if self.failures.note(Step::Fit(entry), full.clone()) {
                        let notice = Notice::NotAnnounced(entry.address, full);
                        self.commands.push_back(Command::Tell(notice));
                    }
                    continue;
                }
            };
            self.failures.forget(&Step::Fit(entry));
            let vip = Vip::new(action, slot);
            self.held.vips.insert(entry, vip);
            self.commands.push_back(Command::Put(entry, vip));
        }
    }

    /// Whether the kernel answers for the VIP: its entry says so, and the program is attached and
    /// knows the link.
    fn answers(&self, placed: &Placed) -> bool {
        let held = self.held.vips.get(&placed.entry);
        held.is_some_and(|vip| vip.action == Action::Answer)
            && self.attached_for(placed).is_some()
            && self.link_refusal(placed.attached).is_none()
    }

    fn announce(&mut self, now: Instant) {
        let gone = |place: &Place| !self.plan.places.contains_key(place);
        let gone: Vec<Place> = self.live.keys().copied().filter(gone).collect();
        let planned: Vec<Place> = self.plan.places.keys().copied().collect();
        for place in gone {
            self.update_announcement(place, now);
        }
        self.announce_links(now);
        for place in planned {
            self.update_announcement(place, now);
        }
    }

    /// Starts or stops to announce a VIP on a link, after the kernel has started or stopped to
    /// answer.
    pub(super) fn update_announcement(&mut self, place: Place, now: Instant) {
        let Place { address, link } = place;
        let placed = self.plan.places.get(&place).copied();
        let placed = placed.filter(|placed| self.answers(placed));
        let before = match placed {
            Some(placed) => self.live.insert(place, placed),
            None => self.live.remove(&place),
        };
        match (before, placed) {
            (Some(_), None) => {
                self.announcer.withdraw(address, link);
                self.announced.remove(&place);
                let notice = Notice::Withdrawn(address, self.link_name(link));
                self.commands.push_back(Command::Tell(notice));
            }
            (None, Some(placed)) => {
                if self.unbroken.remove(&placed.entry) {
                    self.announcer.keep(address, link, now);
                } else {
                    self.announce_take_over(place, placed.entry, now);
                }
                let notice = Notice::Announcing(address, self.link_name(link));
                self.commands.push_back(Command::Tell(notice));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Tells the announcer about links before it hears of new VIPs on them: a link that comes up
    /// repeats the announcements of the VIPs that it had before.
    fn announce_links(&mut self, now: Instant) {
        let links: BTreeMap<u32, &Placed> = self
            .plan
            .places
            .iter()
            .map(|(place, placed)| (place.link, placed))
            .collect();
        for gone in self
            .announced_links
            .extract_if(.., |link| !links.contains_key(link))
        {
            self.announcer.link_gone(gone);
        }
        for (link, placed) in links {
            self.announced_links.insert(link);
            if placed.up {
                self.announcer.link_up(link, placed.mac, now);
            } else {
                self.announcer.link_down(link);
            }
        }
    }

    fn report_absent(&mut self, before: &Plan) {
        for (address, reason) in &self.plan.absent {
            if before.absent.get(address) != Some(reason) {
                let notice = Notice::NotAnnounced(*address, reason.to_string());
                self.commands.push_back(Command::Tell(notice));
            }
        }
    }

    fn report_unprobed(&mut self, before: &Plan) {
        if let Some(Err(reason)) = &self.plan.probed
            && self.plan.probed != before.probed
        {
            let told = format!(
                "the kernel does not answer other nodes' liveness probes, so this node counts as \
                 dead as soon as its agent stops: {reason}"
            );
            self.commands
                .push_back(Command::Tell(Notice::Refused(told)));
        }
    }
}
