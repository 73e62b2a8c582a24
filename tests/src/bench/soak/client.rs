//! A client that requests VIPs in turn until it is stopped, and records what went wrong.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use anyhow::Result;

use crate::{
    lab::{Frame, Host, RawSocket},
    message::{BROADCAST, Mac, Message},
};

/// The interval between requests, which take the VIPs in turn.
const EVERY: Duration = Duration::from_millis(2);
/// An answer takes less, even on a busy machine.
const LATE: Duration = Duration::from_secs(1);
/// RFC 2544 appendix C.2.2: for tests of this kind. Each request has its own sender address, so
/// that each answer belongs to one; addresses are reused long after an answer would be late.
const SENDERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// A request that was not answered by exactly one host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anomaly {
    pub(super) at: SystemTime,
    pub(super) vip: Ipv4Addr,
    /// How many answered it: none, or more than one.
    pub(super) answers: usize,
}

/// Its results.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) anomalies: Vec<Anomaly>,
}

/// Asks on a thread of its own.
pub(super) struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

/// A request that may still be answered.
struct Open {
    sender: Ipv4Addr,
    vip: Ipv4Addr,
    at: SystemTime,
    answers: Vec<Mac>,
}

impl Client {
    /// Begins to ask, from the host's `eth0`.
    pub(super) fn start(host: &Host, vips: Vec<Ipv4Addr>) -> Result<Self> {
        let socket = host.raw("eth0")?;
        let mac = host.eth0.mac;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || ask(&socket, mac, &vips, &stopped));
        Ok(Self { stop, thread })
    }

    /// Ends it, and tells how it went.
    pub(super) fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

fn ask(socket: &RawSocket, mac: Mac, vips: &[Ipv4Addr], stopped: &AtomicBool) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut open: VecDeque<Open> = VecDeque::new();
    for vip in vips.iter().cycle() {
        let now = SystemTime::now();
        while let Some(first) = open.pop_front_if(|it| now > it.at + LATE) {
            seen.requests += 1;
            if first.answers.len() != 1 {
                seen.anomalies.push(Anomaly {
                    at: first.at,
                    vip: first.vip,
                    answers: first.answers.len(),
                });
            }
        }
        if stopped.load(Ordering::Relaxed) {
            // Requests still pending are not lost: nobody has waited for them.
            return Ok(seen);
        }
        let number = (seen.requests as usize + open.len()) as u16;
        let sender = Ipv4Addr::from_bits(SENDERS.to_bits() | u32::from(number));
        let request = Message::arp_request((sender, mac), *vip).frame(mac, BROADCAST);
        socket.send(&request)?;
        open.push_back(Open {
            sender,
            vip: *vip,
            at: now,
            answers: Vec::new(),
        });
        // No frame ends the wait early: the time-out is no error.
        let _ = socket.receive_matching(EVERY, |frame| {
            note(&mut open, frame);
            false
        });
    }
    Ok(seen)
}

fn note(open: &mut VecDeque<Open>, frame: &Frame) {
    let Some(Message::Arp { sender, target, .. }) = Message::of(frame) else {
        return;
    };
    let request = open
        .iter_mut()
        .rev()
        .find(|it| it.sender == target.0 && it.vip == sender.0);
    if let Some(request) = request {
        request.answers.push(sender.1);
    }
}
