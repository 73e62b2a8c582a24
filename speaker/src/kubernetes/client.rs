//! The connection to the API server.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher,
};
use tower::util::MapResultLayer;

use super::reach::Reach;

/// How long a connection may take to establish, in total.
const CONNECT: Duration = Duration::from_secs(5);
/// A watch ends after this time and resumes where it left off, so that a silently dead connection
/// is noticed.
const WATCH: Duration = Duration::from_secs(30);
/// Silence after which a request has failed; longer than an idle watch.
const READ: Duration = Duration::from_secs(40);

/// A client for the cluster that this process runs in, or that a kubeconfig names, and whether that
/// cluster answers.
///
/// # Errors
///
/// The file cannot be used, or this process does not run in a cluster.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<(Client, Reach)> {
    let mut config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read {} (--kubeconfig)", path.display()))?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("cannot use {} (--kubeconfig)", path.display()))?
        }
        None => Config::incluster().context(
                "not running in a Kubernetes pod: pass --kubeconfig FILE, or, without Kubernetes, start \
             the agent with --manifests DIR",
        )?,
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.write_timeout = Some(READ);
    config.reset_reader_on_write = true;
    let reach = Reach::default();
    let builder = ClientBuilder::try_from(config).context("cannot talk to the API server")?;
    let noting = reach.clone();
    let noting = MapResultLayer::new(move |result| noting.note(result));
    Ok((builder.with_layer(&noting).build(), reach))
}

/// How everything is watched. The API server's cache is good enough, so a hundred agents that start
/// together cost no reads of its database.
pub(crate) fn watch_config() -> watcher::Config {
    watcher::Config::default()
        .any_semantic()
        .timeout(WATCH.as_secs() as u32)
}
