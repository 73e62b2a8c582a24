//! This node's own lease: its lives, its agent's heartbeats, and whether it is alone.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use speaker_common::probe::Tenure;

use super::{
    Cluster,
    configured::Configured,
    io::{Adopted, AgentLease, Command, Event, KernelLease, LifeOver},
    message::Body,
    name::Life,
    peer::State,
    spans::Former,
    timing::{Partition, Timing},
};

#[derive(Debug)]
pub(super) struct Own {
    pub(super) life: Life,
    /// Until when the kernel holds the agent to be alive.
    pub(super) deadline: Instant,
    /// When the next heartbeat is due.
    pub(super) heartbeat: Instant,
    /// The peers' lease is to become this agent's, and is not yet.
    pub(super) former: Option<Former>,
    /// The last number of a time alone.
    times_alone: u32,
    pub(super) alone: bool,
    /// When it last began to be.
    alone_since: Instant,
    phase: Phase,
    /// It has to meet everybody; else whoever it knew as a member can tell it of the rest.
    newcomer: bool,
    /// The kernel's last word on this life, and when it was read.
    pub(super) kernel: Option<(KernelLease, Instant)>,
    /// The kernel has said so since the agent was last seen not to run.
    pub(super) sure: bool,
    /// The agent has announced that it restarts: nothing more happens.
    pub(super) restarting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Meeting the others: strangers are waited for until then.
    Joining(Instant),
    Joined,
    /// It has yet to be told which nodes there are.
    Untold,
}

impl Own {
    pub(super) fn new(
        life: Life,
        adopted: Option<&Adopted>,
        times_alone: u32,
        timing: &Timing,
        now: Instant,
    ) -> Self {
        let former = adopted.map_or(Life(0), |adopted| adopted.lease.life);
        let adopted = adopted
            .filter(|adopted| now < adopted.deadline && adopted.lease.tenure != Tenure::Over);
        Self {
            life: adopted.map_or(Life(life.0.max(former.0 + 1)), |_| former),
            deadline: now + timing.settings().agent_grace,
            heartbeat: now,
            former: adopted.and_then(|adopted| Former::of(adopted, timing, now)),
            times_alone: adopted
                .map(|adopted| adopted.alone)
                .filter(|alone| *alone != 0)
                .unwrap_or(times_alone),
            alone: adopted.is_some_and(|adopted| adopted.alone != 0),
            alone_since: now,
            phase: Phase::Joining(now + timing.longest_alone()),
            newcomer: true,
            kernel: None,
            sure: false,
            restarting: false,
        }
    }

    /// Nobody is looked for before it is known who is there.
    pub(super) fn wait_for_peers(&mut self) {
        self.phase = Phase::Untold;
    }

    /// The node has met the others, and takes part.
    pub(super) fn is_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    /// The kernel answers for what it is told to.
    pub(super) fn stands(&self, now: Instant) -> bool {
        self.sure
            && self.kernel.is_some_and(|(kernel, _)| {
                kernel.tenure == Tenure::Valid && (self.alone || self.is_heard(now))
            })
    }

    /// Some member hears this node, and renews its lease.
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        self.renewed_until().is_some_and(|until| now < until)
    }

    /// The end of what the members that hear this node have renewed.
    pub(super) fn renewed_until(&self) -> Option<Instant> {
        let (kernel, read) = self.kernel?;
        kernel.peers_left.map(|left| read + left)
    }
}

impl Cluster {
    pub(super) fn write_lease(&mut self, now: Instant) {
        self.own.heartbeat = now + self.timing.heartbeat();
        self.commands.push_back(Command::Lease(AgentLease {
            life: self.own.life,
            deadline: self.own.deadline,
            peers_lease: self.peers_lease(),
            alone: if self.own.alone {
                self.own.times_alone
            } else {
                0
            },
            restarting: self.own.restarting,
            draining: self.card.draining,
        }));
    }

    pub(super) fn lease_wake(&self, now: Instant) -> Option<Instant> {
        if self.own.restarting {
            return None;
        }
        let join = match self.own.phase {
            Phase::Joining(until) => Some(until),
            Phase::Joined | Phase::Untold => None,
        };
        // What has passed without effect is looked at again at the next heartbeat.
        let later = join
            .into_iter()
            .chain(self.silent_at())
            .filter(|at| *at > now);
        later.chain([self.own.heartbeat]).min()
    }

    /// When this node will have heard nobody for long enough to believe itself alone.
    fn silent_at(&self) -> Option<Instant> {
        let speaking = self
            .live()
            .filter(|(_, peer)| !peer.headless && peer.paused.is_none());
        let last = speaking.filter_map(|(_, peer)| peer.contact).max()?;
        Some(last.max(self.smooth_since) + self.timing.settings().suspect_after)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.silent_at().is_none_or(|at| now >= at)
    }

    pub(super) fn tend_lease(&mut self, now: Instant) {
        if self.own.restarting {
            return;
        }
        if now >= self.own.deadline {
            self.end_life(LifeOver::Lapsed, self.own.life, now);
        }
        let majority = self.has_majority(now);
        if self.own.is_joined() && !majority {
            self.end_life(LifeOver::Minority, self.own.life, now);
        }
        if let Phase::Joining(until) = self.own.phase {
            // A member whose agent restarts will say hello itself.
            let met = self
                .live()
                .all(|(_, peer)| peer.meeting.met || peer.paused.is_some());
            let knows = self.live().any(|(_, peer)| peer.meeting.met);
            let known = !self.own.newcomer && knows;
            let waited = now >= until && (knows || !self.own.is_heard(now));
            // While it catches up, who has said good-bye may have come back since.
            let nobody_missing = !self.is_catching_up(now) && self.is_nobody_missing();
            if met && majority && (known || waited || nobody_missing) {
                self.own.phase = Phase::Joined;
                self.event(Event::Joined);
                self.all_dirty();
            }
        }
        self.tend_loneliness(now);
        self.tend_former_lease(now);
        if now >= self.own.heartbeat {
            self.own.deadline = now + self.timing.settings().agent_grace;
            self.write_lease(now);
        }
    }

    fn tend_loneliness(&mut self, now: Instant) {
        let silent = self.is_silent(now);
        // Under a majority policy the only node there is is the majority.
        let allowed = self.timing.settings().partition == Partition::Available
            || self.live().next().is_none();
        let alone = silent && allowed && self.own.is_joined();
        if alone && !self.own.alone {
            self.own.alone = true;
            self.own.alone_since = now;
            self.own.times_alone = self.own.times_alone.wrapping_add(1).max(1);
            self.write_lease(now);
        } else if self.own.alone && !silent {
            // Whoever is there has to renew the lease before it can do without loneliness. What was
            // renewed before that began is about to end.
            let before = self.own.alone_since + self.peers_lease();
            if self.own.renewed_until().is_some_and(|until| until > before) {
                self.own.alone = false;
                self.write_lease(now);
            }
        }
    }

    /// Under [`Partition::Majority`]: more than half of all known nodes reply.
    pub(super) fn has_majority(&self, now: Instant) -> bool {
        if self.timing.settings().partition == Partition::Available {
            return true;
        }
        let fresh = |at: Instant| now < at + self.timing.settings().suspect_after;
        let replying = self
            .live()
            .filter(|(_, peer)| peer.evidence.heard.map_or_else(|| fresh(peer.since), fresh))
            .count();
        let known = self.peers.values().filter(|peer| match peer.state {
            State::Live => true,
            // One that is down and has left the configuration is not there to have a say.
            State::Down(_) => self.may_exist(peer),
            State::Stranger | State::Left => false,
        });
        let known = known.count();
        // Who is unmet takes longest to find, and this is asked for each probe.
        let own = self.card.endpoints.messages;
        let others = self.configured.most_unmet(own) + self.remembered.len();
        let outweighs = |unmet: usize| 2 * (1 + replying) > 1 + known + unmet;
        outweighs(others) || outweighs(self.unmet())
    }

    /// How many nodes there should be that this one has never met.
    fn unmet(&self) -> usize {
        let met = self.known_as(|state| state != State::Stranger);
        let elsewhere = |address: &&SocketAddr| {
            !met.contains_key(address) && !self.configured.contains(**address)
        };
        let remembered = self.remembered.values().filter(elsewhere);
        self.configured.unmet(&met) + remembered.collect::<BTreeSet<_>>().len()
    }

    pub(super) fn on_kernel(&mut self, kernel: KernelLease, now: Instant) {
        if kernel.life != self.own.life || self.own.restarting {
            return;
        }
        self.own.kernel = Some((kernel, now));
        self.own.sure = true;
        match kernel.tenure {
            Tenure::Over => self.end_life(LifeOver::Lapsed, self.own.life, now),
            Tenure::Unarmed if self.own.alone && self.is_silent(now) => {
                // A probe ended the loneliness, and whoever sent it is no member, or is silent
                // since: this is another time alone.
                self.own.alone = false;
            }
            Tenure::Unarmed => self.ask_to_be_watched(),
            Tenure::Valid if !self.own.alone => {
                let low = self.peers_lease() / 2;
                if kernel.peers_left.is_none_or(|left: Duration| left < low) {
                    self.ask_to_be_watched();
                }
            }
            Tenure::Valid => {}
        }
    }

    /// It is joining, and strangers may still turn up.
    pub(super) fn is_waiting_for_strangers(&self, now: Instant) -> bool {
        matches!(self.own.phase, Phase::Joining(until) if now < until)
    }

    /// Begins to look for the others, if it is known which they are.
    fn join(&mut self, now: Instant) {
        if self.own.phase != Phase::Untold {
            self.own.phase = Phase::Joining(now + self.timing.longest_alone());
        }
    }

    /// These are the nodes that there are. Others that are members stay so until they are down.
    pub(super) fn on_peers(&mut self, peers: Configured, now: Instant) {
        self.complete = true;
        self.remembered.clear();
        self.configured = peers;
        if self.own.phase == Phase::Untold {
            self.own.phase = Phase::Joining(now + self.timing.longest_alone());
        }
        self.invite_all(now);
    }

    /// The nodes to look for are elsewhere than was known.
    pub(super) fn on_resolved(&mut self, peers: Configured, now: Instant) {
        self.configured = peers;
        self.invite_all(now);
    }

    fn ask_to_be_watched(&mut self) {
        let members: Vec<_> = self.live().map(|(name, _)| name.clone()).collect();
        for name in members {
            self.send(&name, Body::WatchMe);
        }
    }

    /// Begins another life, owning nothing. Whoever was declared down comes back as a newcomer.
    pub(super) fn end_life(&mut self, why: LifeOver, over: Life, now: Instant) {
        self.event(Event::LifeOver(why));
        self.give_up_everything();
        self.own.life = Life(over.0.max(self.own.life.0) + 1);
        self.own.deadline = now + self.timing.settings().agent_grace;
        self.own.alone = false;
        self.own.kernel = None;
        self.own.sure = false;
        self.own.newcomer = why != LifeOver::Lapsed;
        self.join(now);
        self.write_lease(now);
        self.forget_meetings(self.own.newcomer, now);
    }
}
