//! What must hold after every event.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use speaker_core::cluster::{Cause, DownReason, Life, Partition, Reason, VipState};

use super::{Scenario, fault::Fault, node::MS, world::World};

/// What a run can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// At most one node answers for a VIP, of those that reach each other.
    OneAnswer,
    /// Exactly one node answers for each VIP that can be owned, after calm and whenever nothing has
    /// changed for long.
    Settled,
    /// No VIP moves without cause.
    CausedMove,
    /// Each take-over is announced by the new owner, and each VIP again by the node that keeps it
    /// when a split is healed.
    Announced,
    /// No answer from a node that is drained, left, or held to be down.
    Excluded,
    /// After calm, VIPs that are to be together are.
    Together,
}

/// An invariant that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: Invariant,
    /// When, in nanoseconds.
    pub at: u64,
    /// By whom, and how.
    pub how: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.at as f64 / MS as f64;
        write!(f, "{:?} broken at {ms:.3} ms: {}", self.invariant, self.how)
    }
}

/// An announcement must follow within this time of the first answer: agents look at the kernel often
/// while it does not answer, since nothing tells them that it does.
const ANNOUNCE_WITHIN: u64 = 50 * MS;

/// Two nodes that see each other's announcements settle who owns a VIP within this time.
const ON_THE_WIRE: u64 = 1_000 * MS;

/// An announcement that is due.
struct Due {
    /// Since when the node could have sent it.
    since: u64,
    /// The node that answered too, on the other side of a split; none if this is a take-over.
    beside: Option<usize>,
}

/// What has to be remembered to judge a moment.
pub(super) struct Watchdog {
    settle: u64,
    /// Who last began to own each VIP, and when.
    owners: Vec<Option<(usize, u64)>>,
    /// Announcements that are due, by node and VIP.
    unannounced: BTreeMap<(usize, usize), Due>,
    /// When each node last announced each VIP.
    announced: BTreeMap<(usize, usize), u64>,
    /// When each node was last in trouble, or asked to do something.
    troubled: Vec<Option<u64>>,
    draining_since: Vec<Option<u64>>,
    left: Vec<bool>,
    /// VIPs that were answered and are not any more, and since when.
    lost: BTreeMap<usize, u64>,
    answered: BTreeSet<usize>,
    /// Which two nodes answer for which VIP.
    doubled: BTreeSet<(usize, usize, usize)>,
    /// The same, of those that share a wire, and since when.
    overlaps: BTreeMap<(usize, usize, usize), u64>,
    /// When all VIPs are looked at again.
    next_look: u64,
    broken: Option<(Invariant, String)>,
    down: Vec<(usize, usize, Life, DownReason)>,
    /// A node that is gone can cost the others their majority.
    majority: bool,
    /// When a fault last began or ended.
    last_change: u64,
    /// The network itself was out of order last.
    stormy: Option<u64>,
    /// Probes were lost last.
    unprobed: Option<u64>,
    /// When each node's agent was last halted, or went on.
    halted: Vec<Option<u64>>,
}

impl Watchdog {
    pub(super) fn new(scenario: &Scenario, settle: u64) -> Self {
        let nodes = scenario.nodes;
        Self {
            settle,
            owners: vec![None; scenario.vips],
            unannounced: BTreeMap::new(),
            announced: BTreeMap::new(),
            troubled: vec![None; nodes],
            draining_since: vec![None; nodes],
            left: vec![false; nodes],
            lost: BTreeMap::new(),
            answered: BTreeSet::new(),
            doubled: BTreeSet::new(),
            overlaps: BTreeMap::new(),
            next_look: 0,
            broken: None,
            down: Vec::new(),
            majority: scenario.partition == Partition::Majority,
            last_change: 0,
            stormy: None,
            unprobed: None,
            halted: vec![None; nodes],
        }
    }

    /// A fault begins or ends.
    pub(super) fn trouble(&mut self, fault: &Fault, now: u64) {
        self.last_change = now;
        let nodes = self.troubled.len();
        let concerned: Vec<usize> = match fault {
            _ if self.majority => (0..nodes).collect(),
            Fault::Crash { node, .. }
            | Fault::Kill { node, .. }
            | Fault::Stop { node, .. }
            | Fault::Freeze { node, .. }
            | Fault::Restart { node, .. }
            | Fault::Flags { node, .. }
            | Fault::Leave { node, .. }
            | Fault::LinkDown { node, .. }
            | Fault::Drain { node, .. } => vec![*node],
            Fault::OneWay { from, to, .. } => vec![*from, *to],
            Fault::Cut { one, other, .. } => vec![*one, *other],
            Fault::Busy { .. }
            | Fault::Split { .. }
            | Fault::Holes { .. }
            | Fault::Deaf { .. }
            | Fault::Mute { .. }
            | Fault::Choke { .. }
            | Fault::Storm { .. }
            | Fault::NoProbes { .. }
            | Fault::Move { .. }
            | Fault::Rebalance { .. }
            | Fault::Remove { .. }
            | Fault::Withdraw { .. }
            | Fault::Separate { .. } => (0..nodes).collect(),
        };
        for node in concerned {
            self.troubled[node] = Some(now);
        }
        match fault {
            Fault::Drain { node, .. } => {
                let since = &mut self.draining_since[*node];
                *since = if since.is_none() { Some(now) } else { None };
            }
            Fault::Leave { node, .. } => self.left[*node] = false,
            Fault::Storm { .. } => self.stormy = Some(now),
            Fault::NoProbes { .. } => self.unprobed = Some(now),
            Fault::Busy { .. } => self.halted.fill(Some(now)),
            Fault::Crash { node, .. }
            | Fault::Kill { node, .. }
            | Fault::Stop { node, .. }
            | Fault::Freeze { node, .. }
            | Fault::Restart { node, .. } => self.halted[*node] = Some(now),
            _ => {}
        }
    }

    pub(super) fn announced(&mut self, node: usize, vip: usize, now: u64) {
        self.unannounced.remove(&(node, vip));
        self.announced.insert((node, vip), now);
    }

    /// Of two nodes that both answered for the VIP, one goes on.
    fn kept(&mut self, vip: usize, answering: &[usize], now: u64) {
        let ended = self.doubled.extract_if(.., |(of, one, other)| {
            *of == vip && !(answering.contains(one) && answering.contains(other))
        });
        for (_, one, other) in ended {
            for (node, beside) in [(one, other), (other, one)] {
                // The end of the other's answers is noticed a moment later.
                let announced = self.announced.get(&(node, vip));
                let told = announced.is_some_and(|at| now < at + ANNOUNCE_WITHIN);
                if answering.contains(&node) && !told {
                    let due = Due {
                        since: now,
                        beside: Some(beside),
                    };
                    self.unannounced.entry((node, vip)).or_insert(due);
                }
            }
        }
    }

    pub(super) fn left(&mut self, node: usize) {
        self.left[node] = true;
    }

    pub(super) fn back(&mut self, node: usize) {
        self.left[node] = false;
    }

    pub(super) fn declared_down(&mut self, by: usize, node: usize, life: Life, why: DownReason) {
        self.down.push((by, node, life, why));
    }

    /// Two nodes that share a wire answer for the VIP; whether their agents have let it be for too
    /// long.
    fn both(&mut self, (vip, one, other): (usize, usize, usize), run: bool, now: u64) -> bool {
        let since = self.overlaps.entry((vip, one, other)).or_insert(now);
        if !run {
            *since = now;
        }
        now > *since + ON_THE_WIRE
    }

    /// The VIP is answered, or not; how long it was not, if that has ended.
    fn gap(&mut self, vip: usize, answered: bool, now: u64) -> u64 {
        if answered {
            self.answered.insert(vip);
            return self.lost.remove(&vip).map_or(0, |since| now - since);
        }
        if self.answered.contains(&vip) {
            self.lost.entry(vip).or_insert(now);
        }
        0
    }

    /// A node's map says from now on that it answers.
    pub(super) fn took_over(&mut self, node: usize, vip: usize, state: &VipState, now: u64) {
        let last = self.owners[vip].replace((node, now));
        let due = Due {
            since: now,
            beside: None,
        };
        self.unannounced.insert((node, vip), due);
        let VipState::Answer { cause, .. } = state else {
            return;
        };
        let Some((last, since)) = last.filter(|(last, _)| *last != node) else {
            return;
        };
        // Whoever starts late takes nothing; so a move has a reason that is younger than the last
        // owner, or not much older.
        let recent = |at: Option<u64>| at.is_some_and(|at| at + self.settle >= since);
        let excused = match cause {
            Cause::HandedOver {
                why: Reason::Failback | Reason::Together,
                ..
            } => true,
            Cause::HandedOver { .. }
            | Cause::First
            | Cause::Met
            | Cause::Resumed
            | Cause::Adopted
            | Cause::Down(_)
            | Cause::GivenUp(_) => recent(self.troubled[last]) || recent(self.troubled[node]),
        };
        if !excused {
            let how = format!("VIP {vip} moved from node-{last} to node-{node}: {cause:?}");
            self.broken.get_or_insert((Invariant::CausedMove, how));
        }
    }
}

impl World {
    /// Looks at everything; once settled, at more.
    pub(super) fn check(&mut self, settled: bool) -> Result<(), Broken> {
        let settled = settled && self.is_quorate();
        let broken = self
            .watchdog
            .broken
            .take()
            .or_else(|| self.check_down())
            .or_else(|| self.check_vips(settled))
            .or_else(|| self.check_announcements());
        match broken {
            Some((invariant, how)) => Err(Broken {
                invariant,
                at: self.now,
                how,
            }),
            None => Ok(()),
        }
    }

    /// Looks at all VIPs every millisecond (more seldom if there are very many, or nodes), and in between at
    /// those that a node may have begun to answer for.
    fn check_vips(&mut self, settled: bool) -> Option<(Invariant, String)> {
        let touched = std::mem::take(&mut self.touched);
        let all = self.now >= self.watchdog.next_look;
        let vips: BTreeSet<usize> = if all {
            let all = self.scenario.vips * self.nodes.len();
            self.watchdog.next_look = self.now + MS * (1 + all as u64 / 300);
            (0..self.scenario.vips).collect()
        } else {
            let answers = touched.iter().map(|node| &self.nodes[*node].kernel.answer);
            let many = answers.clone().map(BTreeSet::len).sum::<usize>() > 1_000;
            answers.flatten().copied().filter(|_| !many).collect()
        };
        for vip in vips {
            let now = self.now;
            let answering: Vec<usize> = (0..self.nodes.len())
                .filter(|node| self.nodes[*node].answers(vip, now))
                .collect();
            self.watchdog.overlaps.retain(|(of, one, other), _| {
                *of != vip || answering.contains(one) && answering.contains(other)
            });
            self.watchdog.kept(vip, &answering, now);
            let gap = self.watchdog.gap(vip, !answering.is_empty(), now);
            self.tally.longest_gap = self.tally.longest_gap.max(gap);
            for (at, one) in answering.iter().enumerate() {
                for other in &answering[at + 1..] {
                    let run = self.nodes[*one].runs() && self.nodes[*other].runs();
                    let which = (vip, *one, *other);
                    self.watchdog.doubled.insert(which);
                    let missed = self.nodes[*one].missed || self.nodes[*other].missed;
                    let wired = self.scenario.wired && !missed;
                    let long = wired && self.watchdog.both(which, run, now);
                    if long || !self.apart(*one, *other) {
                        let how = format!("node-{one} and node-{other} answer for VIP {vip}");
                        return Some((Invariant::OneAnswer, how));
                    }
                }
                if let Some(how) = self.excluded(*one, vip) {
                    return Some((Invariant::Excluded, how));
                }
            }
            if let Some(how) = self.unsettled(vip, &answering, settled) {
                return Some((Invariant::Settled, how));
            }
            if settled
                && let (Some(leader), [node]) = (self.leader(vip), &answering[..])
                && !self.nodes[*node].answers(leader, now)
            {
                let how = format!("node-{node} answers for VIP {vip}, and not for VIP {leader}");
                return Some((Invariant::Together, how));
            }
        }
        None
    }

    /// Whether probes between two nodes may have been lost of late. Where all are, the agents do what
    /// else the kernels do, so they have to run.
    fn apart(&self, one: usize, other: usize) -> bool {
        let (now, settle) = (self.now, self.watchdog.settle);
        let recent = |at: Option<u64>| at.is_some_and(|at| now < at + settle);
        let stormy = recent(self.watchdog.stormy) || self.net.weather.loss >= 100_000;
        let halted = |node: usize| recent(self.watchdog.halted[node]) || !self.nodes[node].runs();
        let unprobed = self.net.probes_blocked || recent(self.watchdog.unprobed);
        // Whose agent is not heard is known by its kernel alone, if another agent asks that, and a
        // new life of it not at all.
        let unheard = |node: usize, by: usize| {
            let node = &self.nodes[node];
            node.choked.is_some_and(|(at, life)| {
                let unknown = unprobed || halted(by) || node.present_life() != life;
                unknown && (node.chokes > 0 || recent(Some(at)))
            })
        };
        // To a node that was cut off from a third one, a node that stood still is on the third one's
        // side, and may have been renewed by it.
        let froze = |node: usize| {
            let until = self.frozen_until[node];
            until > 0 && now < until + settle
        };
        let cut_off = |node: usize, but: usize| {
            let mut others = (0..self.nodes.len()).filter(|third| ![node, but].contains(third));
            others.any(|third| !self.net.connected(node, third, now, settle))
        };
        stormy
            || froze(one) && cut_off(other, one)
            || froze(other) && cut_off(one, other)
            || unheard(one, other)
            || unheard(other, one)
            || unprobed && (halted(one) || halted(other))
            || !self.net.connected(one, other, now, settle)
    }

    /// Why a node must not answer, if so.
    fn excluded(&self, node: usize, vip: usize) -> Option<String> {
        let settle = self.watchdog.settle;
        if self.watchdog.left[node] {
            return Some(format!("node-{node} left and answers for VIP {vip}"));
        }
        let since = self.watchdog.draining_since[node]?;
        let troubled = self.watchdog.troubled.iter().flatten().max();
        let quiet = troubled.is_none_or(|at| self.now >= at + settle);
        (self.now >= since + settle && quiet && self.nodes[node].runs())
            .then(|| format!("node-{node} is drained and answers for VIP {vip}"))
    }

    /// The nodes that run are enough to decide about VIPs.
    fn is_quorate(&self) -> bool {
        let there = |at: &usize| !self.removed[*at];
        let configured = (0..self.nodes.len()).filter(there).count();
        let running = (0..self.nodes.len()).filter(there);
        let running = running.filter(|at| self.nodes[*at].runs()).count();
        self.scenario.partition == Partition::Available || 2 * running > configured
    }

    /// The network is whole, and has been for long: only nodes and VIPs may be away.
    fn is_quiet(&self) -> bool {
        let ongoing =
            |(at, fault): &&(u64, Fault)| (*at..at + fault.span()).contains(&(self.now / MS));
        self.now >= self.watchdog.last_change + self.watchdog.settle
            && self.is_quorate()
            && self
                .scenario
                .faults
                .iter()
                .filter(ongoing)
                .all(|(_, fault)| {
                    matches!(
                        fault,
                        Fault::Crash { .. }
                            | Fault::Kill { .. }
                            | Fault::Stop { .. }
                            | Fault::Freeze { .. }
                            | Fault::Leave { .. }
                            | Fault::Remove { .. }
                            | Fault::LinkDown { .. }
                            | Fault::Drain { .. }
                            | Fault::Withdraw { .. }
                            | Fault::Separate { .. }
                    )
                })
    }

    /// Why it cannot stay as it is, if so.
    fn unsettled(&self, vip: usize, answering: &[usize], settled: bool) -> Option<String> {
        // A kernel whose agent is away may answer while no other node can.
        let is_due = settled || answering.is_empty() && self.is_quiet();
        if !is_due {
            return None;
        }
        let fit = |at: usize| {
            let node = &self.nodes[at];
            node.runs()
                && node.linked
                && !node.draining
                && !node.left
                && !self.withdrawn[vip]
                && self.scenario.candidates[self.leader(vip).unwrap_or(vip)][at].is_some()
        };
        let expected = usize::from((0..self.nodes.len()).any(fit));
        (answering.len() != expected)
            .then(|| format!("VIP {vip} is answered by {answering:?}, not by {expected}"))
    }

    fn check_announcements(&mut self) -> Option<(Invariant, String)> {
        let now = self.now;
        let mut unannounced = std::mem::take(&mut self.watchdog.unannounced);
        unannounced.retain(|(node, vip), _| self.nodes[*node].kernel.answer.contains(vip));
        let mut missing = None;
        for ((node, vip), due) in &mut unannounced {
            // Whoever is stopped in the middle of it goes on when it can. Nodes that were apart first
            // have to meet.
            let (may, within) = match due.beside {
                None => (true, ANNOUNCE_WITHIN),
                Some(beside) => {
                    let met = self.nodes[beside].runs() && !self.apart(*node, beside);
                    (met, self.watchdog.settle)
                }
            };
            if !may || !self.nodes[*node].answers(*vip, now) || !self.nodes[*node].runs() {
                due.since = now;
            } else if now >= due.since + within {
                missing = Some((*node, *vip));
            }
        }
        self.watchdog.unannounced = unannounced;
        missing.map(|(node, vip)| {
            let how = format!("node-{node} answers for VIP {vip} and did not announce it");
            (Invariant::Announced, how)
        })
    }

    /// A life that a node holds to be over must not be answering, unless it is on the other side of
    /// a split.
    fn check_down(&mut self) -> Option<(Invariant, String)> {
        for (by, node, life, why) in std::mem::take(&mut self.watchdog.down) {
            let kernel = &self.nodes[node].kernel;
            let answers =
                (0..self.scenario.vips).any(|vip| self.nodes[node].answers(vip, self.now));
            let apart = self.apart(by, node);
            if answers && kernel.agent.life == life.0 && (why != DownReason::Unreachable || !apart)
            {
                let how =
                    format!("node-{by} holds node-{node} to be down ({why:?}), and it answers");
                return Some((Invariant::Excluded, how));
            }
        }
        None
    }
}
