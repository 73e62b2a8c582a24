//! This node's part in the cluster: carries [`Cluster`]'s commands out.

mod hands;
mod members;
mod net;
mod verbs;
mod vips;

pub(super) use hands::Hands;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::pending,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use speaker_common::wire::Mac;
use speaker_core::{
    cluster::{
        self, Claimant, Cluster, Command, Config, Configured, Endpoints, Event, Failback, Input,
        Life, LinkInfo, Member, NodeName, Settings, Stop, Timing,
    },
    node,
};
use tokio::{sync::mpsc, task::yield_now};
use tracing::{info, warn};

use crate::{
    announce,
    peers::{Datagram, Lookup, Names, Peer},
    state,
    timer::until,
};
use members::{Addresses, Members};
use net::Net;

/// How often the key file is reloaded.
const KEYS: Duration = Duration::from_secs(2);

/// How this node takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// Other nodes; none: this node is alone, or `follow` is set.
    pub peers: Vec<Peer>,
    /// The configuration says which nodes there are ([`Ownership::set_peers`]).
    pub follow: bool,
    /// Where the others reach this node.
    pub bind: Option<SocketAddr>,
    /// The cluster's keys.
    pub key_file: Option<PathBuf>,
    /// The times.
    pub settings: Settings,
    /// When VIPs go back to a better candidate.
    pub failback: Failback,
    /// Ask the wire before a VIP is claimed that nobody has owned.
    pub check_first: bool,
    /// Hand the VIPs over when the agent is stopped.
    pub hand_over: bool,
}

/// A VIP that the wire was asked for, and whether nobody answered for it.
type Checked = (IpAddr, bool);

/// Everything about ownership that can happen by itself.
#[derive(Debug)]
pub(super) enum Happening {
    /// It is time.
    Due,
    /// Something came from another node.
    Datagram(Datagram),
    /// It is time to look at the key file.
    Keys,
    /// Peers' names are to be looked up, or one has been.
    Names(Lookup),
    /// The wire has been asked for a VIP, which is free or not.
    Checked(IpAddr, bool),
}

pub(super) struct Ownership {
    name: NodeName,
    cluster: Cluster,
    /// None where this node is alone.
    net: Option<Net>,
    names: Names,
    /// None where the configuration says which nodes there are.
    members: Option<Members>,
    drained: PathBuf,
    draining: bool,
    hand_over: bool,
    restart_grace: Duration,
    /// Counts what may matter to whoever is told of owners and members.
    edition: u64,
    /// What [`Cluster::members_version`] was when candidates were last looked for.
    news: u64,
    /// The links that the others have been told of.
    links: Vec<LinkInfo>,
    /// The VIPs as they are, those that the cluster has been told of, and where these differ.
    vips: BTreeMap<IpAddr, cluster::Placement>,
    told: BTreeMap<IpAddr, cluster::Placement>,
    untold: VecDeque<IpAddr>,
    planned: bool,
    /// This node has met the others, at least once.
    joined: bool,
    /// Where the answers to [`Command::Check`] come from.
    checked: (
        mpsc::UnboundedSender<Checked>,
        mpsc::UnboundedReceiver<Checked>,
    ),
    /// Datagrams have just had their turn.
    served: bool,
    /// All is said, the agent may end.
    pub(super) stopped: bool,
}

impl Ownership {
    pub(super) async fn start(
        name: &str,
        options: Options,
        state_dir: &Path,
        hands: &mut Hands,
    ) -> Result<Self> {
        let Options {
            peers,
            follow,
            bind,
            key_file,
            settings,
            failback,
            check_first,
            hand_over,
        } = options;
        let restart_grace = settings.restart_grace;
        let timing = Timing::new(settings)?;
        let name = NodeName::from(name);
        let is_shared = !peers.is_empty() || bind.is_some() || follow;
        let (members, remembered) = if is_shared && !follow {
            let (members, known) = Members::open(state_dir)?;
            (Some(members), known)
        } else {
            (None, Addresses::new())
        };
        let mut names = Names::new(peers, Instant::now());
        let net = if is_shared {
            let messages = net::own_address(bind, &mut names, &remembered).await?;
            Some(Net::open(messages, &names, key_file)?)
        } else {
            None
        };
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoints = net.as_ref().map_or(
            Endpoints {
                messages: nowhere,
                probes: nowhere,
            },
            |net| net.sockets.endpoints(),
        );
        hands.answer_probes(&name, net.as_ref())?;
        if net.is_some() {
            let address = endpoints.probes.ip();
            let probed = node::Input::ProbedAt(address);
            hands.node.handle(probed, Instant::now());
        }
        let drained = state_dir.join(state::DRAINED);
        let draining = drained.exists();
        if draining {
            warn!("this node is drained: it owns no VIPs until `speaker undrain`");
        }
        let adopted = hands.adopted()?;
        let config = Config {
            name: name.clone(),
            endpoints,
            life: Life(wall_clock_ms()),
            adopted,
            keys: net.as_ref().map_or_else(Vec::new, Net::probe_keys),
            peers: (!follow).then(|| names.configured()),
            remembered,
            draining,
            failback,
            check_first,
            seed: wall_clock_ms() ^ name.number(),
        };
        let mut ownership = Self {
            name,
            cluster: Cluster::new(config, timing, Instant::now()),
            net,
            names,
            members,
            drained,
            draining,
            hand_over,
            restart_grace,
            edition: 0,
            news: 0,
            links: Vec::new(),
            vips: BTreeMap::new(),
            told: BTreeMap::new(),
            untold: VecDeque::new(),
            planned: false,
            joined: false,
            checked: mpsc::unbounded_channel(),
            served: false,
            stopped: false,
        };
        ownership.carry_out(&mut VecDeque::new(), hands);
        Ok(ownership)
    }

    /// These nodes share the VIPs. All of them listen on the same port.
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

    /// The next thing that happens by itself. Anybody can send datagrams, and so many that there is
    /// always another one: after some of them, everything else has its turn.
    pub(super) async fn next(&mut self) -> Happening {
        let due = self.cluster.poll_timeout();
        let keys = self.net.as_ref().map(|net| net.read + KEYS);
        let served = std::mem::take(&mut self.served);
        if served {
            let now = Instant::now();
            let overdue = |at: Option<Instant>| at.is_some_and(|at| now >= at);
            if overdue(due) {
                return Happening::Due;
            }
            if overdue(keys) {
                return Happening::Keys;
            }
        }
        let (due, keys) = (until(due), until(keys));
        let datagram = async {
            if served {
                yield_now().await;
            }
            match &self.net {
                Some(net) => net.sockets.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            datagram = datagram => Happening::Datagram(datagram),
            Some((vip, free)) = self.checked.1.recv() => Happening::Checked(vip, free),
            () = due => Happening::Due,
            () = keys => Happening::Keys,
            lookup = self.names.next() => Happening::Names(lookup),
        }
    }

    /// Deals with what has happened by itself.
    pub(super) fn happened(&mut self, happening: Happening, hands: &mut Hands) {
        /// How long datagrams are dealt with before anything else is looked at.
        const BURST: Duration = Duration::from_millis(10);
        match happening {
            Happening::Due => self.handle(Input::Tick, hands),
            Happening::Keys => self.read_keys(hands),
            Happening::Names(lookup) => self.resolve(lookup, hands),
            Happening::Checked(vip, free) => {
                self.handle(Input::Checked { vip, free }, hands);
            }
            Happening::Datagram(first) => {
                let end = Instant::now() + BURST;
                let mut next = Some(first);
                while let Some(datagram) = next {
                    self.receive(datagram, hands);
                    let net = self.net.as_ref().filter(|_| Instant::now() < end);
                    next = net.and_then(|net| net.sockets.try_next());
                }
                self.served = true;
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
                // No XDP program is on its way.
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

    /// Tells the cluster, and does what it wants.
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
                Command::Check(vip) => self.check(vip, hands),
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

    /// Asks the wire whether anybody answers for a VIP, on a thread of its own.
    fn check(&self, vip: IpAddr, hands: &Hands) {
        let places = hands.node.places(vip);
        let checked = self.checked.0.clone();
        tokio::task::spawn_blocking(move || {
            let free = match announce::is_claimed(&places) {
                Ok(claimed) => !claimed,
                Err(error) => {
                    warn!("cannot check whether another host uses {vip}: {error}");
                    false
                }
            };
            // Nobody waits for it: the agent has ended.
            let _ = checked.send((vip, free));
        });
    }

    /// Somebody else claims a VIP that this node knows of. Whether it is none of the cluster.
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

    /// The agent is to end: `stopped` says when it may.
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

fn tell(event: &Event) {
    match event {
        // The node tells of these itself.
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

fn wall_clock_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}
