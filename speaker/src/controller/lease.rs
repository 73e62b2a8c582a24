//! Reading and writing the Lease.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::{
    api::coordination::v1 as api, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use speaker_core::{
    allocate::{Lease, Pending},
    intent::ObjectName,
};

/// The Lease of all controllers of an installation.
const NAME: &str = "speaker-controller";
/// The annotation with writes of Services' statuses that may be in flight.
const PENDING: &str = "speaker-pending-writes";

/// An entry of [`PENDING`].
#[derive(Serialize, Deserialize)]
struct Entry {
    service: String,
    uid: String,
    version: String,
    addresses: Vec<IpAddr>,
}

/// The Lease at the API server.
#[derive(Clone)]
pub(super) struct Leases(Api<api::Lease>);

impl Leases {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    /// The Lease, from a quorum of etcd; `None` if there is none.
    pub(super) async fn read(&self) -> Result<Option<Lease>> {
        match self.0.get_opt(NAME).await? {
            Some(lease) => parse(lease).map(Some),
            None => Ok(None),
        }
    }

    /// Writes the Lease if its version is still the same, or creates it. Returns its new version,
    /// or `None` if another controller was faster. After an error, it may or may not have been
    /// written.
    pub(super) async fn swap(&self, lease: &Lease) -> Result<Option<String>> {
        let now = MicroTime(Timestamp::now());
        let mut body = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": NAME,
                "annotations": { PENDING: text(&lease.pending) },
            },
            "spec": {
                "holderIdentity": lease.holder,
                "leaseDurationSeconds": lease.duration.as_secs(),
                "leaseTransitions": lease.transitions,
                "renewTime": now,
            },
        });
        let written = match &lease.version {
            None => {
                let lease = serde_json::from_value(body).expect("it is a Lease");
                self.0.create(&PostParams::default(), &lease).await
            }
            Some(version) => {
                body["metadata"]["resourceVersion"] = json!(version);
                let patch = Patch::Merge(&body);
                self.0.patch(NAME, &PatchParams::default(), &patch).await
            }
        };
        let written = match written {
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(None),
            written => written?,
        };
        let version = written.metadata.resource_version;
        let version = version.context("the API server gave the Lease no resourceVersion")?;
        Ok(Some(version))
    }
}

fn parse(lease: api::Lease) -> Result<Lease> {
    let spec = lease.spec.unwrap_or_default();
    let annotations = lease.metadata.annotations.unwrap_or_default();
    let pending = match annotations.get(PENDING) {
        Some(text) => entries(text).with_context(|| {
            format!(
                "the annotation {PENDING} of Lease {NAME} cannot be read, so the addresses that are \
                 being assigned are unknown: if no controller of another version runs, remove the \
                 annotation"
            )
        })?,
        None => Vec::new(),
    };
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    Ok(Lease {
        version: lease.metadata.resource_version,
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(seconds.try_into().unwrap_or_default()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        pending,
    })
}

fn text(pending: &[Pending]) -> String {
    let entries = pending.iter().map(|it| Entry {
        service: it.name.to_string(),
        uid: it.uid.clone(),
        version: it.version.clone(),
        addresses: it.addresses.clone(),
    });
    serde_json::to_string(&entries.collect::<Vec<_>>()).expect("texts and addresses are JSON")
}

fn entries(text: &str) -> Result<Vec<Pending>> {
    let entries: Vec<Entry> = serde_json::from_str(text)?;
    let pending = entries.into_iter().map(|it| {
        let (namespace, name) = it.service.split_once('/').context("no namespace")?;
        Ok(Pending {
            name: ObjectName::new(namespace, name),
            uid: it.uid,
            version: it.version,
            addresses: it.addresses,
        })
    });
    pending.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_a_round_trip_through_the_annotation() {
        let pending = vec![Pending {
            name: ObjectName::new("shop", "web"),
            uid: "u-1".to_owned(),
            version: "17".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        }];
        assert_eq!(entries(&text(&pending)).unwrap(), pending);
        assert_eq!(entries(&text(&[])).unwrap(), []);
    }

    #[test]
    fn a_broken_annotation_is_not_an_empty_one() {
        let mut lease = api::Lease::default();
        let annotations = [(PENDING.to_owned(), "[{}]".to_owned())];
        lease.metadata.annotations = Some(annotations.into());
        let error = parse(lease).unwrap_err();
        assert!(
            error.to_string().contains("remove the annotation"),
            "{error}"
        );
    }
}
