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
    cluster::LinkInfo,
    intent::{Group, Wanted},
    link::{Kind, Link, LinkChange},
    links::Links,
    plan::{self, Choice, Entry, Place, Placed, Plan},
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
    /// What is to be announced, should this node own it, has changed.
    Wanted(Wanted),
    /// Answer for a group of VIPs from now on, or keep this host from answering for it. The
    /// commands of it come before all others.
    Answer {
        /// The group.
        group: Group,
        /// Whether to answer.
        answer: bool,
    },
    /// What this node owns is settled: the program may take the place of an earlier agent's, which
    /// may answer by other maps until then.
    Settled,
    /// Announce a group's VIPs as after a take-over, if they are answered here.
    Announce(Group),
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
    /// The wanted VIPs by group.
    groups: BTreeMap<Group, BTreeSet<IpAddr>>,
    /// The groups that this node owns.
    owned: BTreeSet<Group>,
    settled: bool,
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

    /// What ownership asks for: each owner relies on the others having done it.
    urgent: VecDeque<Command>,
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
            groups: BTreeMap::new(),
            owned: BTreeSet::new(),
            settled: false,
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
            urgent: VecDeque::new(),
            commands: VecDeque::new(),
        }
    }

    /// Whether the node knows enough to act.
    pub fn is_ready(&self) -> bool {
        self.wanted.is_some() && self.links.is_some()
    }

    /// Takes in what has happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Adopted(adopted) => self.adopt(adopted),
            Input::Wanted(wanted) => self.want(wanted),
            Input::Answer { group, answer } => self.own(group, answer, now),
            Input::Announce(group) => self.announce_group(group, now),
            Input::Settled => {
                self.stale |= !self.settled;
                self.settled = true;
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

    /// What is to be announced, should this node own it, once that is known.
    pub fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// The links that VIPs could be answered on, as other nodes are to know them.
    pub fn usable_links(&self) -> Vec<LinkInfo> {
        let links = self.links.as_ref();
        links.map_or_else(Vec::new, |links| plan::usable(links, &self.choice))
    }

    /// The group that a VIP is of.
    pub fn group(&self, vip: IpAddr) -> Option<Group> {
        let wanted = self.wanted.as_ref()?;
        wanted.vips.get(&vip).map(|vip| vip.group)
    }

    /// A group's VIPs on their links, and the MACs that they would be announced with.
    pub fn places(&self, group: Group) -> Vec<(Place, Mac)> {
        let addresses = self.groups.get(&group).into_iter().flatten();
        let places = addresses.flat_map(|address| self.places_of(*address));
        places
            .filter_map(|place| Some((place, self.plan.places.get(&place)?.mac)))
            .collect()
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
        if let Some(command) = self.next_urgent() {
            return Some(command);
        }
        while let Some(command) = self.commands.pop_front() {
            match command {
                // Who owns the VIP may have changed since.
                Command::Put(entry, _) => match self.held.vips.get(&entry) {
                    Some(vip) => return Some(Command::Put(entry, *vip)),
                    None => continue,
                },
                command => return Some(command),
            }
        }
        None
    }

    /// The next command that follows from [`Input::Answer`]: to be carried out before anybody is
    /// told that it was.
    pub fn next_urgent(&mut self) -> Option<Command> {
        self.urgent.pop_front()
    }

    /// Whether commands wait to be carried out.
    pub fn has_commands(&self) -> bool {
        !(self.urgent.is_empty() && self.commands.is_empty())
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

    fn want(&mut self, wanted: Wanted) {
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
                vip.action == Action::Answer && self.action(entry.address) == Action::Suppress
            })
            .map(|(entry, _)| *entry)
            .collect();
        for entry in lost {
            self.turn(entry, Action::Suppress);
        }
    }

    /// What the kernel is to do with requests for a VIP.
    fn action(&self, address: IpAddr) -> Action {
        let group = match &self.wanted {
            Some(wanted) => wanted.vips.get(&address).map(|vip| vip.group),
            // What an earlier agent left is each by itself until the intent is known.
            None => Some(Group(address)),
        };
        match group {
            Some(group) if self.owned.contains(&group) => Action::Answer,
            Some(_) | None => Action::Suppress,
        }
    }

    fn own(&mut self, group: Group, answer: bool, now: Instant) {
        if answer {
            self.owned.insert(group);
        } else {
            self.owned.remove(&group);
        }
        let alone = BTreeSet::from([group.0]);
        let addresses = match (&self.wanted, self.groups.get(&group)) {
            (_, Some(addresses)) => addresses.clone(),
            (None, None) => alone,
            (Some(_), None) => return,
        };
        for address in addresses {
            let action = self.action(address);
            let entries: Vec<Entry> = self
                .held
                .vips
                .range(first_entry(address)..)
                .map(|(entry, _)| *entry)
                .take_while(|entry| entry.address == address)
                .collect();
            for entry in entries {
                self.turn(entry, action);
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

    fn places_of(&self, address: IpAddr) -> Vec<Place> {
        let from = Place { address, link: 0 };
        let to = Place {
            address,
            link: u32::MAX,
        };
        let places = self.plan.places.range(from..=to);
        places.map(|(place, _)| *place).collect()
    }

    fn announce_group(&mut self, group: Group, now: Instant) {
        for address in self.groups.get(&group).into_iter().flatten() {
            for place in self.places_of(*address) {
                if self.live.contains_key(&place) {
                    self.announcer.take_over(place.address, place.link, now);
                }
            }
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
            let action = self.action(entry.address);
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

    fn attach(&mut self) {
        for &interface in &self.plan.attach {
            self.held.attached.entry(interface).or_default();
        }
        if !self.settled {
            return;
        }
        // Also those that have no VIP now: an earlier agent's program is not left behind.
        for (&interface, state) in &self.held.attached {
            if state.is_none() {
                self.commands.push_back(Command::Attach(interface));
            }
        }
    }

    /// Whether the kernel answers for the VIP: its entry says so, and the program runs.
    fn answers(&self, placed: &Placed) -> bool {
        let held = self.held.vips.get(&placed.entry);
        held.is_some_and(|vip| vip.action == Action::Answer)
            && matches!(self.held.attached.get(&placed.attached), Some(Some(Ok(_))))
    }

    fn announce(&mut self, now: Instant) {
        let gone = |place: &Place| !self.plan.places.contains_key(place);
        let gone: Vec<Place> = self.live.keys().copied().filter(gone).collect();
        let planned: Vec<Place> = self.plan.places.keys().copied().collect();
        for place in gone {
            self.show(place, now);
        }
        self.announce_links(now);
        for place in planned {
            self.show(place, now);
        }
    }

    /// Announces the VIP on the link if the kernel answers for it, or no longer.
    fn show(&mut self, place: Place, now: Instant) {
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
                    self.announcer.take_over(address, link, now);
                }
                let notice = Notice::Announcing(address, self.link_name(link));
                self.commands.push_back(Command::Tell(notice));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Tells the announcer of the links before it hears of new VIPs on them: what a link's coming
    /// up repeats are the VIPs that were there before.
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

    fn tell(&mut self, before: &Plan) {
        for (address, reason) in &self.plan.absent {
            if before.absent.get(address) != Some(reason) {
                let notice = Notice::NotAnnounced(*address, reason.to_string());
                self.commands.push_back(Command::Tell(notice));
            }
        }
    }

    /// Names the link of an index, for people.
    fn link_name(&self, index: u32) -> String {
        let link = self.links.as_ref().and_then(|links| links.get(index));
        link.map_or_else(|| format!("interface {index}"), |link| link.name.clone())
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
