//! The secret that all agents of a cluster share.

use anyhow::{Context as _, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use tokio_rustls::rustls::crypto::ring;

/// The Secret that the agents mount.
const NAME: &str = "speaker-memberlist";
/// Its key, and so the name of the file.
const KEY: &str = "secretkey";
const BYTES: usize = 128;

/// Makes the cluster's key, unless there is one.
pub(super) async fn ensure(client: &Client, namespace: &str) -> Result<()> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let existing = secrets.get_opt(NAME).await?;
    if existing.is_some() {
        return Ok(());
    }
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([(KEY.to_owned(), ByteString(key()?.into_bytes()))].into()),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => {
            tracing::info!("created the cluster key: Secret {NAME}");
            Ok(())
        }
        // Another controller was quicker.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot create Secret {NAME}")),
    }
}

/// A new key, as a line of text.
fn key() -> Result<String> {
    Ok(BASE64_STANDARD.encode(random::<BYTES>()?))
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let random = ring::default_provider().secure_random;
    match random.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => bail!("the kernel gives no random numbers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Keys;

    #[test]
    fn a_new_key_is_one_that_agents_take() {
        let text = key().unwrap();
        assert_eq!(text.len(), BYTES.div_ceil(3) * 4);
        assert_ne!(text, key().unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        assert!(Keys::read(file.path()).is_ok());
    }
}
