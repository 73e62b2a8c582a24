//! The way to the API server.

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

/// How long a connection may take to come up, in total.
const CONNECT: Duration = Duration::from_secs(5);
/// A watch ends after this time and goes on from where it was: a connection that is dead without
/// saying so is noticed within it.
const WATCH: Duration = Duration::from_secs(30);
/// After this much silence a request has failed. Longer than a watch in which nothing happens.
const READ: Duration = Duration::from_secs(40);

/// A client for the cluster that this process runs in, or for the one that a kubeconfig names; and
/// whether it is answered.
///
/// # Errors
///
/// There is no such file, or no cluster around.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<(Client, Reach)> {
    let mut config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path)
                .with_context(|| format!("{} (--kubeconfig)", path.display()))?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("{} (--kubeconfig)", path.display()))?
        }
        None => Config::incluster().context(
            "this is no pod of a Kubernetes cluster: say how to reach one by --kubeconfig FILE (or, for \
             an agent, have it read files by --manifests DIR)",
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

/// How everything is watched: what the API server has in its cache will do, and a hundred agents
/// that start together then cost it no reads of its database.
pub(crate) fn watch_config() -> watcher::Config {
    watcher::Config::default()
        .any_semantic()
        .timeout(WATCH.as_secs() as u32)
}
