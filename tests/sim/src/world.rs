//! The event loop: virtual time, and what the shell does with commands.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use fastrand::Rng;
use speaker_core::cluster::{Input, Settings, Timing};

use super::{
    Fault, Sabotage, Scenario, Tally,
    invariant::{Broken, Watchdog},
    measure::processor_time,
    net::Net,
    node::{Clock, MS, Node, Packet},
    scenario::NEVER,
};

/// Trace lines to keep.
const TRACE: usize = 400;
pub(super) enum What {
    Packet {
        to: usize,
        boots: u64,
        packet: Packet,
    },
    Timer {
        node: usize,
        timer: u64,
    },
    /// The announcement is repeated, if it still applies.
    Announce {
        node: usize,
        vip: usize,
    },
    /// The agent learns its current intent for a VIP.
    Intent {
        node: usize,
        vip: usize,
    },
    /// For the agent, if it runs by then.
    Input {
        node: usize,
        boots: u64,
        input: Input,
    },
    Begin(usize),
    End(usize),
    Start(usize),
    Resume(usize),
    /// Until then, all agents stall now and then, for up to `pause`.
    Busy {
        pause: u64,
        until: u64,
    },
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) now: u64,
    /// The first fault.
    pub(super) trouble: u64,
    /// The last fault is over.
    pub(super) calm: u64,
    /// Nothing happens from here on.
    pub(super) idle: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    pending: Vec<Option<What>>,
    free: Vec<usize>,
    sequence: u64,
    pub(super) rng: Rng,
    pub(super) net: Net,
    pub(super) nodes: Vec<Node>,
    pub(super) frozen_until: Vec<u64>,
    pub(super) stopped_until: Vec<u64>,
    /// Nodes that the configuration no longer has.
    pub(super) removed: Vec<bool>,
    pub(super) withdrawn: Vec<bool>,
    /// VIPs that currently follow none.
    pub(super) separate: Vec<bool>,
    /// The settings of each node's next agent.
    pub(super) timings: Vec<Timing>,
    /// The settling time of the slowest node.
    settle: u64,
    pub(super) watchdog: Watchdog,
    pub(super) tally: Tally,
    /// Nodes whose answers may have changed.
    pub(super) touched: BTreeSet<usize>,
    trace: Trace,
}

/// What happens to trace lines.
pub(super) enum Trace {
    Off,
    Print,
    /// The last lines are kept.
    Keep(VecDeque<String>),
}

impl World {
    pub(super) fn new(scenario: Scenario, sabotage: Option<Sabotage>, trace: Trace) -> Self {
        let mut rng = Rng::with_seed(scenario.seed ^ 0x9e37_79b9);
        let timings: Vec<Timing> = (0..scenario.nodes)
            .map(|at| timing(scenario.settings_of(at)))
            .collect();
        let settle = settle(&scenario);
        let nodes: Vec<Node> = (0..scenario.nodes)
            .map(|at| {
                let clock = Clock {
                    offset: rng.u64(0..1_000_000) * MS,
                    ppm: scenario.drift[at],
                };
                Node::new(at, clock)
            })
            .collect();
        let count = nodes.len();
        let mut world = Self {
            net: Net::new(count, scenario.weather),
            watchdog: Watchdog::new(&scenario, settle),
            withdrawn: vec![false; scenario.vips],
            separate: vec![false; scenario.vips],
            trouble: scenario.trouble() * MS,
            calm: scenario.calm() * MS,
            scenario,
            sabotage,
            now: 0,
            idle: u64::MAX,
            queue: BinaryHeap::new(),
            pending: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            rng,
            nodes,
            removed: vec![false; count],
            frozen_until: vec![0; count],
            stopped_until: vec![0; count],
            timings,
            settle,
            tally: Tally::default(),
            touched: BTreeSet::new(),
            trace,
        };
        for node in 0..count {
            let at = world.scenario.starts[node];
            if at != NEVER {
                world.at(at * MS, What::Start(node));
            }
        }
        for (fault, (at, _)) in world.scenario.faults.clone().iter().enumerate() {
            world.at(at * MS, What::Begin(fault));
        }
        world
    }

    pub(super) fn play(mut self) -> Result<Tally, Broken> {
        self.run()
    }

    pub(super) fn trace_of_failure(mut self) -> Vec<String> {
        let broken = self.run().is_err();
        debug_assert!(broken, "the same seed gives the same run");
        match self.trace {
            Trace::Keep(lines) => lines.into(),
            Trace::Off | Trace::Print => Vec::new(),
        }
    }

    fn run(&mut self) -> Result<Tally, Broken> {
        self.sabotage();
        let settled = self.calm + self.settle;
        let end = settled + 2_000 * MS;
        self.idle = end - 1_000 * MS;
        let mut before_idle = Duration::ZERO;
        while let Some(Reverse((at, _, id))) = self.queue.pop() {
            if at > end {
                break;
            }
            let was = std::mem::replace(&mut self.now, at);
            if was < settled && at >= settled {
                self.trace(|| "settled".into());
            }
            if was < self.idle && at >= self.idle {
                before_idle = processor_time();
            }
            self.tally.events += 1;
            let what = self.pending[id].take().expect("each is queued once");
            self.free.push(id);
            self.handle(what);
            self.check(at >= settled)?;
        }
        self.tally.idle_processor = processor_time() - before_idle;
        Ok(self.tally)
    }

    pub(super) fn at(&mut self, at: u64, what: What) {
        self.sequence += 1;
        let id = self.free.pop().unwrap_or_else(|| {
            self.pending.push(None);
            self.pending.len() - 1
        });
        self.pending[id] = Some(what);
        self.queue.push(Reverse((at, self.sequence, id)));
    }

    pub(super) fn trace(&mut self, line: impl FnOnce() -> String) {
        let now = self.now as f64 / MS as f64;
        match &mut self.trace {
            Trace::Off => {}
            Trace::Print => println!("{now:>12.3} {}", line()),
            Trace::Keep(lines) => {
                if lines.len() == TRACE {
                    lines.pop_front();
                }
                lines.push_back(format!("{now:>12.3} {}", line()));
            }
        }
    }

    fn handle(&mut self, what: What) {
        match what {
            What::Packet { to, boots, packet } => {
                if self.nodes[to].boots == boots {
                    self.receive(to, packet);
                }
            }
            What::Timer { node, timer } => {
                if self.nodes[node].timer == timer {
                    self.nodes[node].wakes = None;
                    self.feed(node, Input::Tick);
                }
            }
            What::Input { node, boots, input } => {
                if self.nodes[node].boots == boots {
                    self.feed(node, input);
                }
            }
            What::Announce { node, vip } => self.spread_announcement(node, vip),
            What::Intent { node, vip } => self.learn_intent(node, vip),
            What::Begin(fault) => self.begin(fault),
            What::End(fault) => self.end(fault),
            What::Start(node) => self.start(node),
            What::Resume(node) => self.resume(node),
            What::Busy { pause, until } => self.busy(pause, until),
        }
    }
}

pub(super) fn timing(settings: Settings) -> Timing {
    Timing::new(settings).expect("scenarios only have what a user could set")
}

/// The settling time of the slowest node that ever exists.
fn settle(scenario: &Scenario) -> u64 {
    let nodes = scenario.nodes;
    let later = scenario.faults.iter().filter_map(|(_, fault)| match fault {
        Fault::Flags { settings, .. } => Some(settings.clone()),
        _ => None,
    });
    let all = (0..nodes).map(|at| scenario.settings_of(at)).chain(later);
    all.map(|settings| timing(settings).settle(nodes as u32).as_nanos() as u64)
        .max()
        .unwrap_or_default()
}

/// The address of the first VIP.
const FIRST_VIP: u32 = 0x0a00_0001;

pub(super) fn address_of(vip: usize) -> IpAddr {
    Ipv4Addr::from_bits(FIRST_VIP + vip as u32).into()
}

pub(super) fn vip_at(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => (address.to_bits() - FIRST_VIP) as usize,
        IpAddr::V6(_) => unreachable!("all VIPs are of IPv4"),
    }
}
