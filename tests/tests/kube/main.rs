//! With a real Kubernetes: what users apply, what clients get, and what happens to both while parts
//! of it fail.

mod agent;
mod configuration;
mod controller;
mod deploy;
mod installed;
mod key;
mod metallb;
mod random;
mod replaced;
mod rest;
mod testbed;
mod webhooks;

use std::time::Duration;

use anyhow::Result;
use speaker_tests::kube::{Site, site::NAMESPACE};

/// Nothing here takes that long, even on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Deletes an object of the installation.
fn delete(site: &Site, object: &str) -> Result<()> {
    let delete = format!("delete {object} --namespace={NAMESPACE}");
    site.kube
        .kubectl(delete.split(' '))
        .unheard()
        .run()
        .map(drop)
}
