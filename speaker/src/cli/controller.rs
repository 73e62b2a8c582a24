//! `speaker controller`.

use std::net::SocketAddr;

use anyhow::Result;
use clap::Args;

use super::{
    address, block_on,
    common::{Installation, Log},
};
use crate::controller;

/// Run the controller, which assigns addresses to Services of type LoadBalancer
///
/// Any number of controllers may run: one leads, and another takes over when it fails. Without a
/// controller, agents announce the addresses that another allocator writes into the status.
#[derive(Debug, Args)]
pub(super) struct Controller {
    #[command(flatten)]
    installation: Installation,

    /// Address to serve /healthz, /readyz and /metrics on
    #[arg(
        long,
        env = "SPEAKER_HTTP",
        default_value = "[::]:7472",
        value_name = "ADDR:PORT",
        value_parser = address::with_port
    )]
    http: SocketAddr,

    /// Address to serve the validating webhooks on
    #[arg(
        long,
        env = "SPEAKER_WEBHOOK_BIND",
        default_value = "[::]:9443",
        value_name = "ADDR:PORT",
        value_parser = address::with_port
    )]
    webhook_bind: SocketAddr,

    /// Service through which the API server calls the webhooks
    #[arg(
        long,
        env = "SPEAKER_WEBHOOK_SERVICE",
        default_value = "speaker-webhook",
        value_name = "NAME"
    )]
    webhook_service: String,

    /// Do not serve webhooks
    #[arg(long)]
    no_webhooks: bool,

    /// Identity of this controller in leader election. Default: the host name
    #[arg(long, env = "SPEAKER_POD_NAME", value_name = "NAME")]
    identity: Option<String>,

    #[command(flatten)]
    log: Log,
}

impl Controller {
    pub(super) fn run(self) -> Result<()> {
        let _writes_until_dropped = self.log.init(None);
        let identity = match self.identity {
            Some(identity) => identity,
            None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
        };
        let webhooks = controller::Webhooks {
            bind: self.webhook_bind,
            service: self.webhook_service,
        };
        block_on(controller::run(controller::Options {
            class: self.installation.lb_class,
            namespace: self.installation.namespace,
            kubeconfig: self.installation.kubeconfig,
            http: self.http,
            webhooks: (!self.no_webhooks).then_some(webhooks),
            identity,
        }))
    }
}
