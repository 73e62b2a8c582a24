//! Answers over a virtual cable: how many per second, and how quickly.
//!
//! Each contender has its own lab, a switch with one node and one client, and all take turns, so
//! that other load on the machine affects all alike. Native XDP except for the last two.

use std::{
    any::Any,
    fs, hint,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Limit, Row, median};
use crate::{
    agent::{Mode, Node},
    lab::{Frame, Host, Lab, RawSocket},
    message::{ArpOperation, Mac, Message},
    program::{self, object},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 240);
/// Turns of each contender that are not counted, and those that are.
const WARM: usize = 2;
const ROUNDS: usize = 5;
/// How long the client sends as fast as it can, in each turn.
const FLOOD: Duration = Duration::from_millis(400);
/// How long the client sends one request after the other, in each turn.
const DIALOGUE: Duration = Duration::from_millis(400);
/// A later answer does not count.
const LATE: Duration = Duration::from_millis(10);
/// After a flood, answers are awaited until none has arrived for the first of these times, but no
/// longer than the second.
const QUIET: Duration = Duration::from_millis(20);
const ECHO: Duration = Duration::from_secs(2);

pub(super) fn run() -> Result<Vec<Row>> {
    let mut contenders = vec![
        Contender::speaker()?,
        Contender::bare()?,
        Contender::kernel()?,
        Contender::process()?,
    ];
    let mut rows = Vec::new();
    for busy in [false, true] {
        let load = busy.then(Load::new);
        for round in 0..WARM + ROUNDS {
            for contender in &mut contenders {
                contender.turn()?;
                if round < WARM {
                    contender.forget();
                }
            }
        }
        drop(load);
        let when = if busy { "busy" } else { "idle" };
        rows.extend(table(&mut contenders, when)?);
    }
    Ok(rows)
}

fn table(contenders: &mut [Contender], when: &str) -> Result<Vec<Row>> {
    let results: Vec<_> = contenders
        .iter_mut()
        .map(|contender| Ok((contender.name, contender.results()?)))
        .collect::<Result<_>>()?;
    let (_, bare) = results[BARE];
    let mut rows = Vec::new();
    for (column, (what, unit)) in COLUMNS.into_iter().enumerate() {
        for (index, (name, values)) in results.iter().enumerate() {
            let is_limited = index == SPEAKER && column == ANSWERS;
            rows.push(Row {
                case: format!("{when}: {what}, {name}"),
                value: values[column],
                unit,
                baseline: Some(bare[column]),
                limit: is_limited.then_some(Limit::AtLeastTimes(0.9)),
            });
        }
    }
    Ok(rows)
}

/// Places among the contenders.
const SPEAKER: usize = 0;
const BARE: usize = 1;

/// Place among the columns.
const ANSWERS: usize = 0;
const COLUMNS: [(&str, &str); 5] = [
    ("answers a second", "answers/s"),
    ("answered of a flood", "%"),
    ("answered in 10 ms", "%"),
    ("time to answer, p50", "µs"),
    ("time to answer, p99", "µs"),
];

/// A responder, and its measurements since the last results.
struct Contender {
    name: &'static str,
    client: Host,
    socket: RawSocket,
    request: Vec<u8>,
    answers: Vec<f64>,
    share: Vec<f64>,
    microseconds: Vec<f64>,
    lost: usize,
    /// The responder and its host.
    _node: Box<dyn Any>,
    _lab: Lab,
}

impl Contender {
    fn speaker() -> Result<Self> {
        Self::new("speaker", VIP, |lab| {
            let node = Node::serving(lab, Mode::Native, &[VIP.into()])?;
            Ok((node.host.eth0.mac, Box::new(node)))
        })
    }

    fn bare() -> Result<Self> {
        Self::new("bare MAC swap", VIP, |lab| {
            let node = lab.host("node")?;
            node.eth0.port.enable_native_xdp()?;
            let attached = node.run(|| program::attach(object::YARDSTICK, "swap", "eth0"))?;
            Ok((node.eth0.mac, Box::new((node, attached))))
        })
    }

    fn kernel() -> Result<Self> {
        // The node is the first host of its lab.
        let own = Ipv4Addr::new(10, 0, 0, 1);
        Self::new("kernel's own ARP", own, |lab| {
            let node = lab.host("node")?;
            Ok((node.eth0.mac, Box::new(node)))
        })
    }

    fn process() -> Result<Self> {
        Self::new("AF_PACKET process", VIP, |lab| {
            let node = lab.host("node")?;
            let responder = Responder::start(node.raw("eth0")?, node.eth0.mac);
            Ok((node.eth0.mac, Box::new((node, responder))))
        })
    }

    fn new(
        name: &'static str,
        target: Ipv4Addr,
        node: impl FnOnce(&Lab) -> Result<(Mac, Box<dyn Any>)>,
    ) -> Result<Self> {
        let lab = Lab::new()?;
        let (asked, node) = node(&lab).with_context(|| format!("starting {name}"))?;
        let client = lab.host("client")?;
        let mac = client.eth0.mac;
        Ok(Self {
            name,
            socket: client.raw("eth0")?,
            // Unicast to the node: a broadcast with swapped MACs would have a group address as its
            // source, which no bridge forwards.
            request: Message::arp_request((client.eth0.ipv4, mac), target).frame(mac, asked),
            client,
            answers: Vec::new(),
            share: Vec::new(),
            microseconds: Vec::new(),
            lost: 0,
            _node: node,
            _lab: lab,
        })
    }

    fn turn(&mut self) -> Result<()> {
        self.flood()?;
        self.dialogue()
    }

    fn flood(&mut self) -> Result<()> {
        let before = self.received()?;
        let start = Instant::now();
        let mut sent = 0_u64;
        while start.elapsed() < FLOOD {
            for _ in 0..64 {
                // If the queue is full, the request is not sent.
                sent += u64::from(self.socket.send(&self.request).is_ok());
            }
        }
        // Later answers do not count here.
        let answers = (self.received()? - before) as f64;
        self.answers.push(answers / start.elapsed().as_secs_f64());
        let end = Instant::now() + ECHO;
        let mut seen = self.received()?;
        while Instant::now() < end {
            thread::sleep(QUIET);
            let now = self.received()?;
            if now == seen {
                break;
            }
            seen = now;
        }
        let answers = (self.received()? - before) as f64;
        self.share.push(100.0 * (answers / sent as f64).min(1.0));
        // Drops unread answers, so that they are not taken for answers to later requests.
        self.socket = self.client.raw("eth0")?;
        Ok(())
    }

    fn dialogue(&mut self) -> Result<()> {
        let mac = self.client.eth0.mac;
        let end = Instant::now() + DIALOGUE;
        loop {
            let asked = Instant::now();
            if asked > end {
                return Ok(());
            }
            self.socket.send(&self.request)?;
            let to_us = |frame: &Frame| frame.destination() == mac;
            match self.socket.receive_matching(LATE, to_us) {
                Ok(_) => self.microseconds.push(asked.elapsed().as_secs_f64() * 1e6),
                Err(_) => self.lost += 1,
            }
        }
    }

    /// Frames that have arrived at the client, counted by the kernel: a socket could not keep up.
    fn received(&self) -> Result<u64> {
        let path = "/sys/class/net/eth0/statistics/rx_packets";
        let text = self.client.run(|| fs::read_to_string(path))?;
        Ok(text.trim().parse()?)
    }

    fn results(&mut self) -> Result<[f64; COLUMNS.len()]> {
        self.microseconds.sort_by(f64::total_cmp);
        let answered = self.microseconds.len();
        ensure!(answered > 0, "{} has never answered", self.name);
        let quantile = |share: usize| self.microseconds[answered * share / 100];
        let (p50, p99) = (quantile(50), quantile(99));
        let asked = answered + self.lost;
        let results = [
            median(&mut self.answers),
            median(&mut self.share),
            100.0 * answered as f64 / asked as f64,
            p50,
            p99,
        ];
        self.forget();
        Ok(results)
    }

    fn forget(&mut self) {
        self.answers.clear();
        self.share.clear();
        self.microseconds.clear();
        self.lost = 0;
    }
}

/// Answers as a user-space responder does: receive, check, send.
struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    fn start(socket: RawSocket, mac: Mac) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok(frame) = socket.receive(QUIET) else {
                    continue;
                };
                if let Some(Message::Arp {
                    operation: ArpOperation::Request,
                    sender,
                    target,
                }) = Message::of(&frame)
                    && target.0 == VIP
                {
                    let reply = Message::Arp {
                        operation: ArpOperation::Reply,
                        sender: (VIP, mac),
                        target: sender,
                    };
                    // If the queue is full, the answer is lost, as a real one would be.
                    let _ = socket.send(&reply.frame(mac, sender.1));
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Twice as many busy threads as there are cores.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let spin = || {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            })
        };
        let threads = (0..2 * cores).map(|_| spin()).collect();
        Self { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
