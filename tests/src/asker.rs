//! Repeated requests for a VIP, to find out when it was answered and when not.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd as _,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    lab::{Capture, Frame, Host, Link},
    message::{self, BROADCAST, Mac, Message},
};

/// An answer takes less, even on a busy machine.
const LATE: Duration = Duration::from_millis(300);

/// Sends requests for a VIP from a host, each with its own sender address, so that each answer
/// belongs to one request.
#[derive(Debug)]
pub struct Asker {
    vip: IpAddr,
    wire: Capture,
    stop: Option<io::PipeWriter>,
    thread: JoinHandle<Result<()>>,
}

/// A request and its outcome.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// When it was sent.
    pub at: SystemTime,
    /// When it was answered, and the MAC in the answer.
    pub answer: Option<(SystemTime, Mac)>,
}

/// A host that answered for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answerer {
    /// The MAC in its answers.
    pub mac: Mac,
    /// When the first came.
    pub first: SystemTime,
    /// When the last came.
    pub last: SystemTime,
}

/// All requests of an [`Asker`], earliest first.
#[derive(Clone, Debug)]
pub struct Asked(pub Vec<Request>);

/// A second answer to a request: its time and MAC.
pub type Second = (SystemTime, Mac);

impl Asker {
    /// Starts asking from the host's `eth0`.
    pub fn start(client: &Host, vip: IpAddr, every: Duration) -> Result<Self> {
        Self::on(client, &client.eth0, vip, every)
    }

    /// Starts asking from one of the host's links.
    pub fn on(client: &Host, link: &Link, vip: IpAddr, every: Duration) -> Result<Self> {
        let wire = client.capture(&link.name)?;
        let socket = client.raw(&link.name)?;
        let mac = link.mac;
        let (stopped, stop) = io::pipe()?;
        let every = PollTimeout::try_from(every).context("the time between two requests")?;
        let thread = thread::spawn(move || {
            for number in 0..=u16::MAX {
                let frame = request(vip, mac, number);
                socket.send(&frame)?;
                let mut stopped = [PollFd::new(stopped.as_fd(), PollFlags::empty())];
                if poll(&mut stopped, every)? > 0 {
                    break;
                }
            }
            Ok(())
        });
        Ok(Self {
            vip,
            wire,
            stop: Some(stop),
            thread,
        })
    }

    /// Stops, and returns the results.
    ///
    /// # Panics
    ///
    /// If a request was answered twice.
    pub fn stop(self) -> Result<Asked> {
        let (asked, seconds) = self.stop_and_count()?;
        assert!(seconds.is_empty(), "answered twice: {seconds:?}");
        Ok(asked)
    }

    /// Stops, and returns the results and what was answered twice.
    pub fn stop_and_count(mut self) -> Result<(Asked, Vec<Second>)> {
        self.stop = None;
        self.thread.join().expect("it does not panic")?;
        thread::sleep(LATE);
        let mut requests = BTreeMap::new();
        let mut seconds = Vec::new();
        for frame in self.wire.frames() {
            let Some((number, answer)) = number(&frame, self.vip) else {
                continue;
            };
            match answer {
                None => {
                    let at = frame.at;
                    requests.insert(number, Request { at, answer: None });
                }
                Some(mac) => {
                    let request: &mut Request =
                        requests.get_mut(&number).context("an answer unasked for")?;
                    match request.answer {
                        None => request.answer = Some((frame.at, mac)),
                        Some(_) => seconds.push((frame.at, mac)),
                    }
                }
            }
        }
        Ok((Asked(requests.into_values().collect()), seconds))
    }
}

impl Asked {
    /// Those that were not answered.
    pub fn unanswered(&self) -> Vec<Request> {
        let requests = self.0.iter().copied();
        requests
            .filter(|request| request.answer.is_none())
            .collect()
    }

    /// Those sent between two times.
    pub fn between(&self, from: SystemTime, to: SystemTime) -> Self {
        let requests = self.0.iter().copied();
        Self(requests.filter(|it| (from..to).contains(&it.at)).collect())
    }

    /// The last one answered before a time.
    pub fn last_answered(&self) -> Option<Request> {
        let mut requests = self.0.iter().rev().copied();
        requests.find(|it| it.answer.is_some())
    }

    /// Which MACs answered, in order, and when each did so first and last.
    pub fn answerers(&self) -> Vec<Answerer> {
        let mut answerers: Vec<Answerer> = Vec::new();
        for (at, mac) in self.0.iter().filter_map(|request| request.answer) {
            match answerers.last_mut() {
                Some(last) if last.mac == mac => last.last = at,
                _ => answerers.push(Answerer {
                    mac,
                    first: at,
                    last: at,
                }),
            }
        }
        answerers
    }

    /// The longest time without an answer between two answers.
    pub fn outage(&self) -> Duration {
        let answered = self.0.iter().filter_map(|it| Some(it.answer?.0));
        let times: Vec<SystemTime> = answered.collect();
        let gaps = times
            .windows(2)
            .map(|pair| pair[1].duration_since(pair[0]).unwrap_or_default());
        gaps.max().unwrap_or_default()
    }

    /// The MACs of the [`answerers`](Self::answerers).
    pub fn answered_by(&self) -> Vec<Mac> {
        self.answerers().iter().map(|it| it.mac).collect()
    }

    /// Whether each of at least `least` requests was answered with this MAC.
    #[track_caller]
    pub fn assert_all_answered(&self, least: usize, mac: Mac) {
        let Self(requests) = self;
        assert!(requests.len() >= least, "asked {} times", requests.len());
        let Some(first) = requests.first() else {
            return;
        };
        let wrong: Vec<_> = requests
            .iter()
            .filter(|it| it.answer.is_none_or(|(_, its)| its != mac))
            .map(|it| {
                (
                    it.at.duration_since(first.at).unwrap_or_default(),
                    it.answer,
                )
            })
            .collect();
        assert!(
            wrong.is_empty(),
            "{} of {} requests were not answered as they should: {wrong:?}",
            wrong.len(),
            requests.len()
        );
    }

    /// Whether none of at least `least` requests was answered.
    #[track_caller]
    pub fn assert_none_answered(&self, least: usize) {
        let Self(requests) = self;
        assert!(requests.len() >= least, "asked {} times", requests.len());
        let answered: Vec<_> = requests.iter().filter(|it| it.answer.is_some()).collect();
        assert!(answered.is_empty(), "answered: {answered:?}");
    }
}

/// RFC 2544 appendix C.2.2: for tests of this kind.
const SENDERS_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const SENDERS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0xffff, 0, 0, 0, 0);

fn request(vip: IpAddr, mac: Mac, number: u16) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => {
            let sender = Ipv4Addr::from(SENDERS_V4.to_bits() | u32::from(number));
            Message::arp_request((sender, mac), vip).frame(mac, BROADCAST)
        }
        IpAddr::V6(vip) => {
            let source = Ipv6Addr::from(SENDERS_V6.to_bits() | u128::from(number));
            let group = message::group_mac(message::solicited_node(vip));
            Message::solicitation((source, mac), vip).frame(mac, group)
        }
    }
}

/// The number of a request for the VIP, or of an answer with its MAC.
fn number(frame: &Frame, vip: IpAddr) -> Option<(u16, Option<Mac>)> {
    match (Message::of(frame)?, vip) {
        (Message::Arp { sender, target, .. }, IpAddr::V4(vip)) => {
            let ours = |sender: Ipv4Addr| {
                (sender.to_bits() >> 16 == SENDERS_V4.to_bits() >> 16)
                    .then_some(sender.to_bits() as u16)
            };
            match frame.sent {
                true if target.0 == vip => Some((ours(sender.0)?, None)),
                false if sender.0 == vip => Some((ours(target.0)?, Some(sender.1))),
                _ => None,
            }
        }
        (message, IpAddr::V6(vip)) => {
            let ours = |source: Ipv6Addr| {
                (source.to_bits() >> 16 == SENDERS_V6.to_bits() >> 16)
                    .then_some(source.to_bits() as u16)
            };
            match message {
                Message::Solicitation { source, target, .. } if frame.sent && target == vip => {
                    Some((ours(source)?, None))
                }
                Message::Advertisement {
                    destination,
                    target,
                    mac,
                    ..
                } if !frame.sent && target == vip => Some((ours(destination)?, Some(mac?))),
                _ => None,
            }
        }
        _ => None,
    }
}
