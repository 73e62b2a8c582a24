//! MetalLB's speakers answer from packet sockets, and continue while these agents start next to
//! them: what clients see.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use anyhow::Result;
use speaker_tests::{
    agent::Mode,
    asker::Asker,
    cluster::Cluster,
    lab::{self, Frame, Host, Lab},
    message::{ArpOperation, Message},
};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const VIP: IpAddr = IpAddr::V4(ADDRESS);
const EVERY: Duration = Duration::from_millis(5);
/// The maximum duration of a fail-over, and the interval between requests.
const FAIL_OVER: Duration = Duration::from_millis(500);

/// Answers like a MetalLB speaker, until it is dropped.
struct Speaker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Speaker {
    fn start(host: &Host) -> Result<Self> {
        let (socket, mac) = (host.raw("eth0")?, host.eth0.mac);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok(frame) = socket.receive(Duration::from_millis(50)) else {
                    continue;
                };
                if let Some(Message::Arp {
                    operation: ArpOperation::Request,
                    sender,
                    target: (ADDRESS, _),
                }) = Message::of(&frame)
                {
                    let reply = Message::Arp {
                        operation: ArpOperation::Reply,
                        sender: (ADDRESS, mac),
                        target: sender,
                    };
                    socket.send(&reply.frame(mac, sender.1))?;
                }
            }
            Ok(())
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failing test has its own message.
            let _ = thread.join();
        }
    }
}

/// Whether a frame answers for the VIP.
fn answers(frame: &Frame) -> bool {
    let message = Message::of(frame);
    matches!(
        message,
        Some(Message::Arp {
            operation: ArpOperation::Reply,
            sender: (ADDRESS, _),
            ..
        })
    )
}

/// The longest gap between these times.
fn longest(mut moments: Vec<SystemTime>) -> Duration {
    moments.sort();
    let pairs = moments.windows(2);
    let apart = pairs.filter_map(|pair| pair[1].duration_since(pair[0]).ok());
    apart.max().unwrap_or_default()
}

/// Agents that start this long after one another.
fn takes_over(lab: &Lab, mode: Mode, apart: Duration) -> Result<()> {
    let mut cluster = Cluster::new(lab, 2, mode, &[&[VIP]])?;
    let mut speakers = vec![Speaker::start(&cluster.nodes[0].host)?];

    let wire = cluster.client.capture("eth0")?;
    let start = SystemTime::now();
    let asker = Asker::start(&cluster.client, VIP, EVERY)?;
    thread::sleep(FAIL_OVER);
    for node in &mut cluster.nodes {
        node.spawn()?;
        thread::sleep(apart);
    }
    let owner = cluster.owner(VIP)?;
    thread::sleep(FAIL_OVER);
    drop(asker);
    let moments = wire.frames().into_iter().filter(answers).map(|it| it.at);
    let gap = longest(
        [start]
            .into_iter()
            .chain(moments)
            .chain([SystemTime::now()])
            .collect(),
    );
    assert!(gap < FAIL_OVER, "{mode:?}: unanswered for {gap:?}");

    // From then on, it does not matter which of them believes it owns the VIP.
    speakers.push(Speaker::start(&cluster.nodes[1].host)?);
    let asker = Asker::start(&cluster.client, VIP, EVERY)?;
    thread::sleep(Duration::from_secs(1));
    drop(speakers);
    thread::sleep(FAIL_OVER);
    asker.stop()?.assert_all_answered(100, cluster.mac(owner));
    Ok(())
}

#[test]
fn agents_started_together_take_over_from_metallb_and_then_answer_alone() {
    lab::test(|lab| {
        takes_over(lab, Mode::Generic, Duration::ZERO)?;
        takes_over(lab, Mode::Native, Duration::ZERO)
    });
}

#[test]
fn agents_started_one_by_one_take_over_from_metallb_and_then_answer_alone() {
    lab::test(|lab| takes_over(lab, Mode::Native, Duration::from_secs(3)));
}
