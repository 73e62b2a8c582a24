//! One owner per VIP: who is a member, who is alive, and who owns what.
//!
//! [`Cluster`] is a function of what happens: [`handle`](Cluster::handle) takes an [`Input`] and
//! the time, [`next_command`](Cluster::next_command) gives what to do, and
//! [`poll_timeout`](Cluster::poll_timeout) says when to come back. It reads no clock, has no
//! sockets and starts no tasks.
//!
//! # Why there is never more than one answer
//!
//! *A node that would own a VIP asks every member for consent* (`claim`), and a member consents
//! only if it does not own the VIP itself, will not go on with a claim of its own, and has
//! stopped answering if it did. A consent speaks for the speaker alone; so any two members, one of
//! which knows of the other, cannot both own a VIP (Ricart and Agrawala, 1981). A node claims
//! nothing before it has met all members that any member knows of (`meet`), and so of any two one
//! knows of the other.
//!
//! *A member that does not answer is left out only when it cannot be answering for any VIP*
//! (`silence`): its kernel's lease has lapsed, because no member has renewed it for
//! long enough ([`Timing`]), or its kernel said itself that it has lapsed. A lapsed lease is never
//! extended; the node begins another *life*, owning nothing, and meets everybody again.
//!
//! *Nothing depends on an agent noticing anything in time.* The kernel stops by itself; a claim
//! that was gathered before a freeze takes effect in a life that is over.
//!
//! *Each VIP has an owner of its own*, also where several are to be together: nodes that do not agree
//! on which these are, since one has yet to hear of a change, cannot both own one of them. VIPs that
//! belong together follow the first of them ([`Placement::follows`]): a vacant one goes to the owner
//! of the first, and any other owner hands it to that one.
//!
//! After a split, each side holds the lives of the other to be over. When they meet, the nodes of
//! the smaller side end their lives and join the larger one as if new: there is nothing to
//! reconcile, and nothing on the larger side moves.
//!
//! Membership is not gossiped. Consent needs every member to have met every other, and the
//! meeting itself tells all that gossip would: addresses, links, owners, other members. Steady
//! traffic is the probes, which are a constant number per node.

mod claim;
mod complaints;
mod configured;
mod decide;
mod display;
mod explain;
mod handover;
mod io;
mod lease;
mod links;
mod meet;
mod message;
mod moves;
mod name;
mod order;
mod peer;
mod rebalance;
mod rounds;
mod scout;
mod silence;
mod spans;
mod stop;
mod table;
#[cfg(test)]
mod tests;
mod timing;
mod watch;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use fastrand::Rng;
use speaker_common::probe::Key;

pub use configured::Configured;
pub use explain::{Candidate, CandidateStanding, Explanation, Member};
pub use io::{
    Adopted, AgentLease, Cause, Claimant, Command, Config, Downfall, Event, Failback, Input,
    KernelLease, LifeOver, LinkInfo, Placement, Reason, Silence, Stop, VipState, lease_flags,
};
pub use message::{MESSAGE_LENGTH, describe_message};
pub use name::{Endpoints, Epoch, Life, NodeName};
pub use order::metallb_order;
pub use spans::Spans;
pub use timing::{Partition, Settings, Timing, TimingError};

use claim::Wish;
use complaints::Complaints;
use lease::Own;
use links::LinksHash;
use message::{Body, Card, Envelope};
use moves::Moves;
use peer::{Peer, Retry};
use rounds::Round;
use scout::Scouts;
use stop::Stopping;
use table::{Record, Seat};

/// One node's part in the cluster.
pub struct Cluster {
    name: NodeName,
    number: u64,
    /// Which of the node's agents this is.
    agent: u64,
    /// The first and the next hello's stamp.
    stamps: (u64, u64),
    timing: Timing,
    failback: Failback,
    check_first: bool,
    keys: Vec<Key>,
    rng: Rng,
    card: Card,
    links: Vec<LinkInfo>,
    own: Own,
    planned: bool,

    configured: Configured,
    /// There are no other nodes than these.
    complete: bool,
    /// Where nodes were that a former agent knew, and this one has yet to meet.
    remembered: BTreeMap<NodeName, SocketAddr>,
    /// What the next agent will know.
    written: BTreeMap<NodeName, SocketAddr>,
    peers: BTreeMap<NodeName, Peer>,
    complaints: Complaints,
    /// Counts the changes of what other nodes tell of themselves.
    news: u64,
    /// When the next stranger is asked to join, and which was the last.
    invite: (Instant, Option<SocketAddr>),
    scouts: Scouts,
    /// Somebody came or went since the watchers were assigned.
    unassigned: bool,
    /// When members are next asked whom they have given up.
    poll: Retry,

    rounds: BTreeMap<u64, Round>,
    seats: BTreeMap<IpAddr, Seat>,
    records: BTreeMap<IpAddr, Record>,
    /// The VIPs that follow another.
    followers: BTreeMap<IpAddr, BTreeSet<IpAddr>>,
    /// VIPs to decide about now, and later.
    dirty: BTreeSet<IpAddr>,
    due: BTreeSet<(Instant, IpAddr)>,
    wishes: Vec<Wish>,
    offers: BTreeMap<(NodeName, Reason), Vec<IpAddr>>,
    moves: Moves,

    stopping: Option<Stopping>,

    /// When this node was last seen not to run, and has run on time since.
    smooth_since: Instant,
    /// That was after its start: messages have been waiting for it.
    stood_still: bool,
    /// What `poll_timeout` says.
    wake: Option<Instant>,
    commands: VecDeque<Command>,
    /// The member that passed the present message on.
    reply_via: Option<NodeName>,
}

impl Cluster {
    /// A node that starts at `now`.
    pub fn new(config: Config, timing: Timing, now: Instant) -> Self {
        let Config {
            name,
            endpoints,
            life,
            adopted,
            keys,
            peers,
            remembered,
            draining,
            failback,
            check_first,
            seed,
        } = config;
        let mut rng = Rng::with_seed(seed);
        let mut own = Own::new(life, adopted.as_ref(), rng.u32(..), &timing, now);
        if peers.is_none() {
            own.wait_for_peers();
        }
        let stamp = rng.u64(..);
        let mut cluster = Self {
            agent: rng.u64(..),
            stamps: (stamp, stamp),
            number: name.number(),
            name,
            failback,
            check_first,
            keys,
            card: Card {
                version: 1,
                endpoints,
                draining,
                links: LinksHash::of(&[]),
                spans: timing.spans(),
            },
            timing,
            links: Vec::new(),
            own,
            planned: false,
            complete: peers.is_none(),
            configured: peers.unwrap_or_default(),
            written: remembered.clone(),
            remembered,
            peers: BTreeMap::new(),
            complaints: Complaints::default(),
            news: 0,
            invite: (now, None),
            scouts: Scouts::default(),
            unassigned: false,
            poll: Retry::now(now),
            rounds: BTreeMap::new(),
            seats: BTreeMap::new(),
            records: BTreeMap::new(),
            followers: BTreeMap::new(),
            dirty: BTreeSet::new(),
            due: BTreeSet::new(),
            wishes: Vec::new(),
            offers: BTreeMap::new(),
            moves: Moves::default(),
            stopping: None,
            smooth_since: now,
            stood_still: false,
            wake: None,
            commands: VecDeque::new(),
            reply_via: None,
            rng,
        };
        cluster.card.spans = cluster.told_spans();
        cluster.adopt(adopted, now);
        cluster.write_lease(now);
        cluster.invite_all(now);
        cluster.run(now);
        cluster
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.notice_stall(now);
        match input {
            Input::Tick => {}
            Input::Message { from, bytes } => self.on_message(from, &bytes, now),
            Input::Probe(bytes) => self.on_probe(&bytes, watch::Path::Direct, now),
            Input::ProbeAnswered { to, reply } => self.send(&to, Body::Probe(reply.into())),
            Input::Kernel(kernel) => self.on_kernel(kernel, now),
            Input::Peers(peers) => self.on_peers(peers, now),
            Input::Resolved(peers) => self.on_resolved(peers, now),
            Input::Keys(keys) => self.keys = keys,
            Input::Links(links) => self.on_own_links(links, now),
            Input::Vips(vips) => {
                for (name, placement) in vips {
                    self.on_vip(name, placement, now);
                }
            }
            Input::Planned => {
                self.planned = true;
                self.all_dirty();
            }
            Input::Drain(draining) => self.on_drain(draining, now),
            Input::Move { vip, to } => self.on_move(vip, to, now),
            Input::Rebalance => self.on_rebalance(),
            Input::WireClaim { vip, by } => self.on_wire_claim(vip, by, now),
            Input::Checked { vip, free } => self.on_checked(vip, free, now),
            Input::Stop(stop) => self.on_stop(stop, now),
        }
        self.run(now);
    }

    /// When to hand in [`Input::Tick`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// The next thing to do.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn run(&mut self, now: Instant) {
        self.assign_watches(now);
        self.invite_due(now);
        self.scout_due(now);
        self.greet_due(now);
        self.probe_due(now);
        self.watch_the_mute(now);
        self.judge(now);
        self.tend_lease(now);
        self.tend_moves(now);
        self.decide_due(now);
        self.flush_offers(now);
        self.flush_wishes(now);
        self.rounds_due(now);
        self.tend_stop(now);
        self.wake = self.next_wake(now);
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        // What came due while the present input was handled is for the next one.
        [
            self.meet_wake(),
            self.scout_wake(),
            self.watch_wake(),
            self.silence_wake(now),
            self.lease_wake(now),
            self.due.first().map(|(at, _)| *at),
            (!self.dirty.is_empty()).then_some(now),
            self.moves_wake(),
            self.rounds_wake(),
            self.stop_wake(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A node that was not running when it should have has missed replies that others sent: it
    /// accuses nobody for a while, and looks at the kernel before it relies on its lease.
    fn notice_stall(&mut self, now: Instant) {
        if self
            .wake
            .is_some_and(|wake| now > wake + self.timing.stall())
        {
            self.smooth_since = now;
            self.stood_still = true;
            self.own.sure = false;
            self.own.heartbeat = now;
            for peer in self.peers.values_mut() {
                peer.evidence.in_company = false;
            }
        }
    }

    fn is_smooth(&self, now: Instant) -> bool {
        now >= self.smooth_since + self.timing.settings().suspect_after
    }

    /// It has run for long enough since it last stood still to have heard the replies to several
    /// probes.
    fn may_accuse(&self, now: Instant) -> bool {
        now >= self.may_accuse_at()
    }

    fn may_accuse_at(&self) -> Instant {
        self.smooth_since + self.timing.settings().probe_interval
    }

    /// What it hears may be old: it stood still a moment ago.
    fn is_catching_up(&self, now: Instant) -> bool {
        self.stood_still && !self.is_smooth(now)
    }

    fn on_message(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        let Some(Envelope {
            from: sender,
            life,
            agent,
            via,
            body,
        }) = Envelope::decode(bytes)
        else {
            self.complain(Event::Unreadable(from), now);
            return;
        };
        if sender == self.name {
            self.complain(Event::NameTaken(from), now);
            return;
        }
        self.reply_via = via;
        self.hear(&sender, from, (life, agent), body, now);
        self.reply_via = None;
    }

    fn hear(
        &mut self,
        sender: &NodeName,
        from: SocketAddr,
        (life, agent): (Life, u64),
        body: Body,
        now: Instant,
    ) {
        match body {
            // What needs no acquaintance.
            Body::Hello {
                stamp,
                cookie,
                card,
            } => self.on_hello(sender, (life, agent), (stamp, cookie), card, now),
            Body::Welcome {
                guest,
                stamp,
                cookie,
                accepted,
                read,
                card,
            } => {
                if guest == self.own.life && self.is_own_stamp(stamp) {
                    let read = accepted.then_some(read);
                    self.on_welcome(sender, (life, agent), (stamp, cookie), read, card, now);
                }
            }
            Body::Over { life: over, side } => self.on_over(sender, life, over, &side, now),
            Body::Probe(probe) => self.on_probe(&probe.into(), watch::Path::Message(sender), now),
            _ if !self.is_member(sender, (life, agent), from, now) => {}
            Body::Pull(after) => self.on_pull(sender, after, now),
            Body::Page(page) => self.on_page(sender, page, now),
            Body::AskLinks { hash, after } => self.on_ask_links(sender, hash, after),
            Body::Links(part) => self.on_links(sender, part, now),
            Body::Gone { lives, please } => self.on_gone(sender, lives, please, now),
            Body::Lapsed {
                round,
                name,
                life,
                agentless,
            } => {
                self.on_lapsed(&name, life, agentless, now);
                self.reply(sender, Body::Ack { round });
            }
            Body::Retract {
                round,
                name,
                life,
                turn,
            } => {
                self.on_retract(sender, &name, life, turn);
                self.reply(sender, Body::Ack { round });
            }
            Body::Claim {
                round,
                cause,
                entries,
            } => self.on_claim(sender, life, round, &cause, entries, now),
            Body::Verdict { round, denied } => self.on_verdict(sender, round, denied, now),
            Body::Owned { round, entries } => self.on_owned(sender, life, round, entries, now),
            Body::Release { round, entries } => self.on_release(sender, round, entries, now),
            Body::Pause { round } => {
                self.on_pause(sender, now, now);
                self.reply(sender, Body::Ack { round });
            }
            Body::Leave { round } => {
                self.reply(sender, Body::Ack { round });
                self.on_leave(sender, now);
            }
            Body::Ack { round } => self.on_ack(sender, round, now),
            Body::Offer { entries, why } => self.on_offer(sender, entries, why, now),
            Body::Decline { vips } => self.on_decline(sender, vips, now),
            Body::Move { vips, to, why } => self.on_move_asked(&vips, &to, why, now),
            Body::WatchMe => self.on_watch_me(sender, now),
            Body::ProbeVia { target, probe } => {
                if let Some(peer) = self.peers.get(&target) {
                    let to = peer.card.endpoints.probes;
                    let probe = probe.into();
                    self.commands.push_back(Command::SendProbe { to, probe });
                }
            }
            Body::Relay { to, message } => {
                if let Some(peer) = self.peers.get(&to) {
                    let to = peer.card.endpoints.messages;
                    let bytes = message;
                    self.commands.push_back(Command::Send { to, bytes });
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.commands.push_back(Command::Event(event));
    }

    fn envelope(&self, body: Body, via: Option<NodeName>) -> Vec<u8> {
        let envelope = Envelope {
            from: self.name.clone(),
            life: self.own.life,
            agent: self.agent,
            via,
            body,
        };
        envelope.encode()
    }

    fn send(&mut self, to: &NodeName, body: Body) {
        if let Some(peer) = self.peers.get(to) {
            let to = peer.card.endpoints.messages;
            self.send_to(to, body);
        }
    }

    fn send_to(&mut self, to: SocketAddr, body: Body) {
        let bytes = self.envelope(body, None);
        self.commands.push_back(Command::Send { to, bytes });
    }

    fn send_via(&mut self, relay: &NodeName, to: &NodeName, body: Body) {
        let message = self.envelope(body, Some(relay.clone()));
        let to = to.clone();
        self.send(relay, Body::Relay { to, message });
    }

    /// Answers the present message the way it came.
    fn reply(&mut self, to: &NodeName, body: Body) {
        match self.reply_via.clone() {
            Some(relay) => self.send_via(&relay, to, body),
            None => self.send(to, body),
        }
    }

    fn live(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.peers.iter().filter(|(_, peer)| peer.is_live())
    }

    /// Some member that may reach `target` where this node does not.
    fn relay(&mut self, target: &NodeName) -> Option<NodeName> {
        let relays: Vec<&NodeName> = self
            .peers
            .iter()
            .filter(|(name, peer)| *name != target && peer.is_live() && !peer.evidence.gone)
            .map(|(name, _)| name)
            .collect();
        if relays.is_empty() {
            return None;
        }
        let relay = relays[self.rng.usize(..relays.len())].clone();
        Some(relay)
    }

    fn number(&mut self) -> u64 {
        self.rng.u64(..)
    }
}
