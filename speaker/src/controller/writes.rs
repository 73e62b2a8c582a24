//! What the leader writes: statuses, counters and events.

use anyhow::Result;
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Reporter},
};
use serde_json::json;
use speaker_core::allocate::{Notice, PoolWrite, StatusWrite, Told, Usage};

use super::service::{FROM_POOL, OLD_FROM_POOL};
use crate::kubernetes::{IPAddressPool, IPAddressPoolStatus, event};

/// The reporter of the events.
const REPORTER: &str = "speaker-controller";

/// What the leader writes to the API server.
#[derive(Clone)]
pub(super) struct Writes {
    client: Client,
    identity: String,
}

impl Writes {
    pub(super) const fn new(client: Client, identity: String) -> Self {
        Self { client, identity }
    }

    /// Writes the status of a Service, and the annotation with the pool, if its version is still
    /// the same. Returns whether that is final: done, or permanently impossible.
    pub(super) async fn status(&self, write: &StatusWrite) -> Result<bool> {
        let StatusWrite { pending, pool, .. } = write;
        let ingress = pending.addresses.iter().map(|it| json!({ "ip": it }));
        let body = json!({
            "metadata": {
                "uid": pending.uid,
                "resourceVersion": pending.version,
                "annotations": { FROM_POOL: pool, OLD_FROM_POOL: null },
            },
            "status": { "loadBalancer": { "ingress": ingress.collect::<Vec<_>>() } },
        });
        let name = &pending.name;
        let services = Api::<core::Service>::namespaced(self.client.clone(), &name.namespace);
        let patch = Patch::Merge(&body);
        let params = PatchParams::default();
        match services.patch_status(&name.name, &params, &patch).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the counters of a pool.
    pub(super) async fn counters(&self, write: &PoolWrite) -> Result<()> {
        let Usage {
            assigned_v4,
            assigned_v6,
            available_v4,
            available_v6,
        } = write.usage;
        let status = IPAddressPoolStatus {
            assigned_ipv4: assigned_v4,
            assigned_ipv6: assigned_v6,
            available_ipv4: available_v4,
            available_ipv6: available_v6,
        };
        let name = &write.name;
        let pools = Api::<IPAddressPool>::namespaced(self.client.clone(), &name.namespace);
        let patch = Patch::Merge(json!({ "status": status }));
        pools
            .patch_status(&name.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Writes an event for the users of a Service.
    pub(super) async fn tell(&self, notice: &Notice) -> Result<()> {
        let reporter = Reporter {
            controller: REPORTER.to_owned(),
            instance: Some(self.identity.clone()),
        };
        let Notice { name, uid, .. } = notice;
        event::write(&self.client, reporter, name, Some(uid), event(notice)).await?;
        Ok(())
    }
}

fn event(notice: &Notice) -> Event {
    let (type_, reason, note) = match &notice.told {
        Told::Allocated(addresses) => {
            let addresses = addresses.iter().map(|it| format!("\"{it}\""));
            let addresses = addresses.collect::<Vec<_>>().join(" ");
            let note = format!("Assigned IP [{addresses}]");
            (EventType::Normal, "IPAllocated", note)
        }
        Told::Failed(why) => {
            let note = format!("Failed to allocate IP for \"{}\": {why}", notice.name);
            (EventType::Warning, "AllocationFailed", note)
        }
        Told::Cleared(why) => {
            let note = format!("Released the IP of \"{}\": {why}", notice.name);
            (EventType::Normal, "ClearAssignment", note)
        }
        Told::OldAnnotations(names) => {
            let note = format!(
                "The prefix metallb.universe.tf is deprecated: use metallb.io instead in {}",
                names.join(", ")
            );
            (EventType::Warning, "deprecatedAnnotation", note)
        }
    };
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note),
        action: "Allocate".to_owned(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use speaker_core::{allocate::Failure, intent::ObjectName};

    use super::*;

    #[track_caller]
    fn check(told: Told, expect: &str) {
        let notice = Notice {
            name: ObjectName::new("shop", "web"),
            uid: "u-1".to_owned(),
            told,
        };
        let event = event(&notice);
        let found = format!(
            "{:?} {}: {}",
            event.type_,
            event.reason,
            event.note.unwrap()
        );
        assert_eq!(found, expect);
    }

    #[test]
    fn events_have_metallbs_reasons() {
        let addresses = ["10.0.0.1", "fd00::1"]
            .map(|it| it.parse().unwrap())
            .to_vec();
        check(
            Told::Allocated(addresses),
            r#"Normal IPAllocated: Assigned IP ["10.0.0.1" "fd00::1"]"#,
        );
        check(
            Told::Failed(Failure::NoPools),
            r#"Warning AllocationFailed: Failed to allocate IP for "shop/web": there is no IPAddressPool: add one"#,
        );
        check(
            Told::Cleared(Failure::NotRequested {
                had: vec!["10.0.0.1".parse().unwrap()],
                requested: vec!["10.0.0.2".parse().unwrap()],
            }),
            r#"Normal ClearAssignment: Released the IP of "shop/web": the Service requests 10.0.0.2 instead of 10.0.0.1"#,
        );
        check(
            Told::OldAnnotations(vec!["metallb.universe.tf/address-pool".to_owned()]),
            "Warning deprecatedAnnotation: The prefix metallb.universe.tf is deprecated: use metallb.io instead in metallb.universe.tf/address-pool",
        );
    }
}
