//! What must hold after every event.

mod check;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use speaker_core::cluster::{Cause, DownReason, Life, Partition, Reason, VipState};

use super::{Scenario, fault::Fault, node::MS};

/// The invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// At most one node answers for a VIP among those that reach each other.
    OneAnswer,
    /// Exactly one node answers for each VIP that can be owned, after calm and whenever nothing has
    /// changed for a while.
    Settled,
    /// No VIP moves without cause.
    CausedMove,
    /// The new owner announces each take-over, and the node that keeps a VIP announces it again
    /// when a split heals.
    Announced,
    /// No answer from a node that is drained, has left, or is considered down.
    Excluded,
    /// After calm, VIPs that belong together are together.
    Together,
}

/// An invariant that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: Invariant,
    /// When, in nanoseconds.
    pub at: u64,
    /// By which node, and how.
    pub how: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.at as f64 / MS as f64;
        write!(f, "{:?} broken at {ms:.3} ms: {}", self.invariant, self.how)
    }
}

/// An announcement must follow the first answer within this time: agents poll the kernel often
/// while it does not answer, since nothing tells them when it does.
const ANNOUNCE_WITHIN: u64 = 50 * MS;

/// Two nodes that see each other's announcements settle who owns a VIP within this time.
const ON_THE_WIRE: u64 = 1_000 * MS;

/// An announcement that is due.
struct Due {
    /// Since when the node could have sent it.
    since: u64,
    /// The node that also answered, on the other side of a split; `None` for a take-over.
    beside: Option<usize>,
}

/// The history needed to check the invariants.
pub(super) struct Watchdog {
    settle: u64,
    /// The last new owner of each VIP, and when.
    owners: Vec<Option<(usize, u64)>>,
    /// Announcements that are due, by node and VIP.
    unannounced: BTreeMap<(usize, usize), Due>,
    /// When each node last announced each VIP.
    announced: BTreeMap<(usize, usize), u64>,
    /// When each node was last in trouble, or asked to do something.
    troubled: Vec<Option<u64>>,
    draining_since: Vec<Option<u64>>,
    left: Vec<bool>,
    /// VIPs that are no longer answered, and since when.
    lost: BTreeMap<usize, u64>,
    answered: BTreeSet<usize>,
    /// Which two nodes answer for which VIP.
    doubled: BTreeSet<(usize, usize, usize)>,
    /// The same for nodes that share a wire, and since when.
    overlaps: BTreeMap<(usize, usize, usize), u64>,
    /// When all VIPs are next checked.
    next_look: u64,
    broken: Option<(Invariant, String)>,
    down: Vec<(usize, usize, Life, DownReason)>,
    /// A missing node can cost the others their majority.
    majority: bool,
    /// When a fault last began or ended.
    last_change: u64,
    /// When the network itself was last faulty.
    stormy: Option<u64>,
    /// When probes were last lost.
    unprobed: Option<u64>,
    /// When each node's agent was last stopped or resumed.
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

    /// Of two nodes that both answered for the VIP, one continues.
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

    /// Two nodes that share a wire answer for the VIP. Returns whether that has lasted too long.
    fn both(&mut self, (vip, one, other): (usize, usize, usize), run: bool, now: u64) -> bool {
        let since = self.overlaps.entry((vip, one, other)).or_insert(now);
        if !run {
            *since = now;
        }
        now > *since + ON_THE_WIRE
    }

    /// Notes whether the VIP is answered. Returns how long it was not, if that has ended.
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

    /// From now on, a node's map says that it answers.
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
        // A node that starts late takes nothing, so a move has a cause that is younger than the
        // last owner, or not much older.
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
