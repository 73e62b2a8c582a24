//! The three rules of the module, for any sequence of events.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    testing::{MAC, OTHER_MAC, at, v4, v6},
    vip::DEFEND_INTERVAL,
    *,
};

const LINKS: u32 = 2;

#[derive(Clone, Copy, Debug)]
enum Event {
    Keep {
        vip: usize,
        link: u32,
    },
    TakeOver {
        vip: usize,
        link: u32,
    },
    Withdraw {
        vip: usize,
        link: u32,
    },
    LinkUp {
        link: u32,
        other_mac: bool,
    },
    LinkDown {
        link: u32,
    },
    LinkGone {
        link: u32,
    },
    BondFailover {
        link: u32,
    },
    Defend {
        vip: usize,
        link: u32,
    },
    Contend {
        vip: usize,
        link: u32,
    },
    /// Polls when due.
    Run {
        milliseconds: u64,
    },
    /// Polls only at the end of it.
    Oversleep {
        milliseconds: u64,
    },
    /// From now on, frames cannot be sent on the link, or can again.
    Break {
        link: u32,
        broken: bool,
    },
}

fn vips() -> [IpAddr; 4] {
    [v4(1), v4(2), v6(1), v6(2)]
}

fn event() -> impl Strategy<Value = Event> {
    let vip = 0..vips().len();
    let link = 0..LINKS;
    prop_oneof![
        1 => (vip.clone(), link.clone()).prop_map(|(vip, link)| Event::Keep { vip, link }),
        4 => (vip.clone(), link.clone()).prop_map(|(vip, link)| Event::TakeOver { vip, link }),
        2 => (vip.clone(), link.clone()).prop_map(|(vip, link)| Event::Withdraw { vip, link }),
        2 => (link.clone(), any::<bool>())
            .prop_map(|(link, other_mac)| Event::LinkUp { link, other_mac }),
        1 => link.clone().prop_map(|link| Event::LinkDown { link }),
        1 => link.clone().prop_map(|link| Event::LinkGone { link }),
        1 => link.clone().prop_map(|link| Event::BondFailover { link }),
        4 => (vip.clone(), link.clone()).prop_map(|(vip, link)| Event::Defend { vip, link }),
        2 => (vip, link.clone()).prop_map(|(vip, link)| Event::Contend { vip, link }),
        6 => (0..3_000_u64).prop_map(|milliseconds| Event::Run { milliseconds }),
        1 => (5_000..40_000_u64).prop_map(|milliseconds| Event::Run { milliseconds }),
        1 => (0..8_000_u64).prop_map(|milliseconds| Event::Oversleep { milliseconds }),
        1 => (link, any::<bool>()).prop_map(|(link, broken)| Event::Break { link, broken }),
    ]
}

/// What a host on the wire has heard about a VIP.
#[derive(Default)]
struct Heard {
    last: Option<Instant>,
    in_a_row: u8,
    defended: Option<Instant>,
    /// The next announcement may come after 50 ms.
    contended: bool,
}

struct World {
    announcer: Announcer,
    now: Instant,
    links: BTreeMap<u32, Link>,
    broken: [bool; LINKS as usize],
    /// What is announced, and whether the wire has yet to hear it.
    held: BTreeMap<Key, bool>,
    heard: BTreeMap<Key, Heard>,
}

impl World {
    fn new(config: &Config) -> Self {
        Self {
            announcer: Announcer::new(config, at(0)),
            now: at(0),
            links: BTreeMap::new(),
            broken: [false; LINKS as usize],
            held: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    fn apply(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Keep { vip, link } => {
                let vip = vips()[vip];
                self.announcer.keep(vip, link, now);
                self.held.insert(Key { link, vip }, false);
            }
            Event::TakeOver { vip, link } => {
                let vip = vips()[vip];
                self.announcer.take_over(vip, link, now);
                self.held.insert(Key { link, vip }, true);
                self.heard.entry(Key { link, vip }).or_default().in_a_row = 0;
            }
            Event::Withdraw { vip, link } => {
                let vip = vips()[vip];
                self.announcer.withdraw(vip, link);
                self.held.remove(&Key { link, vip });
                self.heard.entry(Key { link, vip }).or_default().contended = false;
            }
            Event::LinkUp { link, other_mac } => {
                let mac = if other_mac { OTHER_MAC } else { MAC };
                self.announcer.link_up(link, mac, now);
                let before = self.links.insert(link, Link { mac, up: true });
                if before.is_none_or(|before| before.mac != mac) {
                    self.heard_on(link).for_each(|heard| heard.in_a_row = 0);
                    self.news(link);
                } else if before.is_some_and(|before| !before.up) {
                    self.news(link);
                }
            }
            Event::LinkDown { link } => {
                self.announcer.link_down(link);
                self.heard_on(link)
                    .for_each(|heard| heard.contended = false);
                if let Some(link) = self.links.get_mut(&link) {
                    link.up = false;
                }
            }
            Event::LinkGone { link } => {
                self.announcer.link_gone(link);
                self.heard_on(link)
                    .for_each(|heard| heard.contended = false);
                self.links.remove(&link);
                self.held.retain(|key, _| key.link != link);
            }
            Event::BondFailover { link } => {
                self.announcer.bond_failover(link, now);
                self.news(link);
            }
            Event::Defend { vip, link } => self.announcer.defend(vips()[vip], link, now),
            Event::Contend { vip, link } => {
                let vip = vips()[vip];
                self.announcer.contend(vip, link, now);
                self.held.insert(Key { link, vip }, true);
                let heard = self.heard.entry(Key { link, vip }).or_default();
                heard.in_a_row = 0;
                heard.contended = self.links.get(&link).is_some_and(|link| link.up);
            }
            Event::Run { milliseconds } => self.run(now + Duration::from_millis(milliseconds)),
            Event::Oversleep { milliseconds } => {
                self.now += Duration::from_millis(milliseconds);
                self.poll();
            }
            Event::Break { link, broken } => self.broken[link as usize] = broken,
        }
    }

    fn heard_on(&mut self, link: u32) -> impl Iterator<Item = &mut Heard> {
        let heard = self.heard.iter_mut();
        heard.filter_map(move |(key, heard)| (key.link == link).then_some(heard))
    }

    fn news(&mut self, link: u32) {
        for (_, news) in self.held.iter_mut().filter(|(key, _)| key.link == link) {
            *news = true;
        }
    }

    fn run(&mut self, end: Instant) {
        while let Some(next) = self.announcer.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.poll();
        }
        self.now = end;
    }

    fn poll(&mut self) {
        let now = self.now;
        for announcement in self.announcer.poll(now) {
            let Announcement { vip, link, .. } = announcement;
            let state = self.links[&link];
            assert!(state.up);
            assert_eq!(announcement.frames, Frames::new(vip, state.mac));
            if self.broken[link as usize] {
                self.announcer.sent(&announcement, Outcome::Failed, now);
                self.heard.entry(Key { link, vip }).or_default().contended = false;
            } else {
                self.announcer.sent(&announcement, Outcome::Sent, now);
                self.hear(&announcement);
            }
        }
    }

    fn hear(&mut self, announcement: &Announcement) {
        let Announcement {
            vip, link, cause, ..
        } = *announcement;
        let key = Key { link, vip };
        *self
            .held
            .get_mut(&key)
            .expect("only what is held is announced") = false;
        let heard = self.heard.entry(key).or_default();
        let contended = std::mem::take(&mut heard.contended);
        let passed = heard.last.map(|last| self.now - last);
        let gap = Duration::from_millis(if contended { 50 } else { 1_001 });
        assert!(passed.is_none_or(|passed| passed >= gap), "{passed:?}");
        if passed.is_some_and(|passed| passed < Duration::from_secs(5)) {
            heard.in_a_row += 1;
        } else {
            heard.in_a_row = 1;
        }
        assert!(
            vip.is_ipv4() || contended || heard.in_a_row <= 3,
            "{} in a row",
            heard.in_a_row
        );
        heard.last = Some(self.now);
        if cause == Cause::Defence {
            let passed = heard.defended.map(|defended| self.now - defended);
            assert!(
                passed.is_none_or(|passed| passed >= Duration::from_secs(10)),
                "{passed:?}"
            );
            heard.defended = Some(self.now);
        }
    }

    /// Heals everything: within the longest wait, the wire has heard everything new; later, nothing
    /// is remembered about withdrawn VIPs.
    fn calm(&mut self) {
        self.broken = [false; LINKS as usize];
        for link in 0..LINKS {
            self.apply(Event::LinkUp {
                link,
                other_mac: true,
            });
        }
        self.run(self.now + Duration::from_millis(6_400 + 100));
        assert!(self.held.values().all(|news| !news), "{:?}", self.held);
        assert!(self.announcer.held.keys().eq(self.held.keys()));
        self.run(self.now + DEFEND_INTERVAL);
        self.poll();
        assert!(self.announcer.withdrawn.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_happens(
        refresh in prop_oneof![Just(0_u64), Just(7), Just(150)],
        batch in 0_usize..8,
        events in prop::collection::vec(event(), 1..150),
    ) {
        let config = Config {
            refresh: Duration::from_secs(refresh),
            seed: 1,
            batch,
            interval: Duration::from_millis(10),
        };
        let mut world = World::new(&config);
        for event in events {
            world.apply(event);
        }
        world.calm();
    }
}
