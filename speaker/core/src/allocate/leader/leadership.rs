//! One term of leadership, from the acquisition of the Lease.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    super::{Allocator, Failure, Outcome, Service, Usage},
    Change, Command, Lease, Notice, Pending, PoolWrite, StatusWrite, Term, Timing, Told,
    ledger::{Attempt, CAPACITY, Ledger},
    reported::Reported,
};
use crate::intent::ObjectName;

/// The first wait before a failed write is retried.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Leadership {
    term: Term,
    /// The Lease as it was last written. Its entries are in `ledger`.
    lease: Lease,
    timing: Timing,
    /// When the last successful write of the Lease was sent.
    confirmed: Instant,
    /// When the current write of the Lease was sent, if there is one.
    swapping: Option<Instant>,
    is_listed: bool,
    allocator: Allocator,
    ledger: Ledger,
    /// Services whose status differs from their outcome, and that have no entry yet.
    wanting: BTreeSet<ObjectName>,
    next_id: u64,
    /// The last write of each Service, until it is seen.
    begun: BTreeMap<ObjectName, Begun>,
    pools: BTreeMap<ObjectName, Counters>,
    /// When the counters may be written again, and whether that may be necessary.
    counters_at: Instant,
    is_recount_due: bool,
    reported: Reported,
    notices: Vec<Notice>,
}

#[derive(Debug)]
struct Begun {
    pending: Pending,
    is_gain: bool,
    lost: Option<Failure>,
}

#[derive(Debug, Default)]
struct Counters {
    shown: Option<Usage>,
    /// Written, and not seen since.
    written: Option<Usage>,
    is_writing: bool,
}

impl Leadership {
    pub(super) fn new(
        term: Term,
        mut lease: Lease,
        timing: Timing,
        since: Instant,
        reported: Reported,
    ) -> Self {
        Self {
            ledger: Ledger::inherited(mem::take(&mut lease.pending)),
            term,
            lease,
            timing,
            confirmed: since,
            swapping: None,
            is_listed: false,
            allocator: Allocator::default(),
            wanting: BTreeSet::new(),
            next_id: 0,
            begun: BTreeMap::new(),
            pools: BTreeMap::new(),
            counters_at: since,
            is_recount_due: false,
            reported,
            notices: Vec::new(),
        }
    }

    pub(super) const fn term(&self) -> Term {
        self.term
    }

    pub(super) fn allocator(&self) -> Option<&Allocator> {
        self.is_listed.then_some(&self.allocator)
    }

    /// What has been reported, for the next term.
    pub(super) fn into_reported(self) -> Reported {
        self.reported
    }

    /// When another controller may start to lead.
    pub(super) fn over_at(&self) -> Instant {
        self.confirmed + self.timing.duration
    }

    /// Whether another controller may lead by now.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.over_at()
    }

    /// The Lease to release, unless it is being written.
    pub(super) fn leave(&self) -> Option<Lease> {
        self.swapping.is_none().then(|| self.lease())
    }

    pub(super) fn wake(&self) -> Instant {
        let renewal = self.confirmed + self.timing.renew;
        let recount = self.is_listed && self.is_recount_due;
        let times = [
            self.swapping.is_none().then_some(renewal),
            recount.then_some(self.counters_at),
            self.ledger.wake(),
        ];
        times
            .into_iter()
            .flatten()
            .fold(self.over_at(), Instant::min)
    }

    pub(super) fn change(&mut self, change: Change) {
        self.is_recount_due = true;
        match change {
            Change::Service(service) => {
                let Service {
                    name, uid, version, ..
                } = (*service).clone();
                self.finish(&service);
                self.allocator.apply(*service);
                self.see(&name, Some((&uid, &version)));
            }
            Change::ServiceGone(name) => {
                if let Some((service, _)) = self.allocator.service(&name) {
                    self.reported.forget(service);
                }
                self.begun.remove(&name);
                self.allocator.delete(&name);
                self.see(&name, None);
            }
            Change::Pool(pool, shown) => {
                let counters = self.pools.entry(pool.name().clone()).or_default();
                counters.shown = shown;
                counters.written = None;
                self.allocator.apply_pool(pool);
            }
            Change::PoolRefused(name, why) => self.allocator.refuse_pool(name, why),
            Change::PoolGone(name) => {
                self.pools.remove(&name);
                self.allocator.delete_pool(&name);
            }
            Change::Namespace(name, labels) => self.allocator.apply_namespace(name, labels),
            Change::NamespaceGone(name) => self.allocator.delete_namespace(&name),
        }
    }

    pub(super) fn listed(&mut self) {
        self.is_listed = true;
        self.reported.listed(self.allocator.services());
        for name in self.ledger.names() {
            if self.allocator.service(&name).is_none() {
                self.see(&name, None);
            }
        }
    }

    pub(super) fn wrote(&mut self, id: u64, is_over: bool, now: Instant) {
        self.ledger.end(id, is_over, now);
    }

    pub(super) fn wrote_pool(&mut self, name: &ObjectName, is_done: bool) {
        if let Some(counters) = self.pools.get_mut(name) {
            counters.is_writing = false;
            if !is_done {
                counters.written = None;
                self.is_recount_due = true;
            }
        }
    }

    pub(super) fn swapped(&mut self, version: String, commands: &mut VecDeque<Command>) {
        self.lease.version = Some(version);
        if let Some(sent) = self.swapping.take() {
            self.confirmed = sent;
        }
        self.ledger.grant();
        for name in self.ledger.names() {
            self.check(&name, commands);
        }
    }

    /// Acts on the inputs.
    pub(super) fn run(&mut self, commands: &mut VecDeque<Command>, now: Instant) {
        if self.is_listed {
            let mut names = self.ledger.due(now);
            loop {
                self.allocator.settle();
                names.append(&mut self.allocator.take_changed());
                if names.is_empty() {
                    break;
                }
                self.is_recount_due = true;
                for name in mem::take(&mut names) {
                    self.check(&name, commands);
                }
            }
            self.count(commands, now);
        }
        commands.extend(self.notices.drain(..).map(Command::Tell));
        self.swap(commands, now);
    }

    fn lease(&self) -> Lease {
        Lease {
            pending: self.ledger.pending(),
            ..self.lease.clone()
        }
    }

    /// A Service has been seen at a different version than its write requires: the write has
    /// succeeded, or never will.
    fn finish(&mut self, seen: &Service) {
        let is_over = |it: &Begun| it.pending.uid != seen.uid || it.pending.version != seen.version;
        if self.begun.get(&seen.name).is_none_or(|it| !is_over(it)) {
            return;
        }
        let Some(begun) = self.begun.remove(&seen.name) else {
            return;
        };
        let Pending {
            name,
            uid,
            addresses,
            ..
        } = begun.pending;
        if uid != seen.uid || addresses != seen.shown {
            return;
        }
        let lost = begun.lost.map(Told::Cleared);
        let gained = begun.is_gain.then_some(Told::Allocated(addresses));
        for told in lost.into_iter().chain(gained) {
            let (name, uid) = (name.clone(), uid.clone());
            self.notices.push(Notice { name, uid, told });
        }
    }

    fn see(&mut self, name: &ObjectName, seen: Option<(&str, &str)>) {
        self.ledger.see(name, seen);
        self.allocator.hold(name, self.ledger.addresses(name));
    }

    /// Compares a Service's status with its outcome.
    fn check(&mut self, name: &ObjectName, commands: &mut VecDeque<Command>) {
        self.wanting.remove(name);
        let Some((service, outcome)) = self.allocator.service(name) else {
            return;
        };
        if !self.is_listed || !service.is_ours {
            return;
        }
        let (service, outcome) = (service.clone(), outcome.clone());
        self.tell(&service, &outcome);
        let is_right = service.shown == outcome.addresses && service.shown_pool == outcome.pool;
        let wanted = (!is_right).then_some(outcome.addresses.as_slice());
        if self.ledger.withdraw(name, wanted) {
            self.allocator.hold(name, self.ledger.addresses(name));
        }
        let Some(entry) = self.ledger.find(name, wanted) else {
            if wanted.is_some() {
                self.wanting.insert(name.clone());
            }
            return;
        };
        let backoff = match entry.attempt {
            _ if !entry.is_granted => return,
            Attempt::None => SHORTEST,
            Attempt::Due { backoff } => backoff,
            Attempt::UnderWay { .. } | Attempt::Unknown { .. } | Attempt::Over => return,
        };
        let id = self.next_id;
        self.next_id += 1;
        entry.attempt = Attempt::UnderWay { id, backoff };
        let mut pending = entry.pending.clone();
        let mut pool = outcome.pool;
        if wanted == Some(pending.addresses.as_slice()) {
            let is_new = |it: &IpAddr| !service.shown.contains(it);
            let begun = Begun {
                is_gain: pending.addresses.iter().any(is_new),
                pending: pending.clone(),
                lost: outcome.lost,
            };
            self.begun.insert(name.clone(), begun);
        } else {
            // Any other change rules this write out. This one leaves the addresses as they are, and
            // what it adds to the annotation is soon removed.
            pending.addresses = service.shown;
            pool = Some(service.shown_pool.unwrap_or_default() + " ");
        }
        commands.push_back(Command::Write(StatusWrite {
            term: self.term,
            id,
            pending,
            pool,
        }));
    }

    /// Reports why a Service has no address, once per reason.
    fn tell(&mut self, service: &Service, outcome: &Outcome) {
        let mut notice = |told| {
            self.notices.push(Notice {
                name: service.name.clone(),
                uid: service.uid.clone(),
                told,
            });
        };
        let is_failure =
            |it: &&Failure| outcome.addresses.is_empty() || matches!(it, Failure::Unreadable(_));
        let failure = outcome.missing.as_ref().filter(is_failure);
        let is_news = self.reported.is_failure_news(service, failure);
        if let Some(failure) = failure.filter(|_| is_news) {
            notice(Told::Failed(failure.clone()));
        }
        if self.reported.is_warning_news(service) {
            notice(Told::OldAnnotations(service.old_annotations.clone()));
        }
    }

    fn swap(&mut self, commands: &mut VecDeque<Command>, now: Instant) {
        if self.swapping.is_some() {
            return;
        }
        let mut is_due = now >= self.confirmed + self.timing.renew;
        while self.ledger.len() < CAPACITY
            && let Some(name) = self.wanting.pop_first()
        {
            let Some((service, outcome)) = self.allocator.service(&name) else {
                continue;
            };
            self.ledger.propose(Pending {
                name: name.clone(),
                uid: service.uid.clone(),
                version: service.version.clone(),
                addresses: outcome.addresses.clone(),
            });
            self.allocator.hold(&name, self.ledger.addresses(&name));
            is_due = true;
        }
        if is_due {
            self.swapping = Some(now);
            commands.push_back(Command::Swap(self.lease()));
        }
    }

    fn count(&mut self, commands: &mut VecDeque<Command>, now: Instant) {
        if !self.is_recount_due || now < self.counters_at {
            return;
        }
        self.is_recount_due = false;
        self.counters_at = now + self.timing.counters;
        for (name, usage) in self.allocator.usage() {
            let Some(counters) = self.pools.get_mut(name) else {
                continue;
            };
            if counters.is_writing {
                self.is_recount_due = true;
            } else if counters.written.or(counters.shown) != Some(usage) {
                counters.is_writing = true;
                counters.written = Some(usage);
                commands.push_back(Command::WritePool(PoolWrite {
                    term: self.term,
                    name: name.clone(),
                    usage,
                }));
            }
        }
    }
}
