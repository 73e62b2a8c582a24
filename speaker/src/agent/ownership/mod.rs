//! This node's part in the cluster: feeds [`Cluster`], and carries out its commands.

mod local_node;
mod members;
mod net;
mod start;
mod verbs;
mod vips;

pub(super) use local_node::LocalNode;
pub use start::Options;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::pending,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use speaker_common::wire::Mac;
use speaker_core::{
    cluster::{
        self, Claimant, Cluster, Command, Configured, Event, Input, LinkInfo, Member, NodeName,
        Occupancy, Stop,
    },
    node,
};
use tokio::{sync::mpsc, task::yield_now};
use tracing::{info, warn};

use crate::{
    announce::Checker,
    peers::{Datagram, Lookup, Names},
    timer::until,
};
use members::Members;
use net::Net;

/// How often the key file is reloaded.
const KEYS: Duration = Duration::from_secs(2);

/// Everything that ownership itself waits for.
#[derive(Debug)]
pub(super) enum OwnershipEvent {
    /// The cluster's timer has expired.
    Due,
    /// A datagram has arrived.
    Datagram(Datagram),
    /// The key file is due to be reloaded.
    Keys,
    /// Peers' names are due to be looked up, or one has been.
    Names(Lookup),
    /// The result of a check whether another host uses a VIP.
    Checked(IpAddr, Occupancy),
}

pub(super) struct Ownership {
    name: NodeName,
    cluster: Cluster,
    /// `None` if this node is alone.
    net: Option<Net>,
    names: Names,
    /// `None` if the configuration names the nodes.
    members: Option<Members>,
    drained: PathBuf,
    draining: bool,
    hand_over: bool,
    restart_grace: Duration,
    /// Counts changes of owners and members.
    edition: u64,
    /// [`Cluster::members_version`] as of the last planning.
    news: u64,
    /// The links as last sent to the other nodes.
    links: Vec<LinkInfo>,
    /// The VIPs as planned, as last passed to the cluster, and those where the two differ.
    vips: BTreeMap<IpAddr, cluster::Placement>,
    told: BTreeMap<IpAddr, cluster::Placement>,
    untold: VecDeque<IpAddr>,
    planned: bool,
    /// This node has joined the others at least once.
    joined: bool,
    checker: Checker,
    /// The results of [`Command::Check`].
    checked: mpsc::UnboundedReceiver<(IpAddr, Occupancy)>,
    /// The last turn went to datagrams.
    served: bool,
    /// The agent may end.
    pub(super) stopped: bool,
}

impl Ownership {
    /// Sets the nodes that share the VIPs. All of them listen on the same port.
    pub(super) fn set_peers(&mut self, peers: BTreeSet<IpAddr>, local: &mut LocalNode) {
        let Some(net) = &mut self.net else {
            return;
        };
        let port = net.sockets.endpoints().messages.port();
        let addresses = peers.iter().map(|peer| SocketAddr::new(*peer, port));
        let configured = Configured::at(addresses);
        net.peers = peers;
        self.handle(Input::Peers(configured), local);
    }

    /// The next event. After a burst of datagrams, everything else gets its turn, here and in the
    /// agent's loop: anybody can send so many that there is always another one.
    pub(super) async fn next(&mut self) -> OwnershipEvent {
        let due = self.cluster.poll_timeout();
        let keys = self.net.as_ref().map(|net| net.read + KEYS);
        let datagram = async {
            match &self.net {
                Some(net) => net.sockets.next().await,
                None => pending().await,
            }
        };
        let urgent = async {
            tokio::select! {
                biased;
                datagram = datagram => OwnershipEvent::Datagram(datagram),
                () = until(due) => OwnershipEvent::Due,
            }
        };
        let rest = async {
            tokio::select! {
                biased;
                Some((vip, occupancy)) = self.checked.recv() => OwnershipEvent::Checked(vip, occupancy),
                () = until(keys) => OwnershipEvent::Keys,
                lookup = self.names.next() => OwnershipEvent::Names(lookup),
            }
        };
        in_turn(std::mem::take(&mut self.served), urgent, rest).await
    }

    /// Handles what [`Ownership::next`] returned.
    pub(super) fn handle_event(&mut self, event: OwnershipEvent, local: &mut LocalNode) {
        /// How long a burst of datagrams may take.
        const BURST: Duration = Duration::from_millis(10);
        match event {
            OwnershipEvent::Due => self.handle(Input::Tick, local),
            OwnershipEvent::Keys => self.read_keys(local),
            OwnershipEvent::Names(lookup) => self.resolve(lookup, local),
            OwnershipEvent::Checked(vip, occupancy) => {
                self.handle(Input::Checked { vip, occupancy }, local);
            }
            OwnershipEvent::Datagram(first) => {
                let end = Instant::now() + BURST;
                let mut next = Some(first);
                while let Some(datagram) = next {
                    self.receive(datagram, local);
                    let net = self.net.as_ref().filter(|_| Instant::now() < end);
                    next = net.and_then(|net| net.sockets.try_next());
                }
                // The next turn belongs to others, so the timer gets one now.
                self.served = true;
                let due = self.cluster.poll_timeout();
                if due.is_some_and(|due| due <= Instant::now()) {
                    self.handle(Input::Tick, local);
                }
            }
        }
    }

    fn receive(&mut self, datagram: Datagram, local: &mut LocalNode) {
        let Some(net) = &mut self.net else {
            return;
        };
        let input = match datagram {
            Datagram::Message(from, sealed) => match net.keys.open(&sealed) {
                Some(bytes) => Input::Message { from, bytes },
                None => {
                    net.cannot_read(from);
                    return;
                }
            },
            Datagram::Probe(from, probe) => match local.shell.lease.answer(&probe) {
                // No XDP program was on the path of the probe.
                Some(reply) => {
                    net.sockets.send_probe(from, &reply);
                    return;
                }
                None => Input::Probe(probe),
            },
            Datagram::NoProbe => return,
        };
        self.handle(input, local);
    }

    /// Passes an input to the cluster, and carries out the commands.
    pub(super) fn handle(&mut self, input: Input, local: &mut LocalNode) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.cluster.handle(input, Instant::now());
            self.carry_out(&mut inputs, local);
        }
    }

    fn carry_out(&mut self, inputs: &mut VecDeque<Input>, local: &mut LocalNode) {
        while let Some(command) = self.cluster.next_command() {
            match command {
                Command::Send { to, bytes } => {
                    if let Some(net) = &self.net {
                        net.sockets.send_message(to, &net.keys.seal(&bytes));
                    }
                }
                Command::SendProbe { to, probe } => {
                    if let Some(net) = &self.net {
                        net.sockets.send_probe(to, &probe);
                    }
                }
                Command::AnswerProbe { to, probe } => {
                    let reply = local.shell.lease.answer(&probe);
                    inputs.extend(reply.map(|reply| Input::ProbeAnswered { to, reply }));
                }
                Command::Lease(lease) => {
                    local.write_lease(&lease);
                    inputs.push_back(Input::Kernel(local.read_lease()));
                }
                Command::Set { vip, state } => {
                    self.edition += 1;
                    local.set(vip, &state);
                }
                Command::Announce(vip) => {
                    let now = Instant::now();
                    local.node.handle(node::Input::Announce(vip), now);
                }
                Command::Contend(vip) => {
                    let now = Instant::now();
                    local.node.handle(node::Input::Contend(vip), now);
                }
                Command::Defend(vip) => {
                    let now = Instant::now();
                    local.node.handle(node::Input::Defend(vip), now);
                }
                Command::Check(vip) => self.checker.check(vip, local.node.places(vip)),
                Command::Event(event) => {
                    self.joined |= event == Event::Joined;
                    self.edition += 1;
                    tell(&event);
                }
                Command::Remember(known) => {
                    if let Some(members) = &self.members {
                        members.keep(known);
                    }
                }
                Command::Stopped => self.stopped = true,
            }
        }
    }

    /// Another MAC claims a VIP. Returns whether it is foreign to the cluster.
    pub(super) fn claimed(&mut self, vip: IpAddr, by: Mac, local: &mut LocalNode) -> bool {
        if !self.told.contains_key(&vip) {
            return true;
        }
        let has = |member: &Member| member.links.iter().any(|link| link.mac == by);
        let member = self.cluster.members().find(has);
        let foreign = member.is_none();
        let by = member.map_or(Claimant::Foreign(by), |member| Claimant::Node(member.name));
        self.handle(Input::WireClaim { vip, by }, local);
        foreign
    }

    /// Begins to stop; `stopped` says when the agent may end.
    pub(super) fn stop(&mut self, local: &mut LocalNode) {
        let stop = if self.hand_over {
            info!("handing over all VIPs");
            Stop::HandOver
        } else {
            info!(
                "the kernel keeps answering for {} s; `speaker detach` stops it now",
                self.restart_grace.as_secs()
            );
            Stop::Return(self.restart_grace)
        };
        self.handle(Input::Stop(stop), local);
    }

    fn resolve(&mut self, lookup: Lookup, local: &mut LocalNode) {
        match lookup {
            Lookup::Due => {
                let live = self.cluster.members().filter(|it| it.standing.is_member());
                let members = live.map(|member| member.endpoints.messages).collect();
                self.names.look_up(&members, Instant::now());
            }
            Lookup::Done(answer) => {
                if self.names.learn(answer) {
                    if let Some(net) = &mut self.net {
                        net.expect(&self.names);
                    }
                    let peers = self.names.configured();
                    self.handle(Input::Resolved(peers), local);
                }
            }
        }
    }

    fn read_keys(&mut self, local: &mut LocalNode) {
        let Some(net) = &mut self.net else {
            return;
        };
        if net.read_keys() {
            let keys = net.probe_keys();
            if let Err(error) = local.answer_probes(&self.name, self.net.as_ref()) {
                warn!("{error:#}");
            }
            self.handle(Input::Keys(keys), local);
        }
    }
}

/// The next of two futures, the urgent one first; after its turn, it waits until the other, and
/// whatever else the caller waits for, has been polled.
async fn in_turn<T>(
    served: bool,
    urgent: impl Future<Output = T>,
    rest: impl Future<Output = T>,
) -> T {
    let urgent = async {
        if served {
            yield_now().await;
        }
        urgent.await
    };
    tokio::select! {
        biased;
        first = urgent => first,
        first = rest => first,
    }
}

fn tell(event: &Event) {
    match event {
        // The node logs these itself.
        Event::Conflict(_, Claimant::Foreign(_)) => {}
        Event::MemberUp(_) | Event::MemberLeft(_) | Event::Joined | Event::TimesDiffer(..) => {
            info!("{event}")
        }
        Event::MemberDown(..)
        | Event::LifeOver(_)
        | Event::NameTaken(_)
        | Event::Unreadable(_)
        | Event::MoveRefused(..)
        | Event::Conflict(..) => warn!("{event}"),
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn after_a_burst_of_datagrams_others_get_a_turn() {
        for (served, first) in [(false, "cluster"), (true, "others")] {
            let came = tokio::select! {
                biased;
                it = in_turn(served, ready("cluster"), pending()) => it,
                it = ready("others") => it,
            };
            assert_eq!(came, first);
            let came = in_turn(served, ready("cluster"), ready("others")).await;
            assert_eq!(came, first);
            assert_eq!(
                in_turn(served, ready("cluster"), pending()).await,
                "cluster"
            );
        }
    }
}
