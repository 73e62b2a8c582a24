//! The Secret that all controllers share.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};

use super::certificate::Bundle;

const NAME: &str = "speaker-webhook-cert";

/// The Secret, and the host of its certificate.
pub(super) struct Store {
    secrets: Api<Secret>,
    host: String,
}

impl Store {
    pub(super) fn new(client: Client, namespace: &str, host: String) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            host,
        }
    }

    /// The certificates in force: those in the Secret, or new ones if they are missing or old.
    pub(super) async fn current(&self) -> Result<Bundle> {
        let now = Timestamp::now();
        let existing = self.secrets.get_opt(NAME).await;
        let Some(secret) = existing.with_context(|| format!("cannot read Secret {NAME}"))? else {
            let bundle = Bundle::new(&self.host, now)?;
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                type_: Some("Opaque".to_owned()),
                data: Some(data(&bundle)),
                ..Secret::default()
            };
            let created = self.secrets.create(&PostParams::default(), &secret).await;
            created.with_context(|| format!("cannot create Secret {NAME}"))?;
            return Ok(bundle);
        };
        let renewed = match secret.data.as_ref().and_then(bundle) {
            Some(stored) => match stored.renewed(&self.host, now)? {
                Some(renewed) => renewed,
                None => return Ok(stored),
            },
            None => Bundle::new(&self.host, now)?,
        };
        // With the version that was read: if two controllers write, the second fails, and then
        // reads what the first has written.
        let secret = Secret {
            data: Some(data(&renewed)),
            ..secret
        };
        let params = PostParams::default();
        let replaced = self.secrets.replace(NAME, &params, &secret).await;
        replaced.with_context(|| format!("cannot write Secret {NAME}"))?;
        Ok(renewed)
    }
}

fn data(bundle: &Bundle) -> BTreeMap<String, ByteString> {
    let Bundle {
        authorities,
        authority_key,
        authority_until,
        certificate,
        key,
        until,
        host,
    } = bundle;
    let texts = [
        ("ca.crt", authorities.clone()),
        ("ca.key", authority_key.clone()),
        ("ca.renew-at", authority_until.to_string()),
        ("tls.crt", certificate.clone()),
        ("tls.key", key.clone()),
        ("tls.renew-at", until.to_string()),
        ("tls.host", host.clone()),
    ];
    let texts = texts.into_iter();
    texts
        .map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())))
        .collect()
}

/// The certificates in a Secret, if it has all of them.
fn bundle(data: &BTreeMap<String, ByteString>) -> Option<Bundle> {
    let text = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
    Some(Bundle {
        authorities: text("ca.crt")?,
        authority_key: text("ca.key")?,
        authority_until: text("ca.renew-at")?.parse().ok()?,
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
        until: text("tls.renew-at")?.parse().ok()?,
        host: text("tls.host")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_survive_a_round_trip_through_the_secret() {
        let made = Bundle::new("a.b.svc", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(bundle(&data(&made)), Some(made));
        assert_eq!(bundle(&BTreeMap::new()), None);
    }
}
