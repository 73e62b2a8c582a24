//! How long it takes on the wire until the last of 10,000 VIPs is answered and announced again.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use super::{Row, median, usage::Usage};
use crate::{
    agent::Mode,
    cluster::Cluster,
    lab::{Frame, Host, Lab, RawSocket},
    manifest,
    message::{BROADCAST, Mac, Message},
    wait::wait_until,
};

/// VIPs, each of its own Service.
const VIPS: u32 = 10_000;
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 0);
/// Owners that are cut off, each in its own lab.
const RUNS: usize = 3;
/// How many requests the client sends at once, and how often: all VIPs are requested within 0.6 s,
/// and the fewer are left, the more often.
const BURST: usize = 32;
const EVERY: Duration = Duration::from_millis(2);
/// After this long without an announcement, all announcements have been sent.
const QUIET: Duration = Duration::from_secs(3);
/// More than anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The fate of an owner's VIPs, in milliseconds and MiB.
struct Outcome {
    /// From the owner's last answer until every VIP has been answered by another node.
    answered: f64,
    /// The same, for half of them.
    half_answered: f64,
    /// From the owner's last answer until every VIP has been announced by another node.
    announced: f64,
    /// The memory of an agent without VIPs.
    without: f64,
    /// The largest of the other agents, before and after.
    before: f64,
    after: f64,
}

/// Measures all rows.
pub(super) fn run() -> Result<Vec<Row>> {
    let outcomes: Vec<Outcome> = (0..RUNS).map(|_| fail()).collect::<Result<_>>()?;
    let middle = |of: fn(&Outcome) -> f64| median(&mut outcomes.iter().map(of).collect::<Vec<_>>());
    let most = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).fold(0.0, f64::max);
    let mut rows = Vec::new();
    for (what, of) in [
        (
            "half answered by the next",
            (|it| it.half_answered) as fn(&Outcome) -> f64,
        ),
        ("all answered by the next", |it| it.answered),
        ("all announced by the next", |it| it.announced),
    ] {
        let case = format!("last answer of the owner to {what}");
        rows.push(Row::new(
            format!("{case}, median of {RUNS}"),
            middle(of),
            "ms",
        ));
        rows.push(Row::new(format!("{case}, max"), most(of), "ms"));
    }
    let memory =
        |case: &str, of| Row::new(format!("memory of an agent, {case}"), middle(of), "MiB");
    rows.push(memory("no VIPs", |it| it.without));
    rows.push(
        memory("others own them (baseline: none)", |it| it.before).against(middle(|it| it.without)),
    );
    rows.push(
        memory("after the fail-over (baseline: before)", |it| it.after)
            .against(middle(|it| it.before)),
    );
    Ok(rows)
}

/// Lets one of three nodes own all VIPs, and cuts it off.
fn fail() -> Result<Outcome> {
    let lab = Lab::new()?;
    let mut cluster = Cluster::new(&lab, 3, Mode::Native, &[])?;
    let mut client = Client::new(&cluster.client)?;
    let services = manifest::services((0..VIPS).map(|number| vec![vip(number)]));
    // While it is the only one, it owns all.
    cluster.nodes[0].start()?;
    let without = Usage::of(cluster.nodes[0].agent())?.resident;
    cluster.nodes[0].manifests.write("many.json", &services)?;
    client.ask_until("the first node to own all", |it| {
        it.answers.len() == VIPS as usize
    })?;
    for node in &mut cluster.nodes[1..] {
        node.manifests.write("many.json", &services)?;
        node.start()?;
    }
    wait_until("all announcements", LIMIT, || {
        client.listen(EVERY);
        let last = client.announced.values().map(|(_, at)| *at).max();
        Ok(last.is_some_and(|at| at.elapsed().is_ok_and(|it| it > QUIET)))
    })?;
    sleep(QUIET);
    let before = others(&mut cluster)?;

    let owner = cluster.mac(0);
    client.forget();
    let warm = Instant::now() + Duration::from_secs(1);
    client.ask_until("a second", |_| Instant::now() > warm)?;
    let all = client.answers.len() == VIPS as usize;
    ensure!(
        all && client.answers.values().all(|(mac, _)| *mac == owner),
        "the first node does not own all any more"
    );
    cluster.nodes[0].host.eth0.port.cut()?;
    client.forget();
    client.old = Some(owner);
    client.ask_until("all VIPs to be answered and announced", |it| {
        it.answers.len() == VIPS as usize && it.announced.len() == VIPS as usize
    })?;
    let last = client
        .last
        .get(&owner)
        .context("the owner never answered")?;
    let last = *last;
    let mut answered = since(last, &client.answers);
    Ok(Outcome {
        half_answered: median(&mut answered),
        answered: answered.into_iter().fold(0.0, f64::max),
        announced: since(last, &client.announced)
            .into_iter()
            .fold(0.0, f64::max),
        without,
        before,
        after: others(&mut cluster)?,
    })
}

/// The largest memory of the agents except the first.
fn others(cluster: &mut Cluster) -> Result<f64> {
    let mut most: f64 = 0.0;
    for node in &mut cluster.nodes[1..] {
        most = most.max(Usage::of(node.agent())?.resident);
    }
    Ok(most)
}

fn since(start: SystemTime, seen: &Seen) -> Vec<f64> {
    let times = seen.values().map(|(_, at)| at.duration_since(start));
    times
        .map(|it| it.unwrap_or_default().as_secs_f64() * 1e3)
        .collect()
}

fn vip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST.to_bits() + number)
}

/// The MAC first reported for each VIP, and when.
type Seen = BTreeMap<Ipv4Addr, (Mac, SystemTime)>;

/// Requests all VIPs, and listens.
struct Client {
    socket: RawSocket,
    own: (Ipv4Addr, Mac),
    next: u32,
    answers: Seen,
    announced: Seen,
    /// When each MAC was last reported for a VIP.
    last: BTreeMap<Mac, SystemTime>,
    /// The MAC that does not count.
    old: Option<Mac>,
}

impl Client {
    fn new(host: &Host) -> Result<Self> {
        Ok(Self {
            socket: host.raw("eth0")?,
            own: (host.eth0.ipv4, host.eth0.mac),
            next: 0,
            answers: Seen::new(),
            announced: Seen::new(),
            last: BTreeMap::new(),
            old: None,
        })
    }

    fn forget(&mut self) {
        self.answers.clear();
        self.announced.clear();
    }

    /// Requests each VIP until it is answered, and starts over once all are.
    fn ask_until(&mut self, what: &str, so: impl Fn(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while !so(self) {
            ensure!(
                Instant::now() < end,
                "waited in vain for {what}: {} answered, {} announced",
                self.answers.len(),
                self.announced.len()
            );
            let mut asked = 0;
            for _ in 0..VIPS {
                let vip = vip(self.next);
                self.next = (self.next + 1) % VIPS;
                if self.answers.len() < VIPS as usize && self.answers.contains_key(&vip) {
                    continue;
                }
                // If the queue is full, the request is sent next time.
                let request = Message::arp_request(self.own, vip).frame(self.own.1, BROADCAST);
                let _ = self.socket.send(&request);
                asked += 1;
                if asked == BURST {
                    break;
                }
            }
            self.listen(EVERY);
        }
        Ok(())
    }

    /// Records what arrives within this time.
    fn listen(&mut self, within: Duration) {
        let (own, old) = (self.own, self.old);
        let (answers, announced) = (&mut self.answers, &mut self.announced);
        let last = &mut self.last;
        let note = |frame: &Frame| {
            let Some(Message::Arp { sender, target, .. }) = Message::of(frame) else {
                return false;
            };
            let (vip, mac) = sender;
            let seen = if target.0 == vip {
                &mut *announced
            } else if target.0 == own.0 {
                last.insert(mac, frame.at);
                &mut *answers
            } else {
                return false;
            };
            if old != Some(mac) {
                seen.entry(vip).or_insert((mac, frame.at));
            }
            false
        };
        // No frame ends the wait early: the time-out is no error.
        let _ = self.socket.receive_matching(within, note);
    }
}
