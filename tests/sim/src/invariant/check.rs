//! Whether the invariants hold now.

use std::collections::BTreeSet;

use speaker_core::cluster::{DownReason, Partition};

use super::{ANNOUNCE_WITHIN, Broken, Invariant, ON_THE_WIRE};
use crate::{fault::Fault, node::MS, world::World};

impl World {
    /// Checks everything; once settled, more.
    pub(crate) fn check(&mut self, settled: bool) -> Result<(), Broken> {
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

    /// Checks all VIPs every millisecond (less often with very many VIPs or nodes), and in between
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
        let settled = settled && !vips.is_empty() && self.is_quorate();
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
                    let met = self.net.connected(*one, *other, now, ON_THE_WIRE);
                    let wired = self.scenario.wired && (met || !missed);
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

    /// Whether probes between two nodes may have been lost recently. If all are lost, the agents do
    /// the kernels' work, so they have to run.
    fn apart(&self, one: usize, other: usize) -> bool {
        let (now, settle) = (self.now, self.watchdog.settle);
        let recent = |at: Option<u64>| at.is_some_and(|at| now < at + settle);
        let stormy = recent(self.watchdog.stormy) || self.net.weather.loss >= 100_000;
        let halted = |node: usize| recent(self.watchdog.halted[node]) || !self.nodes[node].runs();
        let unprobed = self.net.probes_blocked || recent(self.watchdog.unprobed);
        // A node whose agent is not heard is known only by its kernel, if another agent probes it,
        // and a new life of it not at all.
        let unheard = |node: usize, by: usize| {
            let node = &self.nodes[node];
            node.choked.is_some_and(|(at, life)| {
                let unknown = unprobed || halted(by) || node.present_life() != life;
                unknown && (node.chokes > 0 || recent(Some(at)))
            })
        };
        // For a node that was cut off from a third one, a paused node is on the third one's side,
        // and may have been renewed by it.
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

    /// The running nodes are enough to decide about VIPs.
    fn is_quorate(&self) -> bool {
        let there = |at: &usize| !self.removed[*at];
        let configured = (0..self.nodes.len()).filter(there).count();
        let running = (0..self.nodes.len()).filter(there);
        let running = running.filter(|at| self.nodes[*at].runs()).count();
        self.scenario.partition == Partition::Available || 2 * running > configured
    }

    /// The network has been intact for a while: only nodes and VIPs may be missing.
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

    /// Why the situation cannot last, if so.
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
            // An agent stopped in the middle continues when it can. Nodes that were apart have to
            // meet first.
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

    /// A life that a node considers over must not be answering, unless it is on the other side of a
    /// split.
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
