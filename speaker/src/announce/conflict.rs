//! Checks whether other hosts on the network use VIPs.
#![forbid(unsafe_code)]

use std::{
    collections::{
        BTreeMap, BTreeSet,
        btree_map::Entry::{Occupied, Vacant},
    },
    io::{self, ErrorKind, Read as _},
    net::IpAddr,
    os::fd::AsFd as _,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::{Domain, SockFilter, Socket, Type};
use speaker_common::wire::Mac;
use speaker_core::{
    announce::conflict_probe, cluster::Occupancy, describe::Description, plan::Place,
};
use tracing::warn;

use super::packet::{self, Outgoing};
use crate::netlink;

/// Probes for each VIP (RFC 5227 §1.1, PROBE_NUM).
const PROBES: u32 = 3;
/// The time between two probes. RFC 5227 wants a second or two, for hosts that are booting; here,
/// only hosts that have used the address for a while matter.
const INTERVAL: Duration = Duration::from_millis(100);
/// The most VIPs probed in one go, and the pause before the next, in which replies are read: about
/// 30,000 a second, so 10,000 VIPs are checked in one second.
const BATCH: usize = 128;
const PAUSE: Duration = Duration::from_millis(4);

/// A VIP to check: where, and with which of this node's MACs.
type Request = (IpAddr, Vec<(Place, Mac)>);

/// Checks VIPs on a thread of its own, all together: there may be thousands at a time.
pub struct Checker {
    requests: mpsc::Sender<Request>,
}

impl Checker {
    /// Starts the thread, which hands each result to `tell`.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn start(tell: impl FnMut(IpAddr, Occupancy) + Send + 'static) -> io::Result<Self> {
        let (requests, waiting) = mpsc::channel();
        thread::Builder::new()
            .name("checker".into())
            .spawn(move || run(&waiting, tell))?;
        Ok(Self { requests })
    }

    /// Checks whether another host has a VIP in one of these places, which takes 300 ms unless one
    /// has. A VIP that is being checked already is checked from the beginning, with one result.
    pub fn check(&self, vip: IpAddr, places: Vec<(Place, Mac)>) {
        // The thread ends only after this.
        let _ = self.requests.send((vip, places));
    }
}

fn run(requests: &mpsc::Receiver<Request>, tell: impl FnMut(IpAddr, Occupancy)) {
    let mut checks = Checks::new(tell);
    while let Ok(first) = requests.recv() {
        checks.begin(first);
        while !checks.vips.is_empty() {
            requests
                .try_iter()
                .for_each(|request| checks.begin(request));
            let end = checks.probe();
            checks.listen(end);
        }
        checks.sockets.clear();
    }
}

/// The VIPs that are being checked.
struct Checks<T> {
    tell: T,
    vips: BTreeMap<IpAddr, Check>,
    /// When each is next probed, or found free.
    due: BTreeSet<(Instant, IpAddr)>,
    sockets: BTreeMap<u32, Socket>,
    /// The links on which probes cannot be sent, with the error that was logged.
    refused: BTreeMap<u32, String>,
}

struct Check {
    places: Vec<(Place, Mac)>,
    due: Instant,
    /// How many probes remain to be sent.
    left: u32,
    /// Probing failed in some place.
    failed: bool,
}

impl<T: FnMut(IpAddr, Occupancy)> Checks<T> {
    fn new(tell: T) -> Self {
        Self {
            tell,
            vips: BTreeMap::new(),
            due: BTreeSet::new(),
            sockets: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    fn begin(&mut self, (vip, places): Request) {
        self.end(vip);
        let due = Instant::now();
        let check = Check {
            places,
            due,
            left: PROBES,
            failed: false,
        };
        self.due.insert((due, vip));
        self.vips.insert(vip, check);
    }

    fn end(&mut self, vip: IpAddr) -> Option<Check> {
        let check = self.vips.remove(&vip)?;
        self.due.remove(&(check.due, vip));
        Some(check)
    }

    /// Probes the VIPs that are due, or a batch of them. Returns until when to listen.
    fn probe(&mut self) -> Instant {
        let now = Instant::now();
        for _ in 0..BATCH {
            match self.due.first() {
                Some(&(due, vip)) if due <= now => self.advance(vip, now),
                Some(&(due, _)) => return due.min(now + PAUSE),
                None => return now,
            }
        }
        Instant::now() + PAUSE
    }

    /// Probes a VIP, or finds it free if it has been probed often enough.
    fn advance(&mut self, vip: IpAddr, now: Instant) {
        let Some(mut check) = self.end(vip) else {
            return;
        };
        if check.left == 0 {
            let occupancy = match check.failed {
                true => Occupancy::Unknown,
                false => Occupancy::Free,
            };
            (self.tell)(vip, occupancy);
            return;
        }
        for &(place, mac) in &check.places {
            check.failed |= !self.send(place, mac);
        }
        check.left -= 1;
        check.due = now + INTERVAL;
        self.due.insert((check.due, vip));
        self.vips.insert(vip, check);
    }

    /// Sends a probe. An error is logged once.
    fn send(&mut self, place: Place, mac: Mac) -> bool {
        let link = place.link;
        let mut send = || -> io::Result<()> {
            let socket = match self.sockets.entry(link) {
                Occupied(socket) => socket.into_mut(),
                Vacant(entry) => entry.insert(open(link)?),
            };
            let frame = &conflict_probe(place.address, mac);
            packet::send(socket.as_fd(), &[Outgoing { link, frame }])?;
            Ok(())
        };
        match send() {
            Ok(()) => {
                self.refused.remove(&link);
                true
            }
            Err(error) if is_down(&error) => true,
            Err(error) => {
                self.refuse(link, &error);
                false
            }
        }
    }

    fn refuse(&mut self, link: u32, error: &io::Error) {
        let error = error.to_string();
        if self.refused.get(&link) != Some(&error) {
            warn!(
                "cannot check whether another host on {} uses a VIP: {error}; trying again",
                netlink::name(link)
            );
            self.refused.insert(link, error);
        }
    }

    /// Reads replies until then, or until no VIP is left to check.
    fn listen(&mut self, end: Instant) {
        while !self.vips.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            let mut polled: Vec<PollFd<'_>> = self
                .sockets
                .values()
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
                .collect();
            let timeout = left.as_micros().div_ceil(1_000);
            let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
            // An error means that the wait ended early, with nothing to read yet.
            let _ = poll(&mut polled, timeout);
            let links: Vec<u32> = self.sockets.keys().copied().collect();
            links.into_iter().for_each(|link| self.read(link));
            if left.is_zero() {
                return;
            }
        }
    }

    /// Reads what has arrived on a link: more than a batch of replies, but not so much that other
    /// links wait long.
    fn read(&mut self, link: u32) {
        let mut buffer = [0; 2_048];
        for _ in 0..2 * BATCH {
            let Some(mut socket) = self.sockets.get(&link) else {
                return;
            };
            match socket.read(&mut buffer) {
                Ok(length) => self.hear(link, &buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.lose(link, &error),
            }
        }
    }

    fn hear(&mut self, link: u32, frame: &[u8]) {
        let Some((vip, by)) = Description::of(frame).and_then(|it| it.claim()) else {
            return;
        };
        let is_claimed = self.vips.get(&vip).is_some_and(|check| {
            let mut places = check.places.iter();
            let here = places.any(|(place, _)| place.link == link);
            here && check.places.iter().all(|(_, own)| *own != by)
        });
        if is_claimed {
            self.end(vip);
            (self.tell)(vip, Occupancy::InUse);
        }
    }

    /// A socket fails when its link goes down or disappears: the next probe opens another one.
    fn lose(&mut self, link: u32, error: &io::Error) {
        self.sockets.remove(&link);
        if is_down(error) {
            return;
        }
        self.refuse(link, error);
        for check in self.vips.values_mut() {
            check.failed |= check.places.iter().any(|(place, _)| place.link == link);
        }
    }
}

/// Whether a link is switched off, so that no host can be there.
fn is_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENETDOWN as i32)
}

/// A socket that receives only the ARP and Neighbor Discovery frames of a link: reading all its
/// traffic could take too long.
fn open(link: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    // Before the socket is bound and begins to receive.
    socket.attach_filter(&filter())?;
    packet::bind(socket.as_fd(), link)?;
    Ok(socket)
}

/// In classic BPF: ARP, and ICMPv6 135 and 136 right behind the IPv6 header.
fn filter() -> [SockFilter; 10] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // Jumps are relative to the next instruction.
    [
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(IF_EQUAL, 6, 0, libc::ETH_P_ARP as u32),
        SockFilter::new(IF_EQUAL, 0, 4, libc::ETH_P_IPV6 as u32),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 6),
        SockFilter::new(IF_EQUAL, 0, 2, libc::IPPROTO_ICMPV6 as u32),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 40),
        SockFilter::new(IF_EQUAL, 1, 0, 135),
        SockFilter::new(IF_EQUAL, 0, 1, 136),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
#[path = "conflict_tests.rs"]
mod tests;
