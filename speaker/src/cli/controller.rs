//! `speaker controller`.

use std::net::SocketAddr;

use anyhow::Result;
use clap::Args;

use super::{
    address, block_on,
    common::{Installation, Log},
};
use crate::controller;

/// Give Services of type LoadBalancer their addresses
///
/// Any number of controllers may run: one leads, and another takes over when it is gone. Without a
/// controller, agents announce whatever addresses another allocator writes into the status.
#[derive(Debug, Args)]
pub(super) struct Controller {
    #[command(flatten)]
    installation: Installation,

    /// Serve /healthz, /readyz and /metrics here
    #[arg(
        long,
        env = "SPEAKER_HTTP",
        default_value = "[::]:7472",
        value_name = "ADDR:PORT",
        value_parser = address::with_port
    )]
    http: SocketAddr,

    /// Serve the validating webhooks here
    #[arg(
        long,
        env = "SPEAKER_WEBHOOK_BIND",
        default_value = "[::]:9443",
        value_name = "ADDR:PORT",
        value_parser = address::with_port
    )]
    webhook_bind: SocketAddr,

    /// The Service by which the API server calls the webhooks
    #[arg(
        long,
        env = "SPEAKER_WEBHOOK_SERVICE",
        default_value = "speaker-webhook",
        value_name = "NAME"
    )]
    webhook_service: String,

    /// Serve no webhooks
    #[arg(long)]
    no_webhooks: bool,

    /// The name of this controller among others: that of its pod
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
            class: self.installation.class(),
            namespace: self.installation.namespace,
            kubeconfig: self.installation.kubeconfig,
            http: self.http,
            webhooks: (!self.no_webhooks).then_some(webhooks),
            identity,
        }))
    }
}
