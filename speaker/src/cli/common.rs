//! What the agent and the controller are both told.

use std::path::PathBuf;

use clap::Args;

use crate::kubernetes;

/// The cluster, and what of it is for this load balancer.
#[derive(Debug, Args)]
pub(super) struct Installation {
    /// How to reach the API server: the cluster that this file leads to. Without it, the one that
    /// this pod runs in
    #[arg(long, env = "SPEAKER_KUBECONFIG", value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,

    /// The namespace of the installation: of its pods, its Secrets, the IPAddressPools and the
    /// L2Advertisements
    #[arg(
        long,
        env = "SPEAKER_NAMESPACE",
        default_value = kubernetes::NAMESPACE,
        value_name = "NAME"
    )]
    pub(super) namespace: String,

    /// Only Services of this loadBalancerClass. Without it, only those that have none
    #[arg(long, env = "SPEAKER_LB_CLASS", value_name = "CLASS")]
    lb_class: Option<String>,
}

impl Installation {
    /// The class of the Services that count; an empty one in a manifest is none.
    pub(super) fn class(&self) -> Option<String> {
        self.lb_class.clone().filter(|class| !class.is_empty())
    }
}

/// What is told of what happens.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Log {
    /// What to log: error, warn, info, debug or trace
    #[arg(
        long = "log-level",
        env = "SPEAKER_LOG_LEVEL",
        default_value = "info",
        value_name = "LEVEL"
    )]
    pub(super) level: tracing::Level,
}
