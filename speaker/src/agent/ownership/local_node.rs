//! The node and its shell, through which ownership acts.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use speaker_common::{
    layout::{Action, Probes},
    lease,
};
use speaker_core::{
    cluster::{self, Adopted, KernelLease, Life, NodeName, VipState, lease_flags},
    intent::Wanted,
    node::{Command, Node},
};
use tracing::debug;

use super::{super::shell::Shell, net::Net};
use crate::kernel;

pub(in super::super) struct LocalNode {
    pub(in super::super) node: Node,
    pub(in super::super) shell: Shell,
}

impl LocalNode {
    /// What an earlier agent left in the kernel; `None` if none has run.
    pub(super) fn adopted(&mut self) -> Result<Option<Adopted>> {
        let lease = self.read_lease();
        let agent = self.shell.lease.agent();
        if lease.life == Life(0) {
            return Ok(None);
        }
        let left = agent.agent_deadline_ns.saturating_sub(kernel::now());
        let vips = self.shell.kernel.maps().vips()?.into_iter();
        Ok(Some(Adopted {
            lease,
            deadline: Instant::now() + Duration::from_nanos(left),
            peers_lease: Duration::from_nanos(agent.peers_lease_ns),
            alone: agent.alone,
            vips: vips
                .filter(|(_, vip)| vip.action == Action::Answer)
                .map(|(entry, _)| entry.address)
                .collect(),
        }))
    }

    pub(super) fn answer_probes(&mut self, name: &NodeName, net: Option<&Net>) -> Result<()> {
        let probes = match net {
            Some(net) => {
                let port = net.sockets.endpoints().probes.port();
                Probes::new(name.number(), port, net.keys.probes())
                    .expect("a key file holds no more keys than that")
            }
            None => Probes::NONE,
        };
        Ok(self.shell.kernel.maps_mut().set_probes(&probes)?)
    }

    pub(super) fn write_lease(&mut self, lease: &cluster::AgentLease) {
        let now = kernel::now();
        let left = lease.deadline.saturating_duration_since(Instant::now());
        self.shell.lease.write(&lease::AgentLease {
            life: lease.life.0,
            agent_deadline_ns: now.saturating_add(left.as_nanos() as u64),
            heartbeat_ns: now,
            peers_lease_ns: lease.peers_lease.as_nanos() as u64,
            alone: lease.alone,
            flags: lease_flags(lease),
        });
    }

    pub(super) fn read_lease(&self) -> KernelLease {
        let agent = self.shell.lease.agent();
        let peers = self.shell.lease.peers();
        let now = kernel::now();
        let left = peers.deadline_ns.checked_sub(now);
        KernelLease {
            life: Life(agent.life),
            tenure: lease::tenure(&agent, &peers, now),
            peers_left: left
                .filter(|_| peers.life == agent.life)
                .map(Duration::from_nanos),
        }
    }

    pub(super) fn set(&mut self, vip: IpAddr, state: &VipState) {
        debug!(%vip, ?state, "set");
        let answer = matches!(state, VipState::Answer { .. });
        let writes = self.node.answer(vip, answer, Instant::now());
        self.carry_out(writes);
    }

    /// Sets the VIPs that this node should announce whenever it owns them.
    pub(in super::super) fn want(&mut self, wanted: Wanted) {
        let writes = self.node.want(wanted);
        self.carry_out(writes);
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            if let Some(input) = self.shell.carry_out(command) {
                self.node.handle(input, Instant::now());
            }
        }
    }
}
