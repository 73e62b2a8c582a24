//! One owner per VIP: who is a member, who is alive, and who owns what.
//!
//! [`Cluster`] is a state machine without I/O: [`handle`](Cluster::handle) takes an [`Input`] and
//! the time, [`next_command`](Cluster::next_command) returns what to do, and
//! [`poll_timeout`](Cluster::poll_timeout) says when to come back. It reads no clock, opens no
//! socket and starts no task.
//!
//! # Why there is never more than one answer
//!
//! *A node that wants a VIP asks every member for consent* (`claim`). A member consents only if it
//! does not own the VIP, or has just stopped answering for it, and will not complete a claim of its
//! own. A consent binds only the member that gives it; so two members cannot both own a VIP if at
//! least one of them knows the other (Ricart and Agrawala, 1981). A node claims nothing before it
//! has met every member that any member knows (`handshake`, `pull`), and so of any two members at
//! least one knows the other.
//!
//! *A member that does not answer is left out only once it cannot be answering for any VIP*
//! (`silence`): its kernel's lease has lapsed because no member has renewed it for long enough
//! ([`Timing`]), or its kernel itself says so. A lapsed lease is never extended: the node begins
//! another *life*, in which it owns nothing, and meets everybody again.
//!
//! *No agent has to notice anything in time.* The kernel stops by itself, and a claim that gathered
//! consent before a freeze takes effect in a life that is over.
//!
//! *Each VIP has its own owner*, even where several belong together: nodes that disagree on which
//! belong together, because one has yet to hear of a change, still cannot both own the same one.
//! VIPs that belong together follow the first of them ([`Placement::follows`]): a vacant one goes
//! to the owner of the first, and any other owner hands it to that node.
//!
//! After a split, each side considers the other's lives over. When the sides meet, the nodes of the
//! smaller one begin new lives and join the larger one as newcomers (`life_over`): there is nothing
//! to reconcile, and nothing on the larger side moves.
//!
//! Membership is not gossiped. Consent requires every member to have met every other, and meeting
//! conveys all that gossip would: addresses, links, owners, other members. Steady traffic is the
//! probes, a constant number per node.

mod agenda;
mod claim;
mod configured;
mod decide;
mod departure;
mod discovery;
mod dispatch;
mod display;
mod explain;
mod handover;
mod handshake;
mod io;
mod joining;
mod lease;
mod life_over;
mod links;
mod majority;
mod message;
mod moves;
mod name;
mod order;
mod orphans;
mod peer;
mod peers;
mod pull;
mod rebalance;
mod record;
mod rounds;
mod seat;
mod settings;
mod silence;
mod spans;
mod stall;
mod stop;
#[cfg(test)]
mod tests;
mod throttle;
mod timing;
mod vouching;
mod watch;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Instant,
};

use fastrand::Rng;
use speaker_common::probe::Key;

pub use configured::Configured;
pub use explain::{Candidate, CandidateStanding, Explanation, Member};
pub use io::{
    Adopted, AgentLease, Cause, Claimant, Command, Config, DownReason, Event, Failback, Input,
    KernelLease, LifeOver, LinkInfo, Occupancy, Placement, Reason, Silence, Stop, VipState,
    lease_flags,
};
pub use message::{MESSAGE_LENGTH, describe_message};
pub use name::{Endpoints, Epoch, Life, NodeName};
pub use order::metallb_order;
pub use settings::{Partition, Settings, TimingError};
pub use spans::Spans;
pub use timing::Timing;

use agenda::Agenda;
use claim::PendingClaim;
use discovery::Discovery;
use handshake::HelloStamps;
use joining::Joining;
use lease::Lease;
use links::LinksHash;
use majority::Majority;
use message::{Body, Card};
use moves::Moves;
use orphans::Orphans;
use peer::{Peer, Retry};
use peers::Peers;
use record::Record;
use rounds::Round;
use seat::Seat;
use silence::Replies;
use stall::Stalls;
use stop::Stopping;
use throttle::Throttle;

/// One node's part in the cluster.
pub struct Cluster {
    name: NodeName,
    /// The node's number in probes.
    number: u64,
    /// Tells this run of the agent from others of the node.
    agent: u64,
    timing: Timing,
    failback: Failback,
    check_first: bool,
    keys: Vec<Key>,
    rng: Rng,

    // This node itself.
    /// What the others know about it.
    card: Card,
    /// Its links; the card has their hash.
    links: Vec<LinkInfo>,
    lease: Lease,
    majority: Majority,
    joining: Joining,
    /// Its links and intent have been loaded.
    planned: bool,
    stalls: Stalls,
    stopping: Option<Stopping>,

    // The other nodes.
    peers: Peers,
    discovery: Discovery,
    orphans: Orphans,
    hello_stamps: HelloStamps,
    members_version: u64,
    /// A member came or went since the watchers were assigned.
    watches_stale: bool,
    replies: Replies,
    /// When the other members are next asked whom they have given up.
    gone_poll: Retry,

    // The VIPs.
    seats: BTreeMap<IpAddr, Seat>,
    records: BTreeMap<IpAddr, Record>,
    /// The VIPs that follow another one, by that one.
    followers: BTreeMap<IpAddr, BTreeSet<IpAddr>>,
    agenda: Agenda,
    rounds: BTreeMap<u64, Round>,
    /// Claims and offers of the current step, sent together at its end.
    pending_claims: Vec<PendingClaim>,
    pending_offers: BTreeMap<(NodeName, Reason), Vec<IpAddr>>,
    moves: Moves,

    // What goes out.
    commands: VecDeque<Command>,
    /// The member that relayed the current message, and will relay the answer.
    reply_via: Option<NodeName>,
    throttle: Throttle,
    /// What `poll_timeout` returns.
    wake: Option<Instant>,
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
        let lease = Lease::new(life, adopted.as_ref(), rng.u32(..), &timing, now);
        let hello_stamps = HelloStamps::starting_at(rng.u64(..));
        let agent = rng.u64(..);
        let mut cluster = Self {
            number: name.number(),
            name,
            agent,
            failback,
            check_first,
            keys,
            rng,
            card: Card {
                version: 1,
                endpoints,
                draining,
                links: LinksHash::of(&[]),
                spans: timing.spans(),
            },
            links: Vec::new(),
            lease,
            majority: Majority::default(),
            joining: Joining::new(peers.is_some(), &timing, now),
            planned: false,
            stalls: Stalls::none(now),
            stopping: None,
            peers: Peers::default(),
            discovery: Discovery::new(peers, remembered, now),
            orphans: Orphans::default(),
            hello_stamps,
            members_version: 0,
            watches_stale: true,
            replies: Replies::default(),
            gone_poll: Retry::now(now),
            seats: BTreeMap::new(),
            records: BTreeMap::new(),
            followers: BTreeMap::new(),
            agenda: Agenda::default(),
            rounds: BTreeMap::new(),
            pending_claims: Vec::new(),
            pending_offers: BTreeMap::new(),
            moves: Moves::default(),
            commands: VecDeque::new(),
            reply_via: None,
            throttle: Throttle::default(),
            wake: None,
            timing,
        };
        cluster.card.spans = cluster.told_spans();
        cluster.adopt(adopted, now);
        cluster.beat(now);
        cluster.try_all_missing(now);
        cluster.run(now);
        cluster
    }

    /// Handles one input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.notice_stall(now);
        self.peers.wake_due(now);
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
                self.decide_all();
            }
            Input::Drain(draining) => self.on_drain(draining, now),
            Input::Move { vip, to } => self.on_move(vip, to, now),
            Input::Rebalance => self.on_rebalance(),
            Input::WireClaim { vip, by } => self.on_wire_claim(vip, by, now),
            Input::Checked { vip, occupancy } => self.on_checked(vip, occupancy, now),
            Input::Stop(stop) => self.on_stop(stop, now),
        }
        self.run(now);
    }

    /// When to hand in [`Input::Tick`] if no other input comes first.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// The next command to carry out.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Does everything that is due: first about nodes, then about VIPs, and last the messages that
    /// follow.
    fn run(&mut self, now: Instant) {
        self.assign_watches(now);
        self.discovery_due(now);
        self.orphans_due(now);
        self.handshakes_due(now);
        self.probe_due(now);
        self.watch_unresponsive(now);
        self.judge(now);
        self.lease_due(now);
        self.moves_due(now);
        self.decide_due(now);
        self.flush_offers(now);
        self.flush_claims(now);
        self.rounds_due(now);
        self.stop_due(now);
        self.let_peers_rest(now);
        self.wake = self.next_wake(now);
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        // What became due during this input is left for the next one.
        [
            Some(self.discovery_wake()),
            self.orphans_wake(),
            self.peers.next_wake(),
            self.handshake_wake(),
            self.watch_wake(),
            self.silence_wake(now),
            self.lease_wake(now),
            self.agenda.wake(now),
            self.moves_wake(),
            self.rounds_wake(),
            self.stop_wake(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn event(&mut self, event: Event) {
        self.commands.push_back(Command::Event(event));
    }

    fn live(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.peers.iter().filter(|(_, peer)| peer.is_live())
    }

    /// Members about which something may be due.
    fn awake(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.peers.awake().filter(|(_, peer)| peer.is_live())
    }

    fn nonce(&mut self) -> u64 {
        self.rng.u64(..)
    }
}
