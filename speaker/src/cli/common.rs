//! Flags that the agent and the controller share.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, builder::NonEmptyStringValueParser};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::kubernetes;

/// A duration with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a duration with its unit, such as 100ms, 150s or 5m".to_owned())
}

/// The cluster, and which of its objects this load balancer handles.
#[derive(Debug, Args)]
pub(super) struct Installation {
    /// Kubeconfig of the cluster to follow. Default: the cluster that this pod runs in
    #[arg(long, env = "SPEAKER_KUBECONFIG", value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,

    /// Namespace of the installation: its pods, Secrets, IPAddressPools and L2Advertisements
    #[arg(
        long,
        env = "SPEAKER_NAMESPACE",
        default_value = kubernetes::NAMESPACE,
        value_name = "NAME",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(super) namespace: String,

    /// Handle only Services with this loadBalancerClass. Default: only those without one
    #[arg(
        long,
        env = "SPEAKER_LB_CLASS",
        value_name = "CLASS",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(super) lb_class: Option<String>,
}

/// `--log-level`.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Log {
    /// Log level: error, warn, info, debug or trace
    #[arg(
        long = "log-level",
        env = "SPEAKER_LOG_LEVEL",
        default_value = "info",
        value_name = "LEVEL"
    )]
    pub(super) level: tracing::Level,
}

impl Log {
    /// Starts logging to standard error, at any level for the target `exception`. A thread writes
    /// the lines until the guard is dropped: a reader that stalls costs lines, but does not stall
    /// the process.
    pub(super) fn init(self, exception: Option<&str>) -> WorkerGuard {
        let levels = Targets::new()
            .with_default(self.level)
            // It warns about watches that ended with what they watched.
            .with_target("notify", LevelFilter::OFF)
            .with_targets(exception.map(|target| (target, tracing::Level::TRACE)));
        let (writer, guard) = tracing_appender::non_blocking(io::stderr());
        let mut lines = tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_writer(writer);
        // On a terminal, there are colours unless NO_COLOR is set.
        if !io::stderr().is_terminal() {
            lines.set_ansi(false);
        }
        tracing_subscriber::registry()
            .with(lines.with_filter(levels))
            .init();
        guard
    }
}
