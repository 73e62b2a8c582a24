//! A wire in virtual time.

use std::{
    net::IpAddr,
    sync::LazyLock,
    time::{Duration, Instant},
};

use speaker_common::wire::Mac;

use super::{Announcement, Announcer, Cause, Config, Outcome};

pub(super) const LINK: u32 = 3;
pub(super) const MAC: Mac = [0x02, 0, 0, 0, 0, 0x03];
pub(super) const OTHER_MAC: Mac = [0x02, 0, 0, 0, 0, 0x04];

pub(super) fn at(milliseconds: u64) -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the origin of virtual time: any instant will do"
    )]
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *ORIGIN + Duration::from_millis(milliseconds)
}

/// The `n`th IPv4 VIP.
pub(super) fn v4(n: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + n).to_be_bytes())
}

/// The `n`th IPv6 VIP.
pub(super) fn v6(n: u32) -> IpAddr {
    IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(n)).to_be_bytes())
}

pub(super) const NO_REFRESH: Config = Config {
    refresh: Duration::ZERO,
    seed: 0,
    batch: 400,
    interval: Duration::from_millis(10),
};

/// Polls an announcer when due, and records what it sends.
pub(super) struct Wire {
    pub(super) announcer: Announcer,
    /// When, in milliseconds, and what.
    pub(super) log: Vec<(u64, Announcement)>,
    /// Whether frames get out.
    pub(super) works: bool,
    now: Instant,
}

impl Wire {
    /// With [`LINK`] up.
    pub(super) fn new(config: &Config) -> Self {
        let mut announcer = Announcer::new(config, at(0));
        announcer.link_up(LINK, MAC, at(0));
        Self {
            announcer,
            log: Vec::new(),
            works: true,
            now: at(0),
        }
    }

    /// Advances time up to and including `end`, in milliseconds.
    pub(super) fn run(&mut self, end: u64) -> &mut Self {
        let mut polled = None;
        while let Some(next) = self
            .announcer
            .poll_timeout()
            .filter(|next| *next <= at(end))
        {
            assert!(
                Some(next) > polled,
                "polled again without the time having passed"
            );
            polled = Some(next);
            self.now = self.now.max(next);
            self.poll();
        }
        self.now = at(end);
        self
    }

    fn poll(&mut self) {
        let now = self.now;
        let outcome = if self.works {
            Outcome::Sent
        } else {
            Outcome::Failed
        };
        for announcement in self.announcer.poll(now) {
            self.announcer.sent(&announcement, outcome, now);
            let time = (now - at(0)).as_millis() as u64;
            self.log.push((time, announcement));
        }
    }

    /// What was sent since the last call.
    pub(super) fn sent(&mut self) -> Vec<(u64, Cause)> {
        self.log
            .drain(..)
            .map(|(time, announcement)| (time, announcement.cause))
            .collect()
    }
}
