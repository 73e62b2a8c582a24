//! This node's part in the cluster: carries [`Cluster`]'s commands out.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use speaker_common::{
    layout::{Action, Probes},
    lease,
    wire::Mac,
};
use speaker_core::{
    candidates::{Host, candidates},
    cluster::{
        self, Adopted, Claimant, Cluster, Command, Config, Endpoints, Event, Explanation, Failback,
        GroupName, GroupState, Input, KernelLease, Life, Member, NodeName, Settings, Stop, Timing,
        lease_flags,
    },
    intent::{self, Group, Intent, Wanted},
    node::{self, Node},
};
use tokio::{sync::mpsc, time::sleep_until};
use tracing::{debug, info, warn};

use super::shell::Shell;
use crate::{
    announce, kernel,
    peers::{Datagram, Keys, Sockets, endpoint},
};

/// Where a drained node notes that it is.
const DRAINED: &str = "drained";
/// How often the key file is read anew.
const KEYS: Duration = Duration::from_secs(5);
/// Nodes that have been members for this long have told whom else they know.
const ACQUAINTED: Duration = Duration::from_secs(1);
/// How often one sender's unreadable messages are told of.
const TELL: Duration = Duration::from_secs(10);
/// Senders whose unreadable messages are told of.
const TOLD: usize = 64;

/// How this node takes part.
#[derive(Clone, Debug)]
pub struct Options {
    /// Other nodes' addresses; none: this node is alone.
    pub peers: Vec<SocketAddr>,
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

/// Why something that the operator asked for is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0} is not a VIP of this node's configuration")]
    Unknown(IpAddr),
    #[error("{0} may not own {1}: see `speaker explain {1}`")]
    NoCandidate(String, IpAddr),
    #[error("{0} cannot take {1} now: it is {2}")]
    Unready(String, IpAddr, cluster::CandidateStanding),
}

/// Everything about ownership that can happen by itself.
#[derive(Debug)]
pub(super) enum Happening {
    /// It is time.
    Due,
    /// Something came from another node.
    Datagram(Datagram),
    /// It is time to look at the key file.
    Keys,
    /// The wire has been asked for a group, which is free or not.
    Checked(GroupName, bool),
}

pub(super) struct Ownership {
    name: NodeName,
    cluster: Cluster,
    /// None where this node is alone.
    net: Option<Net>,
    drained: PathBuf,
    draining: bool,
    hand_over: bool,
    restart_grace: Duration,
    /// The groups as they are, those that the cluster has been told of, and where these differ.
    groups: BTreeMap<Group, cluster::Group>,
    told: BTreeMap<Group, cluster::Group>,
    untold: VecDeque<Group>,
    planned: bool,
    /// This node has met the others, at least once.
    joined: bool,
    /// Where the answers to [`Command::Check`] come from.
    checked: (
        mpsc::UnboundedSender<(GroupName, bool)>,
        mpsc::UnboundedReceiver<(GroupName, bool)>,
    ),
    /// All is said, the agent may end.
    pub(super) stopped: bool,
}

struct Net {
    sockets: Sockets,
    keys: Keys,
    key_file: PathBuf,
    read: Instant,
    /// Datagrams that no key opens, and when the last one came.
    unreadable: u64,
    last_unreadable: Option<Instant>,
    told: BTreeMap<IpAddr, Instant>,
}

/// What is done is done by these.
pub(super) struct Hands<'a> {
    pub(super) node: &'a mut Node,
    pub(super) shell: &'a mut Shell,
}

impl Ownership {
    pub(super) fn start(
        name: &str,
        options: Options,
        state_dir: &Path,
        mut hands: Hands<'_>,
    ) -> Result<Self> {
        let Options {
            peers,
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
        let net = if peers.is_empty() && bind.is_none() {
            None
        } else {
            let messages = endpoint(bind, peers.first().copied())?;
            Some(Net::open(messages, key_file)?)
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
        let drained = state_dir.join(DRAINED);
        let draining = drained.exists();
        if draining {
            warn!("this node is drained: it owns nothing until `speaker undrain`");
        }
        let adopted = hands.adopted()?;
        let config = Config {
            name: name.clone(),
            endpoints,
            life: Life(wall_clock_ms()),
            adopted,
            keys: net.as_ref().map_or_else(Vec::new, Net::probe_keys),
            peers: peers.into_iter().collect(),
            draining,
            failback,
            check_first,
            seed: wall_clock_ms() ^ name.number(),
        };
        let mut ownership = Self {
            name,
            cluster: Cluster::new(config, timing, Instant::now()),
            net,
            drained,
            draining,
            hand_over,
            restart_grace,
            groups: BTreeMap::new(),
            told: BTreeMap::new(),
            untold: VecDeque::new(),
            planned: false,
            joined: false,
            checked: mpsc::unbounded_channel(),
            stopped: false,
        };
        ownership.carry_out(&mut VecDeque::new(), &mut hands);
        Ok(ownership)
    }

    /// The next thing that happens by itself.
    pub(super) async fn next(&mut self) -> Happening {
        let due = async {
            match self.cluster.poll_timeout() {
                Some(time) => sleep_until(time.into()).await,
                None => pending().await,
            }
        };
        let (datagram, keys) = match &self.net {
            Some(net) => (Some(net.sockets.next()), Some(net.read + KEYS)),
            None => (None, None),
        };
        let datagram = async {
            match datagram {
                Some(next) => next.await,
                None => pending().await,
            }
        };
        let keys = async {
            match keys {
                Some(time) => sleep_until(time.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            datagram = datagram => Happening::Datagram(datagram),
            Some((group, free)) = self.checked.1.recv() => Happening::Checked(group, free),
            () = due => Happening::Due,
            () = keys => Happening::Keys,
        }
    }

    /// Deals with what has happened by itself.
    pub(super) fn happened(&mut self, happening: Happening, mut hands: Hands<'_>) {
        /// Datagrams that are dealt with before anything else is looked at.
        const BURST: usize = 64;
        match happening {
            Happening::Due => self.handle(Input::Tick, &mut hands),
            Happening::Keys => self.read_keys(&mut hands),
            Happening::Checked(group, free) => {
                self.handle(Input::Checked { group, free }, &mut hands);
            }
            Happening::Datagram(first) => {
                let mut next = Some(first);
                for _ in 0..BURST {
                    let Some(datagram) = next else {
                        break;
                    };
                    self.receive(datagram, &mut hands);
                    next = self.net.as_ref().and_then(|net| net.sockets.try_next());
                }
            }
        }
    }

    fn receive(&mut self, datagram: Datagram, hands: &mut Hands<'_>) {
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
        };
        self.handle(input, hands);
    }

    /// Tells the cluster, and does what it wants.
    pub(super) fn handle(&mut self, input: Input, hands: &mut Hands<'_>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.cluster.handle(input, Instant::now());
            self.carry_out(&mut inputs, hands);
        }
    }

    fn carry_out(&mut self, inputs: &mut VecDeque<Input>, hands: &mut Hands<'_>) {
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
                Command::Set { group, state } => hands.set(&group, &state),
                Command::Announce(group) => {
                    if let Some(group) = group_of(&group) {
                        let now = Instant::now();
                        hands.node.handle(node::Input::Announce(group), now);
                    }
                }
                Command::Check(group) => self.check(group, hands),
                Command::Event(event) => {
                    self.joined |= event == Event::Joined;
                    tell(&event);
                }
                Command::Stopped => self.stopped = true,
            }
        }
    }

    /// Asks the wire whether anybody answers for a group, on a thread of its own.
    fn check(&self, group: GroupName, hands: &Hands<'_>) {
        let places = group_of(&group).map_or_else(Vec::new, |group| hands.node.places(group));
        let checked = self.checked.0.clone();
        tokio::task::spawn_blocking(move || {
            let free = match announce::is_claimed(&places) {
                Ok(claimed) => !claimed,
                Err(error) => {
                    warn!("cannot ask the network whether {group} is free: {error}");
                    false
                }
            };
            // Nobody waits for it: the agent has ended.
            let _ = checked.send((group, free));
        });
    }

    /// Tells the cluster of this node's links, and of all groups with their candidates.
    pub(super) fn plan(&mut self, intent: &Intent, me: &intent::Node, hands: &mut Hands<'_>) {
        let Some(wanted) = hands.node.wanted() else {
            return;
        };
        let links = hands.node.usable_links();
        let members: Vec<Member> = self.cluster.members().collect();
        // Nodes that are asked for the same have it computed once.
        let mut alike: BTreeMap<Vec<bool>, Wanted> = BTreeMap::new();
        let own_selection = intent.selection(&me.labels);
        let selections: Vec<Vec<bool>> = members
            .iter()
            .map(|member| {
                let node = intent::Node::standalone(member.name.as_str());
                let selection = intent.selection(&node.labels);
                if selection != own_selection && !alike.contains_key(&selection) {
                    alike.insert(selection.clone(), intent.wanted(&node));
                }
                selection
            })
            .collect();
        let mut hosts = vec![Host {
            name: &self.name,
            wanted,
            links: &links,
        }];
        hosts.extend(
            members
                .iter()
                .zip(&selections)
                .map(|(member, selection)| Host {
                    name: &member.name,
                    wanted: alike.get(selection).unwrap_or(wanted),
                    links: &member.links,
                }),
        );
        let groups = candidates(&hosts);
        let gone = self.told.keys().filter(|group| !groups.contains_key(group));
        let changed = groups
            .iter()
            .filter(|(group, it)| self.told.get(group) != Some(it))
            .map(|(group, _)| group);
        self.untold = gone.chain(changed).copied().collect();
        self.groups = groups;
        self.handle(Input::Links(links), hands);
    }

    /// Whether the cluster has yet to be told of groups.
    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Tells the cluster of some groups. There may be as many as the maps hold, and the lease must
    /// be renewed in between.
    pub(super) fn tell_groups(&mut self, hands: &mut Hands<'_>) {
        const AT_ONCE: usize = 256;
        let some = self.untold.len().min(AT_ONCE);
        let mut changes = Vec::with_capacity(some);
        for group in self.untold.drain(..some) {
            let now = self.groups.get(&group).cloned();
            match &now {
                Some(now) => drop(self.told.insert(group, now.clone())),
                None => drop(self.told.remove(&group)),
            }
            changes.push((name_of(group), now));
        }
        if !changes.is_empty() {
            self.handle(Input::Groups(changes), hands);
        }
        if self.untold.is_empty() {
            self.take_part(hands);
        }
    }

    /// Whether all that this node is to own now, as far as it knows, it owns: a node that is alone
    /// owns all, and others may take a while to agree.
    pub(super) fn is_settled(&self) -> bool {
        let mine = || {
            let groups = self.told.values();
            groups.filter(|group| group.candidates.iter().any(|(name, _)| *name == self.name))
        };
        self.planned
            && self.untold.is_empty()
            && (self.net.is_some()
                || self.draining
                || self.cluster.owned().count() == mine().count())
    }

    /// Takes part once the groups have been told, but claims nothing while the only nodes that it hears are such as it cannot talk to: this node's
    /// key is the wrong one, and another owns the VIPs.
    fn take_part(&mut self, hands: &mut Hands<'_>) {
        if self.planned || !self.joined {
            return;
        }
        let strangers = self.net.as_ref().is_some_and(Net::hears_strangers);
        let met = |member: Member| {
            use cluster::CandidateStanding::{Draining, Ready, Restarting};
            matches!(member.standing, Draining | Ready | Restarting)
                && member.since.elapsed() > ACQUAINTED
        };
        if !strangers || self.cluster.members().any(met) {
            self.planned = true;
            self.handle(Input::Planned, hands);
        }
    }

    /// Another number whenever the candidates may have changed by what other nodes tell.
    pub(super) fn news(&self) -> u64 {
        self.cluster.news()
    }

    /// Somebody else claims a VIP that this node knows of. Whether it is none of the cluster.
    pub(super) fn claimed(&mut self, vip: IpAddr, by: Mac, hands: &mut Hands<'_>) -> bool {
        let Some(group) = hands.node.group(vip) else {
            return true;
        };
        let has = |member: &Member| member.links.iter().any(|link| link.mac == by);
        let member = self.cluster.members().find(has);
        let foreign = member.is_none();
        let by = member.map_or(Claimant::Foreign(by), |member| Claimant::Node(member.name));
        let group = name_of(group);
        self.handle(Input::WireClaim { group, by }, hands);
        foreign
    }

    /// Hands everything over and takes nothing from now on, or takes part again. Survives restarts.
    pub(super) fn drain(&mut self, draining: bool, hands: &mut Hands<'_>) -> io::Result<()> {
        let noted = if draining {
            std::fs::write(&self.drained, "")
        } else {
            std::fs::remove_file(&self.drained)
        };
        match noted {
            Err(error) if draining || error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.draining = draining;
        self.handle(Input::Drain(draining), hands);
        Ok(())
    }

    pub(super) fn draining(&self) -> bool {
        self.draining
    }

    /// Asks the owner of a VIP to give it to that node.
    pub(super) fn r#move(
        &mut self,
        vip: IpAddr,
        to: &str,
        hands: &mut Hands<'_>,
    ) -> Result<(), Refused> {
        use cluster::CandidateStanding::{Owner, Ready};
        let explanation = self.explain(vip, hands.node);
        let explanation = explanation.ok_or(Refused::Unknown(vip))?;
        let to = NodeName::from(to);
        let mut candidates = explanation.candidates.iter();
        match candidates.find(|candidate| candidate.name == to) {
            None => return Err(Refused::NoCandidate(to.into(), vip)),
            Some(candidate) if !matches!(candidate.standing, Owner | Ready) => {
                return Err(Refused::Unready(to.into(), vip, candidate.standing));
            }
            Some(_) => {}
        }
        let group = hands.node.group(vip).ok_or(Refused::Unknown(vip))?;
        let group = name_of(group);
        self.handle(Input::Move { group, to }, hands);
        Ok(())
    }

    /// Who owns a VIP, and why.
    pub(super) fn explain(&self, vip: IpAddr, node: &Node) -> Option<Explanation> {
        self.cluster.explain(&name_of(node.group(vip)?))
    }

    pub(super) fn members(&self) -> impl Iterator<Item = Member> {
        self.cluster.members()
    }

    /// Datagrams that no key opened.
    pub(super) fn unreadable(&self) -> u64 {
        self.net.as_ref().map_or(0, |net| net.unreadable)
    }

    /// The agent is to end: `stopped` says when it may.
    pub(super) fn stop(&mut self, hands: &mut Hands<'_>) {
        let stop = if self.hand_over {
            info!("handing all VIPs over");
            Stop::HandOver
        } else {
            info!(
                "the kernel goes on answering for {} s; `speaker detach` ends that",
                self.restart_grace.as_secs()
            );
            Stop::Return(self.restart_grace)
        };
        self.handle(Input::Stop(stop), hands);
    }

    fn read_keys(&mut self, hands: &mut Hands<'_>) {
        let Some(net) = &mut self.net else {
            return;
        };
        net.read = Instant::now();
        match Keys::read(&net.key_file) {
            Ok(keys) if keys.probes() == net.keys.probes() => {}
            Ok(keys) => {
                info!("the cluster's keys have changed");
                net.keys = keys;
                let keys = net.probe_keys();
                if let Err(error) = hands.answer_probes(&self.name, self.net.as_ref()) {
                    warn!("{error:#}");
                }
                self.handle(Input::Keys(keys), hands);
            }
            Err(error) => warn!(
                "{}: {error}; the keys that were read before stay (--cluster-key-file)",
                net.key_file.display()
            ),
        }
    }
}

impl Net {
    fn open(messages: SocketAddr, key_file: Option<PathBuf>) -> Result<Self> {
        let Some(key_file) = key_file else {
            bail!(
                "nodes talk to each other under a key of their own: make one with \
                 `openssl rand -base64 32 > FILE`, copy it to all nodes, and name it with \
                 --cluster-key-file FILE"
            );
        };
        let keys = Keys::read(&key_file)
            .with_context(|| format!("{} (--cluster-key-file)", key_file.display()))?;
        Ok(Self {
            sockets: Sockets::bind(messages)?,
            keys,
            key_file,
            read: Instant::now(),
            unreadable: 0,
            last_unreadable: None,
            told: BTreeMap::new(),
        })
    }

    fn probe_keys(&self) -> Vec<speaker_common::probe::Key> {
        self.keys.probes().to_vec()
    }

    /// Whether nodes with other keys have been heard lately.
    fn hears_strangers(&self) -> bool {
        self.last_unreadable
            .is_some_and(|last| Instant::now() < last + TELL)
    }

    fn cannot_read(&mut self, from: SocketAddr) {
        self.unreadable += 1;
        let now = Instant::now();
        self.last_unreadable = Some(now);
        self.told.retain(|_, told| now < *told + TELL);
        if self.told.contains_key(&from.ip()) || self.told.len() == TOLD {
            return;
        }
        self.told.insert(from.ip(), now);
        warn!(
            "a message from {from} is sealed with none of this node's keys: does {} hold the same \
             there? (--cluster-key-file)",
            self.key_file.display()
        );
    }
}

impl Hands<'_> {
    /// What a former agent left in the kernel. Where its lease is over, what it owned is taken back
    /// first.
    fn adopted(&mut self) -> Result<Option<Adopted>> {
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
            alone: agent.alone,
            groups: vips
                .filter(|(_, vip)| vip.action == Action::Answer)
                .map(|(entry, _)| name_of(Group(entry.address)))
                .collect(),
        }))
    }

    fn answer_probes(&mut self, name: &NodeName, net: Option<&Net>) -> Result<()> {
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

    fn write_lease(&mut self, lease: &cluster::AgentLease) {
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

    fn read_lease(&self) -> KernelLease {
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

    fn set(&mut self, group: &GroupName, state: &GroupState) {
        debug!(%group, ?state, "set");
        let Some(group) = group_of(group) else {
            return;
        };
        let answer = matches!(state, GroupState::Answer { .. });
        let now = Instant::now();
        self.node.handle(node::Input::Answer { group, answer }, now);
        self.hurry();
    }

    /// Does at once what must be done before anybody is told.
    pub(super) fn hurry(&mut self) {
        while let Some(command) = self.node.next_urgent() {
            if let Some(input) = self.shell.carry_out(command) {
                self.node.handle(input, Instant::now());
            }
        }
    }
}

fn tell(event: &Event) {
    match event {
        // The node tells of these itself.
        Event::Conflict(_, Claimant::Foreign(_)) => {}
        Event::MemberUp(_) | Event::MemberLeft(_) | Event::Joined => info!("{event}"),
        Event::MemberDown(..)
        | Event::LifeOver(_)
        | Event::NameTaken(_)
        | Event::Unreadable(_)
        | Event::MoveRefused(..)
        | Event::Conflict(..) => warn!("{event}"),
    }
}

fn name_of(group: Group) -> GroupName {
    GroupName::from(group.0.to_string())
}

/// The group of a name that [`name_of`] made.
fn group_of(name: &GroupName) -> Option<Group> {
    name.as_str().parse().ok().map(Group)
}

fn wall_clock_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}
