//! Starting the agent.

use std::{
    collections::BTreeSet,
    fs::DirBuilder,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;
use speaker_core::{
    announce::{Announcer, Config},
    intent::Terms,
    node::{Input, Node},
    plan::Choice,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::warn;

use super::{
    Agent, Membership,
    adoption::Adoption,
    configuration::Configuration,
    frames::Taps,
    ownership::{LocalNode, Ownership},
    publication::Publisher,
    shell::Shell,
};
use crate::{
    api,
    kernel::{self, Kernel, ModeChoice},
    kubernetes::thread,
    manifests,
    netlink::{self, Watch},
};

/// The agent's flags.
#[derive(Debug)]
pub struct Options {
    /// This node's name.
    pub node_name: String,
    /// Where the configuration is.
    pub source: Source,
    /// Settings in addition to the objects of the configuration.
    pub terms: Terms,
    /// The interfaces to use; empty: the default ones.
    pub interfaces: BTreeSet<String>,
    /// The mode in which to attach the program.
    pub mode: ModeChoice,
    /// The bpf file system.
    pub bpffs: PathBuf,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The address to serve HTTP on.
    pub http: Option<SocketAddr>,
    /// The time between two announcements of a VIP.
    pub refresh: Duration,
    /// The level of the traced build; `None`: the normal build.
    pub ebpf_log_level: Option<tracing::Level>,
    /// How this node takes part in the cluster.
    pub membership: Membership,
}

/// Where the configuration comes from.
#[derive(Debug)]
pub enum Source {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// The API server of a cluster.
    Cluster {
        /// How to reach it; `None`: as from a pod of the cluster.
        kubeconfig: Option<PathBuf>,
        /// The namespace of the installation.
        namespace: String,
    },
}

impl Agent {
    pub(super) async fn start(options: Options) -> Result<Self> {
        let Options {
            node_name,
            source,
            terms,
            interfaces,
            mode,
            bpffs,
            state_dir,
            http,
            refresh,
            ebpf_log_level,
            membership,
        } = options;
        // From here on, a signal that arrives during the start stops the agent cleanly as soon as
        // it has started. If the signal killed the process, the lease would be as short as after a
        // crash; and process 1 of a container would ignore the signal.
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        // Without these, most other steps would fail.
        kernel::check()?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state_dir)
            .with_context(|| format!("cannot create {} (--state-dir)", state_dir.display()))?;
        let (changed, changes) = mpsc::channel(1);
        let (publications, published) = watch::channel(None);
        // Before the kernel is touched: a failed start leaves an earlier agent's lease as it is,
        // which is longer than that of a running agent.
        let reach = match &source {
            Source::Manifests(_) => None,
            Source::Cluster {
                kubeconfig,
                namespace,
            } => {
                let options = thread::Options {
                    kubeconfig: kubeconfig.clone(),
                    node: node_name.clone(),
                    namespace: namespace.clone(),
                    state_dir: state_dir.clone(),
                };
                Some(thread::start(options, changed.clone(), published).await?)
            }
        };
        let kernel = Kernel::open(&kernel::Options {
            bpffs,
            ebpf_log_level,
        })?;
        let events = kernel.events()?;
        let shell = Shell::new(kernel, mode)?;

        let (sender, requests) = mpsc::channel(16);
        api::serve_socket(&api::socket(&state_dir), sender.clone())?;
        if let Some(address) = http {
            api::serve_http(address, sender).await?;
        }

        let Watch {
            links,
            changes: link_changes,
        } = netlink::watch().await?;
        for name in &interfaces {
            // The kernel knows the other names of an interface (`altname`), too.
            let index = if_nametoindex(name.as_str()).ok();
            match links.iter().find(|link| Some(link.index) == index) {
                Some(link) if link.name == *name => {}
                Some(link) => warn!(
                    "{name} (--interface) is called {}: use that name",
                    link.name
                ),
                None => warn!("no interface {name} (--interface) yet: waiting for it"),
            }
        }
        let choice = if interfaces.is_empty() {
            Choice::Usual
        } else {
            Choice::Named(interfaces)
        };
        let now = Instant::now();
        let config = Config {
            refresh,
            seed: seed(&node_name),
            ..Config::default()
        };
        let mut node = Node::new(choice, Announcer::new(&config, now));
        node.handle(Input::Adopted(shell.adopted()?), now);
        let mut local = LocalNode { node, shell };
        let mut ownership =
            Ownership::start(&node_name, membership, &state_dir, &mut local).await?;
        let links = links.into_iter().collect();
        local.node.handle(Input::Links(links), now);
        // The other nodes learn of this node's links when they meet it.
        ownership.tell_links(&mut local);
        if let Source::Manifests(directory) = source {
            tokio::spawn(manifests::watch(directory, state_dir, changed));
        }
        Ok(Self {
            local,
            name: node_name,
            configuration: Configuration::new(terms),
            ownership,
            reattached: false,
            replan: false,
            taps: Taps::new(),
            publisher: reach.as_ref().map(|_| Publisher::new(publications)),
            reach,
            publish_at: None,
            settled: false,
            adoption: Adoption::new(now),
            links: link_changes,
            changes,
            events,
            requests,
            terminate,
            interrupt,
        })
    }
}

/// Keeps this node's refreshes from coinciding with those of other nodes.
fn seed(node_name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    node_name.hash(&mut hasher);
    hasher.finish()
}
