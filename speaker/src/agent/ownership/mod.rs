//! This node's part in the cluster: feeds [`Cluster`], and carries out its commands.

mod hands;
mod members;
mod net;
mod start;
mod verbs;
mod vips;

pub(super) use hands::Hands;
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
pub(super) enum Happening {
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
    pub(super) fn set_peers(&mut self, peers: BTreeSet<IpAddr>, hands: &mut Hands) {
        let Some(net) = &mut self.net else {
            return;
        };
        let port = net.sockets.endpoints().messages.port();
        let addresses = peers.iter().map(|peer| SocketAddr::new(*peer, port));
        let configured = Configured::at(addresses);
        net.peers = peers;
        self.handle(Input::Peers(configured), hands);
    }

    /// The next event. After a burst of datagrams, everything else gets its turn, here and in the
    /// agent's loop: anybody can send so many that there is always another one.
    pub(super) async fn next(&mut self) -> Happening {
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
                datagram = datagram => Happening::Datagram(datagram),
                () = until(due) => Happening::Due,
            }
        };
        let rest = async {
            tokio::select! {
                biased;
                Some((vip, occupancy)) = self.checked.recv() => Happening::Checked(vip, occupancy),
                () = until(keys) => Happening::Keys,
                lookup = self.names.next() => Happening::Names(lookup),
            }
        };
        in_turn(std::mem::take(&mut self.served), urgent, rest).await
    }

    /// Handles what [`Ownership::next`] returned.
    pub(super) fn happened(&mut self, happening: Happening, hands: &mut Hands) {
        /// How long a burst of datagrams may take.
        const BURST: Duration = Duration::from_millis(10);
        match happening {
            Happening::Due => self.handle(Input::Tick, hands),
            Happening::Keys => self.read_keys(hands),
            Happening::Names(lookup) => self.resolve(lookup, hands),
            Happening::Checked(vip, occupancy) => {
                self.handle(Input::Checked { vip, occupancy }, hands);
            }
            Happening::Datagram(first) => {
                let end = Instant::now() + BURST;
                let mut next = Some(first);
                while let Some(datagram) = next {
                    self.receive(datagram, hands);
                    let net = self.net.as_ref().filter(|_| Instant::now() < end);
                    next = net.and_then(|net| net.sockets.try_next());
                }
                // The next turn belongs to others, so the timer gets one now.
                self.served = true;
                let due = self.cluster.poll_timeout();
                if due.is_some_and(|due| due <= Instant::now()) {
                    self.handle(Input::Tick, hands);
                }
            }
        }
    }

    fn receive(&mut self, datagram: Datagram, hands: &mut Hands) {
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
            Datagram::Probe(from, probe) => match hands.shell.lease.answer(&probe) {
                // No XDP program was on the path of the probe.
                Some(reply) => {
                    net.sockets.send_probe(from, &reply);
                    return;
                }
                None => Input::Probe(probe),
            },
            Datagram::NoProbe => return,
        };
        self.handle(input, hands);
    }

    /// Passes an input to the cluster, and carries out the commands.
    pub(super) fn handle(&mut self, input: Input, hands: &mut Hands) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.cluster.handle(input, Instant::now());
            self.carry_out(&mut inputs, hands);
        }
    }

    fn carry_out(&mut self, inputs: &mut VecDeque<Input>, hands: &mut Hands) {
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
                    let reply = hands.shell.lease.answer(&probe);
                    inputs.extend(reply.map(|reply| Input::ProbeAnswered { to, reply }));
                }
                Command::Lease(lease) => {
                    hands.write_lease(&lease);
                    inputs.push_back(Input::Kernel(hands.read_lease()));
                }
                Command::Set { vip, state } => {
                    self.edition += 1;
                    hands.set(vip, &state);
                }
                Command::Announce(vip) => {
                    let now = Instant::now();
                    hands.node.handle(node::Input::Announce(vip), now);
                }
                Command::Check(vip) => self.checker.check(vip, hands.node.places(vip)),
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
    pub(super) fn claimed(&mut self, vip: IpAddr, by: Mac, hands: &mut Hands) -> bool {
        if !self.told.contains_key(&vip) {
            return true;
        }
        let has = |member: &Member| member.links.iter().any(|link| link.mac == by);
        let member = self.cluster.members().find(has);
        let foreign = member.is_none();
        let by = member.map_or(Claimant::Foreign(by), |member| Claimant::Node(member.name));
        self.handle(Input::WireClaim { vip, by }, hands);
        foreign
    }

    /// Begins to stop; `stopped` says when the agent may end.
    pub(super) fn stop(&mut self, hands: &mut Hands) {
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
        self.handle(Input::Stop(stop), hands);
    }

    fn resolve(&mut self, lookup: Lookup, hands: &mut Hands) {
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
                    self.handle(Input::Resolved(peers), hands);
                }
            }
        }
    }

    fn read_keys(&mut self, hands: &mut Hands) {
        let Some(net) = &mut self.net else {
            return;
        };
        if net.read_keys() {
            let keys = net.probe_keys();
            if let Err(error) = hands.answer_probes(&self.name, self.net.as_ref()) {
                warn!("{error:#}");
            }
            self.handle(Input::Keys(keys), hands);
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
