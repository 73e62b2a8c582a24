//! When to announce which VIP on which link.
//!
//! [`Announcer`] takes events and the time, and returns the frames to send and the time of the next
//! call. It has neither clock nor sockets.
//!
//! Three rules always hold, even if a VIP is withdrawn and taken over again: two announcements of a
//! VIP on a link are more than one second apart; three neighbor advertisements in a row are
//! followed by five seconds of silence, unless the VIP was taken over again or its MAC changed; and
//! a VIP is defended at most once in ten seconds. The exception is [`Announcer::contend`].

mod frames;
mod queue;
mod refresh;
mod vip;
mod withdrawn;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use frames::{Frames, conflict_probe};

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use speaker_common::wire::Mac;

use queue::{Lane, Queue};
use refresh::Refresh;
use vip::{Limit, Past, Vip};
use withdrawn::Withdrawn;

/// How often and how fast to announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The period in which every VIP is announced once even if nothing has changed, because
    /// switches forget MACs after 300 s, and some routers resolve again only after they have lost
    /// traffic. At least 5 s; zero: never.
    pub refresh: Duration,
    /// Shifts a node's refreshes against those of other nodes: a hash of its name.
    pub seed: u64,
    /// The most frames in a batch; at least two (one IPv4 VIP).
    pub batch: usize,
    /// The pause between two batches.
    pub interval: Duration,
}

impl Default for Config {
    /// 40,000 frames per second, about 30 Mbit/s: 10,000 IPv4 VIPs are announced in half a second.
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(150),
            seed: 0,
            batch: 400,
            interval: Duration::from_millis(10),
        }
    }
}

/// Why a VIP is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// This node began to answer for it.
    TakeOver,
    /// Its link has carrier again.
    LinkUp,
    /// Its link has another MAC.
    MacChanged,
    /// Its bond sends through another member.
    BondFailover,
    /// Another host claims it.
    Defence,
    /// Nothing has changed for a refresh period.
    Refresh,
}

/// The frames of one announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The VIP.
    pub vip: IpAddr,
    /// The interface index of the link to send on.
    pub link: u32,
    /// Why it is announced.
    pub cause: Cause,
    /// The frames to send.
    pub frames: Frames,
    time: Instant,
    before: Past,
}

/// The outcome of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one of its frames went out.
    Sent,
    /// None of its frames went out.
    Failed,
}

/// A VIP on a link. The keys of one link are consecutive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    link: u32,
    vip: IpAddr,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    mac: Mac,
    up: bool,
}

#[derive(Debug)]
struct Held {
    vip: Vip,
    queued: Option<(Lane, Instant)>,
}

/// Decides when to announce which VIP.
///
/// A call about a VIP takes O(log n) in the number of VIPs, and a call about a link that for each
/// of the link's VIPs.
#[derive(Debug)]
pub struct Announcer {
    batch: usize,
    interval: Duration,
    refresh: Refresh,
    links: BTreeMap<u32, Link>,
    held: BTreeMap<Key, Held>,
    withdrawn: Withdrawn<Key>,
    queue: Queue<Key>,
    /// When the next batch may be sent.
    next_batch: Option<Instant>,
}

impl Announcer {
    /// An announcer without VIPs and links.
    pub fn new(config: &Config, now: Instant) -> Self {
        Self {
            batch: config.batch.max(2),
            interval: config.interval,
            refresh: Refresh::new(config.refresh, config.seed, now),
            links: BTreeMap::new(),
            held: BTreeMap::new(),
            withdrawn: Withdrawn::new(),
            queue: Queue::new(),
            next_batch: None,
        }
    }

    /// This node answers for `vip` on `link` from now on, or hosts may believe otherwise: announces
    /// it at 0, 1.1 and 2.2 s, and once more 5 s later. If the link is down, that waits until it is
    /// up.
    pub fn take_over(&mut self, vip: IpAddr, link: u32, now: Instant) {
        let key = Key { link, vip };
        let held = self.hold(key, now);
        held.vip.changed();
        held.vip.announce(Cause::TakeOver, now);
        self.requeue(key);
    }

    /// This node has answered for `vip` on `link` all along, under an earlier agent: only the
    /// refreshes continue.
    pub fn keep(&mut self, vip: IpAddr, link: u32, now: Instant) {
        let key = Key { link, vip };
        let refresh = self.refresh;
        self.hold(key, now).vip.keep(now, &refresh);
        self.requeue(key);
    }

    /// Whether all announcements after the last change have been sent: only refreshes are left.
    pub fn is_announced(&self, vip: IpAddr, link: u32) -> bool {
        let held = self.held.get(&Key { link, vip });
        held.is_some_and(|held| held.vip.is_announced())
    }

    /// This node no longer answers for `vip` on `link`: nothing more is sent.
    pub fn withdraw(&mut self, vip: IpAddr, link: u32) {
        let key = Key { link, vip };
        if let Some(held) = self.held.remove(&key) {
            self.unqueue(key, held.queued);
            self.withdrawn.insert(key, held.vip.past());
        }
    }

    /// `link` has carrier and this MAC. If either is new, announces all its VIPs as after a
    /// take-over.
    pub fn link_up(&mut self, link: u32, mac: Mac, now: Instant) {
        let before = self.links.insert(link, Link { mac, up: true });
        let cause = match before {
            Some(Link { up: true, mac: old }) if old == mac => return,
            Some(Link { up: true, .. }) => Cause::MacChanged,
            Some(Link { up: false, .. }) | None => Cause::LinkUp,
        };
        let new_mac = before.is_none_or(|before| before.mac != mac);
        self.announce_link(link, cause, new_mac, now);
    }

    /// `link` has lost its carrier: keeps its VIPs, but sends nothing until it is up.
    pub fn link_down(&mut self, link: u32) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        state.up = false;
        for key in self.vips_of(link) {
            if let Some(held) = self.held.get_mut(&key) {
                held.vip.silence();
            }
            self.requeue(key);
        }
    }

    /// `link` is gone, and its VIPs with it. A new link of that name has another index.
    pub fn link_gone(&mut self, link: u32) {
        self.links.remove(&link);
        for Key { vip, .. } in self.vips_of(link) {
            self.withdraw(vip, link);
        }
    }

    /// The bond `link` sends through another member, and switches have to learn the new port:
    /// announces all its VIPs as after a take-over.
    pub fn bond_failover(&mut self, link: u32, now: Instant) {
        self.announce_link(link, Cause::BondFailover, false, now);
    }

    /// Another host claims `vip` on `link`: announces it once, unless it was defended less than 10
    /// s ago (RFC 5227 §2.4 (c)).
    pub fn defend(&mut self, vip: IpAddr, link: u32, now: Instant) {
        let key = Key { link, vip };
        if let Some(held) = self.held.get_mut(&key)
            && self.links.get(&link).is_some_and(|link| link.up)
        {
            held.vip.defend(now);
            self.requeue(key);
        }
    }

    /// Another node of the cluster claims `vip` on `link`, and messages do not reach it: announces
    /// the VIP 50 ms after the last announcement or at once, since both answer until the other node
    /// sees this one; then as after a take-over.
    pub fn contend(&mut self, vip: IpAddr, link: u32, now: Instant) {
        self.take_over(vip, link, now);
        let key = Key { link, vip };
        if let Some(held) = self.held.get_mut(&key)
            && self.links.get(&link).is_some_and(|link| link.up)
        {
            held.vip.contend(now);
            self.requeue(key);
        }
    }

    /// When to call [`poll`](Self::poll) next; `None`: after the next event.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.queue.earliest()?;
        Some(self.next_batch.map_or(due, |next| due.max(next)))
    }

    /// The next batch of due announcements, the most urgent first. Their outcomes are to be passed
    /// to [`sent`](Self::sent).
    pub fn poll(&mut self, now: Instant) -> Vec<Announcement> {
        self.withdrawn.expire(now);
        if self.next_batch.is_some_and(|next| now < next) {
            return Vec::new();
        }
        let mut batch = Vec::new();
        let mut room = self.batch;
        while let Some(key) = self.queue.due(now)
            && let Some(rest) = room.checked_sub(Frames::count(key.vip))
        {
            room = rest;
            batch.push(self.announce(key, now));
        }
        if !batch.is_empty() {
            self.next_batch = Some(now + self.interval);
        }
        batch
    }

    /// Notes the outcome of an announcement. One that failed is tried again after 100 ms, then with
    /// a backoff of up to 6.4 s.
    pub fn sent(&mut self, announcement: &Announcement, outcome: Outcome, now: Instant) {
        let Announcement {
            vip,
            link,
            cause,
            frames: _,
            time,
            before,
        } = *announcement;
        let key = Key { link, vip };
        let Some(held) = self.held.get_mut(&key) else {
            return;
        };
        match outcome {
            Outcome::Sent => held.vip.sent(time),
            Outcome::Failed => {
                held.vip.failed(time, cause, before, now);
                self.requeue(key);
            }
        }
    }

    fn hold(&mut self, key: Key, now: Instant) -> &mut Held {
        self.withdrawn.expire(now);
        self.held.entry(key).or_insert_with(|| {
            let past = self.withdrawn.take(&key).unwrap_or_default();
            Held {
                vip: Vip::new(limit(key.vip), self.refresh.phase(), past),
                queued: None,
            }
        })
    }

    fn announce(&mut self, key: Key, now: Instant) -> Announcement {
        let Key { link, vip } = key;
        let held = self.held.get_mut(&key).expect("what is queued is held");
        let before = held.vip.past();
        let cause = held.vip.announced(now, &self.refresh);
        let mac = self
            .links
            .get(&link)
            .expect("what is queued has a link")
            .mac;
        self.queue.end_turn();
        self.requeue(key);
        Announcement {
            vip,
            link,
            cause,
            frames: Frames::new(vip, mac),
            time: now,
            before,
        }
    }

    fn announce_link(&mut self, link: u32, cause: Cause, new_mac: bool, now: Instant) {
        for key in self.vips_of(link) {
            if let Some(held) = self.held.get_mut(&key) {
                if new_mac {
                    held.vip.changed();
                }
                held.vip.announce(cause, now);
            }
            self.requeue(key);
        }
    }

    fn vips_of(&self, link: u32) -> Vec<Key> {
        let first = Key {
            link,
            vip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let last = Key {
            link,
            vip: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
        };
        self.held.range(first..=last).map(|(key, _)| *key).collect()
    }

    /// Puts a VIP into its place in the queue.
    fn requeue(&mut self, key: Key) {
        let up = self.links.get(&key.link).is_some_and(|link| link.up);
        let Some(held) = self.held.get_mut(&key) else {
            return;
        };
        let next = held.vip.next().filter(|_| up);
        let queued = std::mem::replace(&mut held.queued, next);
        self.unqueue(key, queued);
        if let Some((lane, due)) = next {
            self.queue.insert(lane, due, key);
        }
    }

    fn unqueue(&mut self, key: Key, queued: Option<(Lane, Instant)>) {
        if let Some((lane, due)) = queued {
            self.queue.remove(lane, due, key);
        }
    }
}

/// RFC 4861 §7.2.6 limits neighbor advertisements; ARP has no such limit.
const fn limit(vip: IpAddr) -> Limit {
    match vip {
        IpAddr::V4(_) => Limit::Gap,
        IpAddr::V6(_) => Limit::InARow,
    }
}
