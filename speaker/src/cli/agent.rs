//! `speaker agent`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use speaker_core::intent::Terms;

use super::{
    Places, address, block_on,
    cluster::Cluster,
    common::{Installation, Log},
};
use crate::{agent, kernel};

/// What MetalLB's users have in their manifests.
const METALLB_NODE_NAME: &str = "METALLB_NODE_NAME";

/// Answer for this node's VIPs until told to stop
///
/// The kernel goes on answering for a while without the agent: 3 seconds after it died, 60 after it
/// was stopped in an orderly way. Start it again within that time, and nobody notices. To stop
/// answering for good, stop the agent and run `speaker detach`.
#[derive(Debug, Args)]
pub(super) struct Agent {
    /// The name of this node, as the cluster has it and advertisements select it [env:
    /// METALLB_NODE_NAME, too]
    #[arg(
        long,
        env = "SPEAKER_NODE_NAME",
        value_name = "NAME",
        required = std::env::var_os(METALLB_NODE_NAME).is_none()
    )]
    node_name: Option<String>,

    #[command(flatten)]
    configuration: Configuration,

    /// Answer for VIPs on this interface only; may be given several times. Without it, on all but
    /// those that container runtimes and network plugins make. The program also runs where the
    /// other nodes reach this one, to answer their liveness probes
    #[arg(
        long = "interface",
        env = "SPEAKER_INTERFACE",
        value_name = "IF",
        value_delimiter = ','
    )]
    interfaces: Vec<String>,

    /// Where the program runs: in the driver (native), or behind it in the network stack (generic)
    #[arg(long, env = "SPEAKER_XDP_MODE", value_enum, default_value_t = XdpMode::Auto)]
    xdp_mode: XdpMode,

    #[command(flatten)]
    places: Places,

    /// Serve /healthz, /readyz and /metrics here
    #[arg(long, env = "SPEAKER_HTTP", value_name = "ADDR:PORT", value_parser = address::with_port)]
    http: Option<SocketAddr>,

    /// How often each VIP is announced again, for switches and routers that forget; 0s: never
    #[arg(long, env = "SPEAKER_REFRESH", default_value = "150s", value_name = "DURATION",
          value_parser = humantime::parse_duration)]
    refresh: Duration,

    #[command(flatten)]
    cluster: Cluster,

    #[command(flatten)]
    log: Log,

    /// Run the build of the program that logs what it does, at this level
    #[arg(long, env = "SPEAKER_EBPF_LOG_LEVEL", value_name = "LEVEL")]
    ebpf_log_level: Option<tracing::Level>,
}

/// Where the configuration comes from
#[derive(Debug, Args)]
#[command(next_help_heading = "Where the configuration comes from")]
struct Configuration {
    #[command(flatten)]
    installation: Installation,

    /// Follow no cluster, but the Services, IPAddressPools and L2Advertisements in the YAML files
    /// of this directory
    #[arg(
        long,
        env = "SPEAKER_MANIFESTS",
        value_name = "DIR",
        conflicts_with = "kubeconfig"
    )]
    manifests: Option<PathBuf>,

    /// Announce also from nodes with the label node.kubernetes.io/exclude-from-external-load-balancers
    #[arg(long, env = "SPEAKER_IGNORE_EXCLUDE_LB")]
    ignore_exclude_lb: bool,
}

/// `--xdp-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum XdpMode {
    /// Native where the driver can; generic on veth and other virtual links
    Auto,
    /// Native; where the driver refuses, generic, with the reason in the status
    Native,
    /// Generic
    Generic,
}

impl Agent {
    pub(super) fn run(self) -> Result<()> {
        // What the traced build says is asked for by itself, however quiet the agent is to be.
        let program = self.ebpf_log_level.unwrap_or(self.log.level);
        let _writes_until_dropped = self.log.init(Some((kernel::LOG_TARGET, program)));
        let node_name = match self.node_name {
            Some(name) => name,
            None => std::env::var(METALLB_NODE_NAME)
                .with_context(|| format!("cannot use {METALLB_NODE_NAME} as --node-name"))?,
        };
        let Configuration {
            installation,
            manifests,
            ignore_exclude_lb,
        } = self.configuration;
        let in_cluster = manifests.is_none();
        let class = installation.class();
        block_on(agent::run(agent::Options {
            node_name,
            source: match manifests {
                Some(directory) => agent::Source::Manifests(directory),
                None => agent::Source::Cluster {
                    kubeconfig: installation.kubeconfig,
                    namespace: installation.namespace,
                },
            },
            terms: Terms {
                class,
                needs_endpoints: in_cluster,
                ignore_exclude_label: ignore_exclude_lb,
            },
            interfaces: self.interfaces.into_iter().collect(),
            mode: match self.xdp_mode {
                XdpMode::Auto => kernel::ModeChoice::Auto,
                XdpMode::Native => kernel::ModeChoice::Native,
                XdpMode::Generic => kernel::ModeChoice::Generic,
            },
            bpffs: self.places.bpffs,
            state_dir: self.places.state_dir,
            http: self.http,
            refresh: self.refresh,
            ebpf_log_level: self.ebpf_log_level,
            membership: self.cluster.membership(in_cluster),
        }))
    }
}
