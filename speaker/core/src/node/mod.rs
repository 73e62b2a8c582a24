//! The node: what this agent should have in the kernel and on the wire, and the steps to get there.
//!
//! Inputs come in with the time, and commands go out in the order in which they must be carried
//! out. There are no commands until both the intent and the links are known: until then, the kernel
//! continues with what an earlier agent left there.

mod failures;
mod groups;
mod io;
mod link;
mod ownership;
mod programs;
mod reconcile;
mod slots;
mod status;
#[cfg(test)]
mod tests;

pub use groups::Membership;
pub use io::{Adopted, Command, Input, NotAttached, Notice};
pub use status::{Attached, LinkStatus, PlaceState, PlaceStatus, ProbeStatus, Status, VipStatus};

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use speaker_common::{
    layout::{self, Action, Vip},
    wire::Mac,
};

use crate::{
    announce::{Announcement, Announcer, Outcome},
    intent::Wanted,
    links::Links,
    plan::{Choice, Entry, Place, Placed, Plan, Site},
};
use failures::{Failures, Step};
use programs::Attempt;
use slots::Slots;

/// The interval at which refused steps are retried and attached programs checked.
const RETRY: Duration = Duration::from_secs(5);

/// What this agent should have, and has, in the kernel and on the wire.
#[derive(Debug)]
pub struct Node {
    site: Site,
    announcer: Announcer,
    slots: Slots,

    wanted: Option<Wanted>,
    /// The VIPs that this node owns.
    owned: BTreeSet<IpAddr>,
    settled: bool,
    links: Option<Links>,
    plan: Plan,
    /// An input may have changed the plan, which must be reconciled.
    stale: bool,
    edition: u64,

    /// What the kernel holds if all commands succeeded.
    held: Held,
    /// The places that are answered and announced now.
    live: BTreeMap<Place, Placed>,
    /// The links that the announcer knows.
    announced_links: BTreeSet<u32>,
    /// The announcements sent for each live place.
    announced: BTreeMap<Place, Sent>,
    /// Steps that the kernel refused, until they are retried.
    failures: Failures,
    retry_at: Option<Instant>,
    /// When to check that the program still runs where it should.
    check_at: Option<Instant>,
    conflicts: BTreeMap<Entry, Conflict>,
    /// Entries that an earlier agent announced, and that have been answered without interruption
    /// since: they need no announcement.
    unbroken: BTreeSet<Entry>,

    commands: VecDeque<Command>,
}

#[derive(Debug, Default)]
struct Held {
    vips: BTreeMap<Entry, Vip>,
    links: BTreeMap<u32, layout::Link>,
    attached: BTreeMap<u32, Attempt<Attached>>,
    joined: BTreeSet<Membership>,
    keep_tags: BTreeMap<u32, Attempt<()>>,
}

/// Announcements that were sent for a VIP on a link.
#[derive(Clone, Copy, Debug)]
struct Sent {
    count: u64,
    last: Instant,
}

/// Claims of a VIP by another MAC.
#[derive(Clone, Copy, Debug)]
struct Conflict {
    by: Mac,
    claims: u64,
    told: Instant,
}

impl Node {
    /// A node that may use these links.
    pub fn new(choice: Choice, announcer: Announcer) -> Self {
        Self {
            site: Site {
                choice,
                ..Site::default()
            },
            announcer,
            slots: Slots::default(),
            wanted: None,
            owned: BTreeSet::new(),
            settled: false,
            links: None,
            plan: Plan::default(),
            stale: false,
            edition: 0,
            held: Held::default(),
            live: BTreeMap::new(),
            announced_links: BTreeSet::new(),
            announced: BTreeMap::new(),
            failures: Failures::default(),
            retry_at: None,
            check_at: None,
            conflicts: BTreeMap::new(),
            unbroken: BTreeSet::new(),
            commands: VecDeque::new(),
        }
    }

    /// Whether the node knows enough to act.
    pub fn is_ready(&self) -> bool {
        self.wanted.is_some() && self.links.is_some()
    }

    /// Handles one input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Adopted(adopted) => self.adopt(adopted),
            Input::ProbedAt(address) => {
                self.site.probed = Some(address);
                self.stale = true;
            }
            Input::Announce(vip) => self.take_over(vip, now),
            Input::Contend(vip) => self.contend(vip, now),
            Input::Defend(vip) => self.defend(vip, |_| true, now),
            Input::Settled => {
                self.stale |= !self.settled;
                self.settled = true;
            }
            Input::Links(links) => {
                self.links = Some(links);
                self.stale = true;
            }
            Input::Link(change) => self.link_changed(change, now),
            Input::Attached { interface, result } => self.attached(interface, result, now),
            Input::Detached(interface) => self.detached(interface),
            Input::KeptTags { interface, result } => self.kept_tags(interface, result, now),
            Input::LinkSet { interface, result } => self.link_set(interface, result, now),
            Input::PutFailed { entry, reason } => {
                if let Some(vip) = self.held.vips.remove(&entry) {
                    self.slots.release(vip.slot);
                }
                let notice = Notice::NotAnnounced(entry.address, reason.clone());
                self.failed(Step::Put(entry), reason, notice, now);
                self.stale = true;
            }
            Input::JoinFailed { membership, reason } => {
                self.held.joined.remove(&membership);
                let notice = Notice::Refused(reason.clone());
                self.failed(Step::Join(membership), reason, notice, now);
                self.stale = true;
            }
            Input::Claimed { entry, by } => self.claimed(entry, by, now),
        }
    }

    /// The VIPs that this node should announce whenever it owns them, once known.
    pub fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// The places where frames about a VIP can be sent and received, each with the MAC that it
    /// would be announced with.
    pub fn places(&self, vip: IpAddr) -> Vec<(Place, Mac)> {
        let placed = self.places_of(vip).into_iter();
        let placed = placed.filter_map(|place| Some((place, self.plan.places.get(&place)?)));
        let up = placed.filter(|(_, placed)| placed.up);
        up.map(|(place, placed)| (place, placed.mac)).collect()
    }

    /// The VIPs that are answered and announced now, each with the names of its links.
    pub fn answered(&self) -> impl Iterator<Item = (IpAddr, String)> {
        let heard = |(place, placed): &(&Place, &Placed)| self.refusal(place, placed).is_none();
        let places = self.live.iter().filter(heard);
        places.map(|(place, _)| (place.address, self.link_name(place.link)))
    }

    /// A number that changes whenever [`answered`](Self::answered) or [`obstacle`](Self::obstacle)
    /// may have changed.
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// Whether this is the MAC of a link of this node. Two links in one network see each other's
    /// frames, and the program takes them for those of another host.
    pub fn has_mac(&self, mac: Mac) -> bool {
        let mut links = self.links.iter().flat_map(Links::iter);
        links.any(|link| link.mac == mac)
    }

    /// The port to which the program assigns an interface's frames.
    pub fn port(&self, interface: u32) -> Option<u32> {
        self.held.links.get(&interface).map(|link| link.port)
    }

    /// When [`Node::poll`] is due even if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let announcements = self.announcer.poll_timeout();
        let times = [self.retry_at, self.check_at, announcements];
        times.into_iter().flatten().min()
    }

    /// Does what is due, and creates the commands that lead from what the kernel holds to the plan.
    pub fn poll(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.failures.try_again();
            self.held.attached.values_mut().for_each(Attempt::try_again);
            self.held
                .keep_tags
                .values_mut()
                .for_each(Attempt::try_again);
            self.stale = true;
        }
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_programs(now);
        }
        self.catch_up(now);
    }

    fn catch_up(&mut self, now: Instant) {
        if self.stale && self.is_ready() {
            self.stale = false;
            self.reconcile(now);
        }
    }

    /// The next command, until there is none.
    pub fn next_command(&mut self) -> Option<Command> {
        while let Some(command) = self.commands.pop_front() {
            match command {
                // The VIP's owner may have changed since.
                Command::Put(entry, _) => match self.held.vips.get(&entry) {
                    Some(vip) => return Some(Command::Put(entry, *vip)),
                    None => continue,
                },
                command => return Some(command),
            }
        }
        None
    }

    /// Whether work can proceed at once: commands to carry out, or inputs for [`poll`](Self::poll).
    pub fn is_behind(&self) -> bool {
        !self.commands.is_empty() || (self.stale && self.is_ready())
    }

    /// The announcements that are due, most urgent first. None while commands wait: what is
    /// announced must be answered.
    pub fn announcements(&mut self, now: Instant) -> Vec<Announcement> {
        if !self.commands.is_empty() {
            return Vec::new();
        }
        self.announcer.poll(now)
    }

    /// Notes the outcome of an announcement.
    pub fn announced(&mut self, announcement: &Announcement, outcome: Outcome, now: Instant) {
        self.announcer.sent(announcement, outcome, now);
        let place = Place {
            address: announcement.vip,
            link: announcement.link,
        };
        if outcome == Outcome::Sent
            && let Some(Placed { entry, .. }) = self.live.get(&place).copied()
        {
            let sent = self.announced.entry(place);
            let sent = sent.or_insert(Sent {
                count: 0,
                last: now,
            });
            sent.count += 1;
            sent.last = now;
            if self.announcer.is_announced(place.address, place.link) {
                self.mark_announced(entry, true);
            }
        }
    }

    /// Notes that the kernel refused a step: it is retried later, and reported once.
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
            joined,
            in_time,
        } = adopted;
        self.slots = Slots::taken(vips.values().map(|vip| vip.slot));
        if in_time {
            self.unbroken = vips
                .iter()
                .filter(|(_, vip)| vip.action == Action::Answer && vip.is_announced())
                .map(|(entry, _)| *entry)
                .collect();
        }
        self.held.vips = vips;
        self.held.links = links;
        self.held.joined = joined;
        // An earlier agent's program runs there: attaching this agent's replaces it.
        let attached = attached.into_iter();
        self.held.attached = attached.map(|index| (index, Attempt::default())).collect();
    }

    fn claimed(&mut self, entry: Entry, by: Mac, now: Instant) {
        /// One line per DEFEND_INTERVAL (RFC 5227 §2.4 (c)) is enough for all claimants: a host
        /// that forges frames can claim from any number of MACs.
        const TELL: Duration = Duration::from_secs(10);
        let conflict = self.conflicts.entry(entry).or_insert(Conflict {
            by,
            claims: 0,
            told: now,
        });
        let told_lately = conflict.claims > 0 && now < conflict.told + TELL;
        conflict.claims += 1;
        conflict.by = by;
        if !told_lately {
            conflict.told = now;
            let notice = Notice::Conflict(entry.address, by);
            self.commands.push_back(Command::Tell(notice));
        }
        self.defend(entry.address, |placed| placed.entry == entry, now);
    }

    /// Announces a VIP once in some of its places, unless that was done lately.
    fn defend(&mut self, vip: IpAddr, concerns: impl Fn(&Placed) -> bool, now: Instant) {
        for (place, placed) in self.live_places_of(vip) {
            if concerns(&placed) {
                self.announcer.defend(vip, place.link, now);
            }
        }
    }

    /// The name of a link, for people.
    fn link_name(&self, index: u32) -> String {
        let link = self.links.as_ref().and_then(|links| links.get(index));
        link.map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    }
}
