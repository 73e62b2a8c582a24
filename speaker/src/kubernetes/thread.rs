//! The thread of everything that talks to the API server.
//!
//! Converting thousands of objects takes longer than a lease: the agent's own thread must not wait.

use std::{path::PathBuf, thread};

use anyhow::{Context as _, Result};
use kube::Client;
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
};

use super::{Reach, client::connect, follow, publish, publish::Publication};
use crate::source::Change;

/// How an agent takes part in a cluster.
#[derive(Debug)]
pub struct Options {
    /// How to reach the API server; `None`: as from a pod of the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// This node.
    pub node: String,
    /// The namespace of the installation.
    pub namespace: String,
    /// Where the last known objects are kept for a restart.
    pub state_dir: PathBuf,
}

/// Starts following the cluster and reporting to it. Ends when nobody receives changes any more.
///
/// # Errors
///
/// The kubeconfig cannot be used, or this process does not run in a cluster.
pub async fn start(
    options: Options,
    changes: mpsc::Sender<Change>,
    publications: watch::Receiver<Option<Publication>>,
) -> Result<Reach> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (connected, connection) = oneshot::channel();
    let work = async move {
        let (client, reach) = match connect(options.kubeconfig.as_deref()).await {
            Ok(it) => it,
            Err(error) => {
                // If the receiver is gone, the agent is stopping.
                let _ = connected.send(Err(error));
                return;
            }
        };
        let _ = connected.send(Ok(reach));
        run(client, options, changes, publications).await;
    };
    thread::Builder::new()
        .name("kubernetes".to_owned())
        .spawn(move || runtime.block_on(work))
        .context("cannot start a thread")?;
    connection.await.context("the thread has ended")?
}

async fn run(
    client: Client,
    options: Options,
    changes: mpsc::Sender<Change>,
    publications: watch::Receiver<Option<Publication>>,
) {
    let Options {
        kubeconfig: _,
        node,
        namespace,
        state_dir,
    } = options;
    let follows = follow::Options {
        namespace: namespace.clone(),
        state_dir,
    };
    let publishes = publish::Options { node, namespace };
    tokio::join!(
        follow::follow(client.clone(), follows, changes),
        publish::publish(client, publishes, publications),
    );
}
