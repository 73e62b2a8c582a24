//! How ownership starts.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use speaker_core::{
    cluster::{
        Cluster, Config, Configured, Endpoints, Failback, Input, Life, NodeName, Settings, Timing,
    },
    node,
};
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    Ownership,
    local_node::LocalNode,
    members::{Addresses, Members},
    net::{self, Net},
};
use crate::{
    announce::Checker,
    peers::{Names, Peer},
    state,
};

/// How this node takes part in the cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Other nodes; empty: this node is alone, or `follow` is set.
    pub peers: Vec<Peer>,
    /// The configuration names the nodes ([`Ownership::set_peers`]).
    pub follow: bool,
    /// The address at which other nodes reach this one.
    pub bind: Option<SocketAddr>,
    /// The cluster's keys.
    pub key_file: Option<PathBuf>,
    /// All timeouts.
    pub settings: Settings,
    /// When VIPs move back to a better candidate.
    pub failback: Failback,
    /// Check for another host before claiming a VIP that no node has owned.
    pub check_first: bool,
    /// Hand over the VIPs when the agent is stopped.
    pub hand_over: bool,
}

impl Ownership {
    pub(in super::super) async fn start(
        name: &str,
        options: Options,
        state_dir: &Path,
        local: &mut LocalNode,
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
        local.answer_probes(&name, net.as_ref())?;
        if net.is_some() {
            let address = endpoints.probes.ip();
            let probed = node::Input::ProbedAt(address);
            local.node.handle(probed, Instant::now());
        }
        let drained = state_dir.join(state::DRAINED);
        let draining = drained.exists();
        if draining {
            warn!("this node is drained: it owns no VIPs until `speaker undrain`");
        }
        let adopted = local.adopted()?;
        let config = Config {
            name: name.clone(),
            endpoints,
            life: Life(wall_clock_ms()),
            adopted,
            keys: net.as_ref().map_or_else(Vec::new, Net::probe_keys),
            peers: (is_shared && !follow).then(|| names.configured()),
            remembered,
            draining,
            failback,
            check_first,
            seed: wall_clock_ms() ^ name.number(),
        };
        let (results, checked) = mpsc::unbounded_channel();
        let checker = Checker::start(move |vip, occupancy| {
            // An error means that the agent has ended.
            let _ = results.send((vip, occupancy));
        });
        let checker =
            checker.context("cannot start the thread that checks whether other hosts use VIPs")?;
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
            checker,
            checked,
            served: false,
            stopped: false,
        };
        ownership.carry_out(&mut VecDeque::new(), local);
        if !is_shared {
            let nobody_else = Configured::default();
            ownership.handle(Input::Peers(nobody_else), local);
        }
        Ok(ownership)
    }
}

fn wall_clock_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}
