//! This node's own lease: its lives, its agent's heartbeats, and whether the node is alone.

use std::time::Instant;

use speaker_common::probe::Tenure;

use super::{
    Cluster,
    io::{Adopted, AgentLease, Command, Event, KernelLease, LifeOver},
    message::Body,
    name::Life,
    peer::Retry,
    settings::Partition,
    spans::FormerLease,
    timing::Timing,
};

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) life: Life,
    /// Until when the kernel considers the agent alive.
    pub(super) deadline: Instant,
    /// When the next heartbeat is due.
    pub(super) heartbeat: Instant,
    /// The requests to the members to watch this node.
    asks: Asks,
    /// An earlier agent's peers' lease of a different length, while it may be in force.
    pub(super) former: Option<FormerLease>,
    /// Numbers the periods in which the node has been alone.
    times_alone: u32,
    pub(super) alone: bool,
    /// When it last became alone.
    alone_since: Instant,
    /// The kernel's last state of this life, and when it was read.
    kernel: Option<(KernelLease, Instant)>,
    /// That state is newer than the agent's last stall.
    pub(super) confirmed: bool,
    /// The agent has announced that it restarts: nothing more happens.
    pub(super) restarting: bool,
}

/// Requests to all members to watch this node, since it last needed none.
#[derive(Debug)]
struct Asks {
    retry: Retry,
    count: u32,
}

impl Asks {
    /// How often a node asks before it believes itself alone. A member that it did not ask relies on
    /// its being in company, and some requests may be lost.
    const ENOUGH: u32 = 3;

    fn none(timing: &Timing, now: Instant) -> Self {
        Self {
            retry: Retry::after(timing.ask_again(), now),
            count: 0,
        }
    }

    /// Whether it is time for the next request.
    fn due(&mut self, now: Instant) -> bool {
        let due = self.retry.due(now);
        self.count += u32::from(due);
        due
    }
}

impl Lease {
    pub(super) fn new(
        life: Life,
        adopted: Option<&Adopted>,
        times_alone: u32,
        timing: &Timing,
        now: Instant,
    ) -> Self {
        let former = adopted.map_or(Life(0), |adopted| adopted.lease.life);
        // Nodes that joined while a kernel was silent saw no reason to leave its VIPs to it.
        let adopted = adopted
            .filter(|adopted| now < adopted.deadline && adopted.lease.tenure == Tenure::Valid);
        Self {
            life: adopted.map_or(Life(life.0.max(former.0 + 1)), |_| former),
            deadline: now + timing.settings().agent_grace,
            heartbeat: now,
            asks: Asks::none(timing, now),
            former: adopted.and_then(|adopted| FormerLease::of(adopted, timing, now)),
            times_alone: adopted
                .map(|adopted| adopted.alone)
                .filter(|alone| *alone != 0)
                .unwrap_or(times_alone),
            alone: adopted.is_some_and(|adopted| adopted.alone != 0),
            alone_since: now,
            kernel: None,
            confirmed: false,
            restarting: false,
        }
    }

    /// Whether the kernel answers for this node's VIPs.
    pub(super) fn is_valid(&self, now: Instant) -> bool {
        self.confirmed
            && self.kernel.is_some_and(|(kernel, _)| {
                kernel.tenure == Tenure::Valid && (self.alone || self.is_heard(now))
            })
    }

    /// Whether the kernel was read at this moment.
    pub(super) fn was_read(&self, now: Instant) -> bool {
        self.kernel.is_some_and(|(_, read)| read == now)
    }

    /// Asks the members to watch this node without delay, if that is needed now.
    pub(super) fn ask_at_once(&mut self, timing: &Timing, now: Instant) {
        self.asks = Asks::none(timing, now);
    }

    /// Whether any member hears this node and renews its lease.
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        self.renewed_until().is_some_and(|until| now < until)
    }

    /// The end of the last renewal by a member.
    pub(super) fn renewed_until(&self) -> Option<Instant> {
        let (kernel, read) = self.kernel?;
        kernel.peers_left.map(|left| read + left)
    }
}

impl Cluster {
    /// Extends the agent's deadline, and has the kernel's side of the lease read.
    pub(super) fn beat(&mut self, now: Instant) {
        self.lease.heartbeat = now + self.timing.heartbeat();
        self.lease.deadline = now + self.timing.settings().agent_grace;
        self.write_lease();
    }

    /// Writes the lease as it is. This does not delay the next heartbeat, which alone extends the
    /// deadline.
    pub(super) fn write_lease(&mut self) {
        self.commands.push_back(Command::Lease(AgentLease {
            life: self.lease.life,
            deadline: self.lease.deadline,
            peers_lease: self.peers_lease(),
            alone: if self.lease.alone {
                self.lease.times_alone
            } else {
                0
            },
            restarting: self.lease.restarting,
            draining: self.card.draining,
        }));
    }

    pub(super) fn lease_wake(&self, now: Instant) -> Option<Instant> {
        if self.lease.restarting {
            return None;
        }
        // If nothing was due then, the next heartbeat looks again.
        let later = self
            .joining
            .wake()
            .chain(self.silent_at())
            .filter(|at| *at > now);
        later.chain([self.lease.heartbeat]).min()
    }

    /// When this node will have heard nobody for long enough to believe itself alone. A renewal by
    /// a member counts as well: of many nodes, some watch none themselves.
    fn silent_at(&self) -> Option<Instant> {
        let contact = self.peers.last_spoke()?;
        let renewed = self.lease.renewed_until();
        let renewed = renewed.and_then(|until| until.checked_sub(self.peers_lease()));
        let last = contact.max(renewed.unwrap_or(contact));
        Some(last + self.timing.settings().suspect_after)
    }

    /// Whether this node has asked all members to watch it, several times since it last stalled. The
    /// kernel was read as often, and what waited during the stall has been read too.
    fn has_asked(&self) -> bool {
        self.lease.asks.count >= Asks::ENOUGH || self.live().next().is_none()
    }

    /// Whether this node has heard nobody for a while.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.silent_at().is_none_or(|at| now >= at)
    }

    pub(super) fn lease_due(&mut self, now: Instant) {
        if self.lease.restarting {
            return;
        }
        if now >= self.lease.deadline {
            self.end_life(LifeOver::Lapsed, self.lease.life, now);
        }
        if self.is_joined() && !self.has_majority(now) {
            self.end_life(LifeOver::Minority, self.lease.life, now);
        }
        self.joining_due(now);
        self.update_alone(now);
        self.former_lease_due(now);
        if now >= self.lease.heartbeat {
            self.beat(now);
            self.count_nodes();
            self.watch_the_unwatched(now);
        }
    }

    fn update_alone(&mut self, now: Instant) {
        let silent = self.is_silent(now);
        // A node that knows no other is a majority by itself.
        let allowed = self.timing.settings().partition == Partition::Available
            || self.live().next().is_none();
        let alone = silent && allowed && self.is_joined() && self.has_asked();
        if alone && !self.lease.alone {
            self.lease.alone = true;
            self.lease.alone_since = now;
            self.lease.times_alone = self.lease.times_alone.wrapping_add(1).max(1);
            self.lease.heartbeat = now;
        } else if self.lease.alone && !silent {
            // The flag is cleared only once a member renews the lease. A renewal from before the
            // node was alone does not count: it is about to end.
            let before = self.lease.alone_since + self.peers_lease();
            if self
                .lease
                .renewed_until()
                .is_some_and(|until| until > before)
            {
                self.lease.alone = false;
                self.write_lease();
            }
        }
    }

    pub(super) fn on_kernel(&mut self, kernel: KernelLease, now: Instant) {
        if kernel.life != self.lease.life || self.lease.restarting {
            return;
        }
        self.lease.kernel = Some((kernel, now));
        self.lease.confirmed = true;
        match kernel.tenure {
            Tenure::Over => self.end_life(LifeOver::Lapsed, self.lease.life, now),
            Tenure::Unarmed if self.lease.alone && self.is_silent(now) => {
                // A probe showed that the node was not alone, but its sender is not a member, or
                // has been silent since: the next period alone has a new number.
                self.lease.alone = false;
            }
            Tenure::Unarmed => self.ask_to_be_watched(now),
            Tenure::Valid if !self.lease.alone => {
                let left = kernel.peers_left.unwrap_or_default();
                let lease = self.peers_lease();
                let low = lease.saturating_sub(self.timing.ask_after()).max(lease / 2);
                let look = if left <= low {
                    self.ask_to_be_watched(now);
                    self.lease.asks.retry.next
                } else {
                    self.lease.ask_at_once(&self.timing, now);
                    now + (left - low)
                };
                self.lease.heartbeat = self.lease.heartbeat.min(look);
            }
            Tenure::Valid => {}
        }
        if !self.lease.is_valid(now) {
            // Claims and announcements wait for a renewal, which nothing reports to the agent.
            self.lease.heartbeat = self.lease.heartbeat.min(now + Timing::RETRY);
        }
    }

    fn ask_to_be_watched(&mut self, now: Instant) {
        if !self.lease.asks.due(now) {
            return;
        }
        let members: Vec<_> = self.live().map(|(name, _)| name.clone()).collect();
        for name in members {
            self.send(&name, Body::WatchMe);
        }
    }

    /// Begins the life after this one and after `over`, owning nothing. A node that was declared
    /// down, or lost the majority, comes back as a newcomer.
    pub(super) fn end_life(&mut self, why: LifeOver, over: Life, now: Instant) {
        self.event(Event::LifeOver(why));
        self.drop_everything();
        self.lease.life = Life(over.0.max(self.lease.life.0) + 1);
        self.lease.alone = false;
        self.lease.kernel = None;
        self.lease.confirmed = false;
        self.joining.newcomer = why != LifeOver::Lapsed;
        self.joining.begin_again(&self.timing, now);
        self.beat(now);
        self.restart_handshakes(self.joining.newcomer, now);
    }
}
