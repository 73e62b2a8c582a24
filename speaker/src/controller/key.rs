//! The secret that all agents of a cluster share.
//!
//! Agents with different keys do not hear each other, and each side answers for all VIPs. When the
//! Secret is deleted, running pods keep its key; they would get the key of a new Secret one by one,
//! within minutes. So a deleted Secret is restored as it was, and a new key is created only if no
//! agent runs.

use std::{collections::BTreeMap, mem, pin::pin, time::Duration};

use anyhow::{Context as _, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use tokio::time::Instant;
use tokio_rustls::rustls::crypto::ring;

use super::{REQUEST_TIMEOUT, known};
use crate::{
    kubernetes::{AGENTS, watch},
    timer::until,
};

/// The Secret that the agents mount.
const NAME: &str = "speaker-memberlist";
/// Its key, and so the name of the file.
const KEY: &str = "secretkey";
const BYTES: usize = 128;
/// How long an operator who deletes the Secret has to create another one; also the wait after a
/// failure.
const WAIT: Duration = Duration::from_secs(5);

type Data = BTreeMap<String, ByteString>;

/// Creates the Secret, and restores it if it is deleted.
pub(super) async fn keep(client: Client, namespace: String) {
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    let until_then = "a cluster key that is deleted is not restored";
    let mut watched = pin!(watch::object(secrets.clone(), NAME, until_then));
    let mut last: Option<Data> = None;
    let mut is_told = false;
    let mut due = None;
    loop {
        tokio::select! {
            Some(secret) = watched.next() => match secret {
                Some(secret) => {
                    last = secret.data;
                    is_told = false;
                    due = None;
                }
                None => {
                    let wait = if last.is_some() { WAIT } else { Duration::ZERO };
                    due = Some(Instant::now() + wait);
                }
            },
            () = until(due) => {
                let create = create(&client, &namespace, last.as_ref());
                let created = known(REQUEST_TIMEOUT, "create Secret speaker-memberlist", create).await;
                if created == Some(false) && !mem::replace(&mut is_told, true) {
                    tracing::error!(
                        "Secret {NAME} is missing, and running agents have its key. Agents with a new \
                         key would not hear them, so none is made, and new agents do not start. Copy \
                         the file /var/lib/kubelet/pods/*/volumes/kubernetes.io~secret/cluster-key/{KEY} \
                         from a node with an agent, and run `kubectl -n {namespace} create secret \
                         generic {NAME} --from-file={KEY}`"
                    );
                }
                due = (created != Some(true)).then(|| Instant::now() + WAIT);
            }
        }
    }
}

/// Creates the Secret with its last content, or with a new key. False if that is not possible
/// because agents run with another key.
async fn create(client: &Client, namespace: &str, last: Option<&Data>) -> Result<bool> {
    let data = match last {
        Some(data) => data.clone(),
        None if are_agents_running(client, namespace).await? => return Ok(false),
        None => [(KEY.to_owned(), ByteString(key()?.into_bytes()))].into(),
    };
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..Secret::default()
    };
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) if last.is_some() => {
            tracing::warn!("Secret {NAME} was deleted, and is restored with the same key");
        }
        Ok(_) => tracing::info!("created the cluster key: Secret {NAME}"),
        // Another controller, or an operator, was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => (),
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

/// Whether agents run; those that wait for the Secret do not count.
async fn are_agents_running(client: &Client, namespace: &str) -> Result<bool> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let running = ListParams::default()
        .labels(AGENTS)
        .fields("status.phase=Running")
        .limit(1);
    let running = pods.list_metadata(&running).await;
    let running = running.context("cannot list the agents' pods")?;
    Ok(!running.items.is_empty())
}

/// A new key, as a line of text.
fn key() -> Result<String> {
    Ok(BASE64_STANDARD.encode(random::<BYTES>()?))
}

/// Bytes from the kernel's random number generator.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let random = ring::default_provider().secure_random;
    match random.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => bail!("the kernel provides no random numbers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Keys;

    #[test]
    fn a_new_key_is_accepted_by_agents() {
        let text = key().unwrap();
        assert_eq!(text.len(), BYTES.div_ceil(3) * 4);
        assert_ne!(text, key().unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        assert!(Keys::read(file.path()).is_ok());
    }
}
