//! The node: what this agent should have in the kernel and on the wire, and the steps to get there.
//!
//! Inputs come in with the time, commands go out in the order in which they must be carried out.
//! Nothing is commanded before both the intent and the links are known: until then the kernel goes
//! on with what an earlier agent left it.

mod failures;
mod slots;
mod status;
#[cfg(test)]
mod tests;

pub use status::{Attached, LinkStatus, PlaceStatus, Status, VipStatus};

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use speaker_common::{
    layout::{self, Action, Vip},
    wire::Mac,
};

use crate::{
    announce::{Announcement, Announcer, Outcome},
    intent::Wanted,
    link::{Kind, Link, LinkChange},
    links::Links,
    plan::{Choice, Entry, Place, Placed, Plan},
};
use failures::{Failures, Step};
use slots::{Room, Slots};

/// How long to wait before what the kernel refused is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Everything that can make the node act.
#[derive(Debug)]
pub enum Input {
    /// What the pins of an earlier agent hold. Comes first, if at all.
    Adopted(Adopted),
    /// What is to be announced has changed.
    Wanted(Wanted),
    /// All links that there are, once at the start.
    Links(Links),
    /// A link has changed.
    Link(LinkChange),
    /// What became of [`Command::Attach`].
    Attached {
        /// The interface.
        interface: u32,
        /// How the program runs there, or why not.
        result: Result<Attached, String>,
    },
    /// The kernel refused [`Command::Put`].
    PutFailed {
        /// The entry.
        entry: Entry,
        /// Why.
        reason: String,
    },
    /// The kernel refused [`Command::Join`].
    JoinFailed {
        /// The VIP.
        address: Ipv6Addr,
        /// The link.
        link: u32,
        /// Why.
        reason: String,
    },
    /// Another MAC claims a VIP that this node owns.
    Claimed {
        /// The VIP and where the claim was seen.
        entry: Entry,
        /// The claimant.
        by: Mac,
    },
}

/// The maps' content at the start.
#[derive(Debug, Default)]
pub struct Adopted {
    /// VIPs and their slots.
    pub vips: BTreeMap<Entry, Vip>,
    /// The `links` map.
    pub links: BTreeMap<u32, layout::Link>,
    /// Interfaces that the program of an earlier agent is attached to.
    pub attached: BTreeSet<u32>,
    /// Whether the lease was still valid: nobody has noticed that the agent was away.
    pub in_time: bool,
}

/// Everything that the node can have done, in the order in which it must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Let VLAN tags stay in the frames of an interface.
    KeepTags(u32),
    /// Write an entry of `links`.
    SetLink(u32, layout::Link),
    /// Remove an entry of `links`.
    RemoveLink(u32),
    /// Join the solicited-node group of a VIP on a link.
    Join(Ipv6Addr, u32),
    /// Leave it.
    Leave(Ipv6Addr, u32),
    /// Set a slot's counters to zero: another VIP has it now.
    ResetCounters(u32),
    /// Write an entry of the VIP maps.
    Put(Entry, Vip),
    /// Remove an entry of the VIP maps.
    Remove(Entry),
    /// Run the program on an interface; answered by [`Input::Attached`].
    Attach(u32),
    /// Take the program off an interface, or its pin away where the interface is gone.
    Detach(u32),
    /// Tell the operator.
    Tell(Notice),
}

/// What is worth a line in the log and an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This node answers for the VIP on the link.
    Announcing(IpAddr, String),
    /// It does so no longer.
    Withdrawn(IpAddr, String),
    /// It cannot.
    NotAnnounced(IpAddr, String),
    /// Another MAC claims the VIP.
    Conflict(IpAddr, Mac),
    /// The kernel refuses something, for a reason that says what. It is tried again, and told again
    /// when the reason is another one.
    Refused(String),
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    choice: Choice,
    announcer: Announcer,
    slots: Slots,

    wanted: Option<Wanted>,
    links: Option<Links>,
    plan: Plan,
    /// An input may have changed the plan.
    stale: bool,

    /// What the kernel holds, as far as the commands have succeeded.
    held: Held,
    /// What is answered and announced now.
    live: BTreeMap<Place, Placed>,
    /// The links that the announcer knows.
    announced_links: BTreeSet<u32>,
    /// Announcements sent.
    announced: BTreeMap<Place, u64>,
    /// What the kernel refused, until it is tried again.
    failures: Failures,
    retry_at: Option<Instant>,
    conflicts: BTreeMap<Entry, Conflict>,
    /// VIPs that an earlier agent answered without a break: nobody need be told again.
    unbroken: BTreeSet<Entry>,

    commands: VecDeque<Command>,
}

#[derive(Debug, Default)]
struct Held {
    vips: BTreeMap<Entry, Vip>,
    links: BTreeMap<u32, layout::Link>,
    attached: BTreeMap<u32, Option<Result<Attached, String>>>,
    joined: BTreeSet<(Ipv6Addr, u32)>,
    keep_tags: BTreeSet<u32>,
}

/// Claims of a VIP by another MAC.
#[derive(Clone, Copy, Debug)]
struct Conflict {
    by: Mac,
    claims: u64,
    told: Instant,
}

impl Node {
    /// A node that may use the chosen links.
    pub fn new(choice: Choice, announcer: Announcer) -> Self {
        Self {
            choice,
            announcer,
            slots: Slots::default(),
            wanted: None,
            links: None,
            plan: Plan::default(),
            stale: false,
            held: Held::default(),
            live: BTreeMap::new(),
            announced_links: BTreeSet::new(),
            announced: BTreeMap::new(),
            failures: Failures::default(),
            retry_at: None,
            conflicts: BTreeMap::new(),
            unbroken: BTreeSet::new(),
            commands: VecDeque::new(),
        }
    }

    /// Whether the node knows enough to act: from then on the agent may hold the lease.
    pub fn is_ready(&self) -> bool {
        self.wanted.is_some() && self.links.is_some()
    }

    /// Takes in what has happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Adopted(adopted) => self.adopt(adopted),
            Input::Wanted(wanted) => {
                self.wanted = Some(wanted);
                self.stale = true;
            }
            Input::Links(links) => {
                self.links = Some(links);
                self.stale = true;
            }
            Input::Link(change) => {
                self.failover(&change, now);
                self.lose_groups(&change);
                if let Some(links) = &mut self.links {
                    self.stale |= links.apply(change);
                }
            }
            Input::Attached { interface, result } => {
                if let Err(reason) = &result {
                    let notice = Notice::Refused(reason.clone());
                    self.failed(Step::Attach(interface), reason.clone(), notice, now);
                }
                self.held.attached.insert(interface, Some(result));
                self.stale = true;
            }
            Input::PutFailed { entry, reason } => {
                if let Some(vip) = self.held.vips.remove(&entry) {
                    self.slots.release(vip.slot);
                }
                let notice = Notice::NotAnnounced(entry.address, reason.clone());
                self.failed(Step::Put(entry), reason, notice, now);
                self.stale = true;
            }
            Input::JoinFailed {
                address,
                link,
                reason,
            } => {
                self.held.joined.remove(&(address, link));
                let notice = Notice::Refused(reason.clone());
                self.failed(Step::Join(address, link), reason, notice, now);
            }
            Input::Claimed { entry, by } => self.claimed(entry, by, now),
        }
    }

    /// The port that the program takes an interface's frames for.
    pub fn port(&self, interface: u32) -> Option<u32> {
        self.held.links.get(&interface).map(|link| link.port)
    }

    /// When [`Node::poll`] is due, whether or not anything happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let announcements = self.announcer.poll_timeout();
        [self.retry_at, announcements].into_iter().flatten().min()
    }

    /// Does what is due: makes the commands that lead from what the kernel holds to the plan.
    pub fn poll(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.failures.try_again();
            for state in self.held.attached.values_mut() {
                if matches!(state, Some(Err(_))) {
                    *state = None;
                }
            }
            self.stale = true;
        }
        if self.stale && self.is_ready() {
            self.stale = false;
            self.reconcile(now);
        }
    }

    /// The next command, until there is none.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Whether commands wait to be carried out.
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// The announcements that are due, most urgent first. None while commands wait: what is
    /// announced must be answered by then.
    pub fn announcements(&mut self, now: Instant) -> Vec<Announcement> {
        if self.has_commands() {
            return Vec::new();
        }
        self.announcer.poll(now)
    }

    /// What became of an announcement.
    pub fn announced(&mut self, announcement: &Announcement, outcome: Outcome, now: Instant) {
        self.announcer.sent(announcement, outcome, now);
        let place = Place {
            address: announcement.vip,
            link: announcement.link,
        };
        if outcome == Outcome::Sent && self.live.contains_key(&place) {
            *self.announced.entry(place).or_default() += 1;
        }
    }

    /// A bond that sends through another member has moved to another port of the switch, and so
    /// have the VLANs on it.
    fn failover(&mut self, change: &LinkChange, now: Instant) {
        let (Some(links), LinkChange::Set(link)) = (&self.links, change) else {
            return;
        };
        let before = links.get(link.index).map(|before| &before.kind);
        if let (Some(Kind::Bond { active: old }), Kind::Bond { active: Some(new) }) =
            (before, &link.kind)
            && *old != Some(*new)
        {
            let on_it =
                |on: &Link| matches!(on.kind, Kind::Vlan { parent, .. } if parent == link.index);
            self.announcer.bond_failover(link.index, now);
            for vlan in links.iter().filter(|on| on_it(on)) {
                self.announcer.bond_failover(vlan.index, now);
            }
        }
    }

    /// The kernel has left the groups of a link without IPv6, and joins none of them when IPv6 is
    /// back, which the next change may already tell.
    fn lose_groups(&mut self, change: &LinkChange) {
        let LinkChange::Set(link) = change else {
            return;
        };
        if !link.has_ipv6() {
            let lost = self
                .held
                .joined
                .extract_if(.., |(_, joined)| *joined == link.index);
            self.commands
                .extend(lost.map(|(address, link)| Command::Leave(address, link)));
        }
    }

    /// The kernel refused a step, which is tried again later; the operator is told once.
    fn failed(&mut self, step: Step, reason: String, notice: Notice, now: Instant) {
        if self.failures.note(step, reason) {
            self.commands.push_back(Command::Tell(notice));
        }
        self.retry_at.get_or_insert(now + RETRY);
    }

    fn adopt(&mut self, adopted: Adopted) {
        let Adopted {
            vips,
            links,
            attached,
            in_time,
        } = adopted;
        self.slots = Slots::taken(vips.values().map(|vip| vip.slot));
        if in_time {
            self.unbroken = vips
                .iter()
                .filter(|(_, vip)| vip.action == Action::Answer)
                .map(|(entry, _)| *entry)
                .collect();
        }
        self.held.vips = vips;
        self.held.links = links;
        // Attached, but by a program that is not this agent's yet: to be attached anew, which
        // swaps the program.
        self.held.attached = attached.into_iter().map(|index| (index, None)).collect();
    }

    fn claimed(&mut self, entry: Entry, by: Mac, now: Instant) {
        // Two links in one network hear each other.
        if self
            .links
            .iter()
            .flat_map(Links::iter)
            .any(|link| link.mac == by)
        {
            return;
        }
        /// RFC 5227 §2.4 (c), DEFEND_INTERVAL: one line per claimant and interval is enough.
        const TELL: Duration = Duration::from_secs(10);
        let conflict = self.conflicts.entry(entry).or_insert(Conflict {
            by,
            claims: 0,
            told: now,
        });
        let told_lately = conflict.claims > 0 && conflict.by == by && now < conflict.told + TELL;
        conflict.claims += 1;
        conflict.by = by;
        if !told_lately {
            conflict.told = now;
            let notice = Notice::Conflict(entry.address, by);
            self.commands.push_back(Command::Tell(notice));
        }
        let places: Vec<Place> = self
            .live
            .iter()
            .filter(|(_, placed)| placed.entry == entry)
            .map(|(place, _)| *place)
            .collect();
        for place in places {
            self.announcer.defend(place.address, place.link, now);
        }
    }

    /// One pass from the inputs to the commands. The order is the one that leaves no gap: groups
    /// before entries, entries before the program, the program before announcements; and on the
    /// way back, entries first.
    fn reconcile(&mut self, now: Instant) {
        let (Some(wanted), Some(links)) = (&self.wanted, &self.links) else {
            return;
        };
        let before =
            std::mem::replace(&mut self.plan, Plan::new(&wanted.vips, links, &self.choice));
        self.remove_entries();
        self.leave_groups();
        self.keep_tags();
        self.set_links();
        self.join_groups();
        self.put_entries();
        self.attach();
        self.announce(now);
        self.tell(&before);
    }

    fn remove_entries(&mut self) {
        let planned: BTreeSet<Entry> = self.plan.places.values().map(|p| p.entry).collect();
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

    fn groups(&self) -> BTreeSet<(Ipv6Addr, u32)> {
        self.plan
            .places
            .keys()
            .filter_map(|place| match place.address {
                IpAddr::V6(address) => Some((address, place.link)),
                IpAddr::V4(_) => None,
            })
            .collect()
    }

    fn leave_groups(&mut self) {
        let groups = self.groups();
        let gone = self
            .held
            .joined
            .extract_if(.., |joined| !groups.contains(joined));
        self.commands
            .extend(gone.map(|(address, link)| Command::Leave(address, link)));
    }

    fn join_groups(&mut self) {
        for (address, link) in self.groups() {
            if self.held.joined.insert((address, link)) {
                self.commands.push_back(Command::Join(address, link));
            }
        }
    }

    fn keep_tags(&mut self) {
        let held = &mut self.held.keep_tags;
        held.retain(|interface| self.plan.keep_tags.contains(interface));
        for &interface in &self.plan.keep_tags {
            if held.insert(interface) {
                self.commands.push_back(Command::KeepTags(interface));
            }
        }
    }

    /// An interface that has lost its last VIP keeps the program, since taking it off resets the
    /// rings of some drivers; it loses it when it is gone or no longer the agent's to use.
    fn set_links(&mut self) {
        let links = self.links.as_ref().into_iter().flat_map(Links::iter);
        let usable: BTreeSet<u32> = links
            .filter(|link| self.choice.admits(link))
            .map(|link| link.index)
            .collect();
        let keep = |index: &u32| usable.contains(index) || self.plan.links.contains_key(index);

        let detached = self.held.attached.extract_if(.., |index, _| !keep(index));
        self.commands
            .extend(detached.map(|(index, _)| Command::Detach(index)));
        let removed = self.held.links.extract_if(.., |index, _| !keep(index));
        self.commands
            .extend(removed.map(|(index, _)| Command::RemoveLink(index)));
        for (&index, &link) in &self.plan.links {
            if self.held.links.insert(index, link) != Some(link) {
                self.commands.push_back(Command::SetLink(index, link));
            }
        }
    }

    fn put_entries(&mut self) {
        let mut room = Room::beside(&self.held.vips);
        for placed in self.plan.places.values() {
            let entry = placed.entry;
            let held = self.held.vips.get(&entry).copied();
            if self.failures.of(&Step::Put(entry)).is_some()
                || held.is_some_and(|vip| vip.action == Action::Answer)
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
            let vip = Vip::new(Action::Answer, slot);
            self.held.vips.insert(entry, vip);
            self.commands.push_back(Command::Put(entry, vip));
        }
    }

    fn attach(&mut self) {
        for &interface in &self.plan.attach {
            self.held.attached.entry(interface).or_default();
        }
        // Also those that have no VIP now: an earlier agent's program is not left behind.
        for (&interface, state) in &self.held.attached {
            if state.is_none() {
                self.commands.push_back(Command::Attach(interface));
            }
        }
    }

    /// Whether the kernel answers for the VIP: its entry is there, and the program runs.
    fn answers(&self, placed: &Placed) -> bool {
        self.held.vips.contains_key(&placed.entry)
            && matches!(self.held.attached.get(&placed.attached), Some(Some(Ok(_))))
    }

    fn announce(&mut self, now: Instant) {
        let mut live = BTreeMap::new();
        for (&place, placed) in &self.plan.places {
            if self.answers(placed) {
                live.insert(place, *placed);
            }
        }
        let before = std::mem::replace(&mut self.live, live);
        self.announced
            .retain(|place, _| self.live.contains_key(place));

        for &Place { address, link } in before.keys().filter(|&it| !self.live.contains_key(it)) {
            self.announcer.withdraw(address, link);
            let notice = Notice::Withdrawn(address, self.link_name(link));
            self.commands.push_back(Command::Tell(notice));
        }
        self.announce_links(now);
        for (&Place { address, link }, placed) in &self.live {
            if before.contains_key(&Place { address, link }) {
                continue;
            }
            if self.unbroken.remove(&placed.entry) {
                self.announcer.keep(address, link, now);
            } else {
                self.announcer.take_over(address, link, now);
            }
            let notice = Notice::Announcing(address, self.link_name(link));
            self.commands.push_back(Command::Tell(notice));
        }
    }

    /// Tells the announcer of the links before it hears of new VIPs on them: what a link's coming
    /// up repeats are the VIPs that were there before.
    fn announce_links(&mut self, now: Instant) {
        let links: BTreeMap<u32, &Placed> = self
            .live
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

    fn tell(&mut self, before: &Plan) {
        for (address, reason) in &self.plan.absent {
            if before.absent.get(address) != Some(reason) {
                let notice = Notice::NotAnnounced(*address, reason.to_string());
                self.commands.push_back(Command::Tell(notice));
            }
        }
    }

    fn link_name(&self, index: u32) -> String {
        let link = self.links.as_ref().and_then(|links| links.get(index));
        link.map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    }
}
