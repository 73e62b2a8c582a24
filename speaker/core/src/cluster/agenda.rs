//! Which VIPs to decide about, and when.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use super::Cluster;

#[derive(Debug, Default)]
pub(super) struct Agenda {
    now: BTreeSet<IpAddr>,
    later: BTreeSet<(Instant, IpAddr)>,
}

impl Agenda {
    pub(super) fn add(&mut self, vip: IpAddr) {
        self.now.insert(vip);
    }

    pub(super) fn add_all<'a>(&mut self, vips: impl IntoIterator<Item = &'a IpAddr>) {
        self.now.extend(vips);
    }

    pub(super) fn add_at(&mut self, when: Instant, vip: IpAddr) {
        self.later.insert((when, vip));
    }

    /// Drops all pending decisions.
    pub(super) fn cancel(&mut self, vip: IpAddr) {
        self.now.remove(&vip);
    }

    /// Takes the VIPs that are due, at most `most`.
    pub(super) fn take(&mut self, most: usize, now: Instant) -> BTreeSet<IpAddr> {
        while let Some(&(at, vip)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, vip));
            self.now.insert(vip);
        }
        let rest = match self.now.iter().nth(most).copied() {
            Some(next) => self.now.split_off(&next),
            None => BTreeSet::new(),
        };
        std::mem::replace(&mut self.now, rest)
    }

    pub(super) fn wake(&self, now: Instant) -> Option<Instant> {
        let later = self.later.first().map(|(at, _)| *at);
        let now = (!self.now.is_empty()).then_some(now);
        later.into_iter().chain(now).min()
    }
}

impl Cluster {
    pub(super) fn decide_all(&mut self) {
        self.agenda.add_all(self.seats.keys());
    }
}
