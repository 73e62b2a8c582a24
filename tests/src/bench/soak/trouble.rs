//! The faults, one at a time, and which unanswered or doubly answered requests each excuses.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use fastrand::Rng;

use super::{LASTING_AGENTS, Row, client::Anomaly};
use crate::{cluster::Cluster, manifest};

/// Another node answers for a dead node's VIPs within this time.
const FAIL_OVER: Duration = Duration::from_millis(500);
/// Two sides of a split that meet again settle who answers within this time.
const SETTLED: Duration = Duration::from_secs(1);
/// A manifest takes effect within this time, and earlier announcements delay nothing.
const APPLIED: Duration = Duration::from_secs(2);
/// The interval between faults: the effects of one are over before the next.
const PAUSE: Duration = Duration::from_secs(3);

/// How a request that was not answered by exactly one host is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No node should have answered, or that is unclear.
    Excused,
    FailOver,
    Unanswered,
    Return,
    Doubled,
}

/// Causes faults, and records them.
pub(super) struct Trouble {
    rng: Rng,
    passing: Vec<Ipv4Addr>,
    /// Since when each absent VIP has been gone.
    away: BTreeMap<Ipv4Addr, SystemTime>,
    /// The times in which a VIP need not have been answered.
    gone: Vec<(Ipv4Addr, SystemTime, SystemTime)>,
    cuts: Vec<SystemTime>,
    returns: Vec<SystemTime>,
    kills: usize,
    restarts: usize,
    /// The warnings of agents that have ended.
    warnings: Vec<String>,
}

impl Trouble {
    pub(super) fn new(passing: Vec<Ipv4Addr>) -> Self {
        let now = SystemTime::now();
        Self {
            rng: Rng::with_seed(1),
            away: passing.iter().map(|vip| (*vip, now)).collect(),
            passing,
            gone: Vec::new(),
            cuts: Vec::new(),
            returns: Vec::new(),
            kills: 0,
            restarts: 0,
            warnings: Vec::new(),
        }
    }

    /// Restores all VIPs.
    pub(super) fn bring_all(&mut self, cluster: &Cluster) -> Result<()> {
        for vip in self.passing.clone() {
            if self.away.contains_key(&vip) {
                self.toggle(cluster, vip)?;
            }
        }
        Ok(())
    }

    /// Causes a fault, and waits until it is over.
    pub(super) fn make(&mut self, cluster: &mut Cluster) -> Result<()> {
        let vip = self.passing[self.rng.usize(..self.passing.len())];
        self.toggle(cluster, vip)?;
        sleep(PAUSE);
        let restarted = self.rng.usize(LASTING_AGENTS..cluster.nodes.len());
        match self.rng.u8(0..4) {
            0 => self.kill(cluster, restarted)?,
            1 => self.restart(cluster, restarted)?,
            2 => self.cut(cluster)?,
            _ => {}
        }
        sleep(PAUSE);
        Ok(())
    }

    fn toggle(&mut self, cluster: &Cluster, vip: Ipv4Addr) -> Result<()> {
        let file = format!("passing-{vip}.yaml");
        let service = format!("passing-{}", vip.octets()[3]);
        let went = self.away.remove(&vip);
        for node in &cluster.nodes {
            match went {
                Some(_) => {
                    let text = manifest::service(&service, &[vip]);
                    node.manifests.write(&file, &text)?;
                }
                None => node.manifests.remove(&file)?,
            }
        }
        match went {
            Some(at) => self.gone.push((vip, at, SystemTime::now() + APPLIED)),
            None => drop(self.away.insert(vip, SystemTime::now())),
        }
        Ok(())
    }

    fn kill(&mut self, cluster: &mut Cluster, number: usize) -> Result<()> {
        self.keep_warnings(cluster, number);
        self.kills += 1;
        cluster.nodes[number].agent().kill()?;
        sleep(Duration::from_millis(self.rng.u64(0..1_500)));
        cluster.nodes[number].start()
    }

    fn restart(&mut self, cluster: &mut Cluster, number: usize) -> Result<()> {
        cluster.nodes[number].stop()?;
        self.keep_warnings(cluster, number);
        self.restarts += 1;
        sleep(Duration::from_millis(self.rng.u64(0..10_000)));
        cluster.nodes[number].start()
    }

    fn cut(&mut self, cluster: &Cluster) -> Result<()> {
        let port = &cluster.nodes[self.rng.usize(..cluster.nodes.len())]
            .host
            .eth0
            .port;
        self.cuts.push(SystemTime::now());
        port.cut()?;
        sleep(Duration::from_millis(self.rng.u64(100..10_000)));
        self.returns.push(SystemTime::now());
        port.restore()
    }

    fn keep_warnings(&mut self, cluster: &mut Cluster, number: usize) {
        self.warnings.extend(cluster.nodes[number].warnings());
    }

    /// The warnings of all agents.
    pub(super) fn warnings(&mut self, cluster: &mut Cluster) -> Vec<String> {
        for number in 0..cluster.nodes.len() {
            self.keep_warnings(cluster, number);
        }
        std::mem::take(&mut self.warnings)
    }

    pub(super) fn counts(&self) -> [Row; 4] {
        [
            Row::new("agents killed and started", self.kills as f64, "times"),
            Row::new("agents restarted", self.restarts as f64, "times"),
            Row::new("nodes cut off", self.cuts.len() as f64, "times"),
            Row::new(
                "VIPs withdrawn and brought back",
                self.gone.len() as f64,
                "times",
            ),
        ]
    }

    pub(super) fn judge(&self, anomaly: &Anomaly) -> Verdict {
        let after = |times: &[SystemTime], span| {
            let mut times = times.iter();
            times.any(|at| (*at..*at + span).contains(&anomaly.at))
        };
        let gone = |(vip, from, to): &(Ipv4Addr, SystemTime, SystemTime)| {
            *vip == anomaly.vip && (*from..*to).contains(&anomaly.at)
        };
        match anomaly.answers {
            0 if self.gone.iter().any(gone) => Verdict::Excused,
            0 if after(&self.cuts, FAIL_OVER) => Verdict::FailOver,
            0 => Verdict::Unanswered,
            _ if after(&self.returns, SETTLED) => Verdict::Return,
            _ => Verdict::Doubled,
        }
    }
}
