//! `speaker agent`.

use std::{env, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use speaker_core::intent::Terms;
use tracing::level_filters::LevelFilter;

use super::{
    Bpffs, StateDir, address, block_on,
    cluster::Cluster,
    common::{Installation, Log, duration},
};
use crate::{agent, kernel};

/// The variable in MetalLB's manifests.
const METALLB_NODE_NAME: &str = "METALLB_NODE_NAME";

/// Run the agent, which answers for this node's VIPs
///
/// The kernel keeps answering without the agent: for 3 seconds if it crashes, for 60 if it is
/// stopped cleanly. A restart within that time goes unnoticed. To stop answering for good, stop the
/// agent and run `speaker detach`.
#[derive(Debug, Args)]
pub(super) struct Agent {
    /// Name of this node in the cluster, matched by the nodeSelectors of advertisements [env:
    /// METALLB_NODE_NAME is read too]
    #[arg(
        long,
        env = "SPEAKER_NODE_NAME",
        value_name = "NAME",
        value_parser = NonEmptyStringValueParser::new(),
        required = metallb_node_name().is_none()
    )]
    node_name: Option<String>,

    /// Interface to answer for VIPs on; repeatable. Default: all interfaces except those created by
    /// container runtimes and CNI plugins. The program also runs on the interface where other nodes
    /// reach this one, to answer their liveness probes
    #[arg(
        long = "interface",
        env = "SPEAKER_INTERFACE",
        value_name = "IF",
        value_delimiter = ',',
        value_parser = NonEmptyStringValueParser::new()
    )]
    interfaces: Vec<String>,

    /// XDP mode: in the driver (native), or in the network stack behind it (generic)
    #[arg(long, env = "SPEAKER_XDP_MODE", value_enum, default_value_t = XdpMode::Auto)]
    xdp_mode: XdpMode,

    #[command(flatten)]
    bpffs: Bpffs,

    #[command(flatten)]
    state_dir: StateDir,

    /// Address to serve /healthz, /readyz and /metrics on. Default: not served
    #[arg(long, env = "SPEAKER_HTTP", value_name = "ADDR:PORT", value_parser = address::with_port)]
    http: Option<SocketAddr>,

    /// Interval between repeated announcements of each VIP, which keep switches and routers from
    /// forgetting it: at least 5s; 0s disables them
    #[arg(long, env = "SPEAKER_REFRESH", default_value = "150s", value_name = "DURATION",
          value_parser = refresh)]
    refresh: Duration,

    #[command(flatten)]
    log: Log,

    /// What the eBPF program logs of the frames it handles: off, error, warn, info, debug or trace.
    /// Can be changed at run time: `speaker ebpf-log`
    #[arg(
        long,
        env = "SPEAKER_EBPF_LOG_LEVEL",
        default_value = "off",
        value_name = "LEVEL"
    )]
    ebpf_log_level: LevelFilter,

    // Their headings apply to all flags that follow.
    #[command(flatten)]
    configuration: Configuration,

    #[command(flatten)]
    cluster: Cluster,
}

/// The source of the configuration.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration source")]
struct Configuration {
    #[command(flatten)]
    installation: Installation,

    /// Read Services, IPAddressPools and L2Advertisements from the YAML files in this directory,
    /// instead of from a cluster
    #[arg(
        long,
        env = "SPEAKER_MANIFESTS",
        value_name = "DIR",
        conflicts_with = "kubeconfig"
    )]
    manifests: Option<PathBuf>,

    /// Announce even from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers
    #[arg(long, env = "SPEAKER_IGNORE_EXCLUDE_LB")]
    ignore_exclude_lb: bool,
}

/// `--xdp-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum XdpMode {
    /// Native where the driver supports it; generic on veth and other virtual links
    Auto,
    /// Native; falls back to generic where the driver refuses, with the reason in the status. There,
    /// native mode is tried again after the next `speaker detach` or restart of the host
    Native,
    /// Always generic
    Generic,
}

impl Agent {
    pub(super) fn run(self) -> Result<()> {
        // The program's log level has its own flag, however quiet the agent is.
        let _writes_until_dropped = self.log.init(Some(kernel::LOG_TARGET));
        let node_name = self.node_name.or_else(metallb_node_name);
        let node_name = node_name.expect("clap requires one of the two");
        let Configuration {
            installation,
            manifests,
            ignore_exclude_lb,
        } = self.configuration;
        let in_cluster = manifests.is_none();
        self.cluster.check_key_file();
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
                class: installation.lb_class,
                needs_endpoints: in_cluster,
                ignore_exclude_label: ignore_exclude_lb,
            },
            interfaces: self.interfaces.into_iter().collect(),
            mode: match self.xdp_mode {
                XdpMode::Auto => kernel::ModeChoice::Auto,
                XdpMode::Native => kernel::ModeChoice::Native,
                XdpMode::Generic => kernel::ModeChoice::Generic,
            },
            bpffs: self.bpffs.path,
            state_dir: self.state_dir.path,
            http: self.http,
            refresh: self.refresh,
            ebpf_log_level: self.ebpf_log_level.into_level(),
            membership: self.cluster.membership(in_cluster),
        }))
    }
}

/// The name in MetalLB's variable; as with ours, an empty one counts as not set.
fn metallb_node_name() -> Option<String> {
    env::var(METALLB_NODE_NAME)
        .ok()
        .filter(|name| !name.is_empty())
}

/// The interval of `--refresh`.
fn refresh(text: &str) -> Result<Duration, String> {
    /// Announcements of one VIP are at least this far apart, except in a burst.
    const SHORTEST: Duration = Duration::from_secs(5);
    let interval = duration(text)?;
    if interval.is_zero() || interval >= SHORTEST {
        Ok(interval)
    } else {
        Err(format!("expected 0s, or {SHORTEST:?} or longer"))
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    #[test]
    fn vips_are_refreshed_every_150_seconds_unless_told_otherwise() {
        let line = ["agent", "--node-name", "node-a"];
        let command = Agent::augment_args(clap::Command::new("agent"));
        let agent = Agent::from_arg_matches(&command.get_matches_from(line)).unwrap();
        assert_eq!(agent.refresh, Duration::from_secs(150));
    }

    #[test]
    fn refreshes_are_off_or_at_least_five_seconds_apart() {
        assert_eq!(refresh("0s"), Ok(Duration::ZERO));
        assert_eq!(refresh("5s"), Ok(Duration::from_secs(5)));
        let refused = Err("expected 0s, or 5s or longer".to_owned());
        assert_eq!(refresh("4999ms"), refused);
        assert!(refresh("often").is_err());
    }
}
