//! Writing to the API server.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::Stream;
use kube::{
    Api, Client, Error, Resource as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::Status,
    runtime::events::{Event, EventType, Reporter},
};
use serde_json::json;
use speaker_core::intent::ObjectName;
use tracing::warn;

use super::{
    MANAGER, Options, State,
    names::{node_label, status_name},
    pace::Outcome,
    state::Said,
    steps::Step,
};
use crate::kubernetes::{InterfaceInfo, ServiceL2Status, ServiceL2StatusStatus, event};

pub(super) struct Writer {
    client: Client,
    node: String,
    statuses: Api<ServiceL2Status>,
    state: State,
}

impl Writer {
    pub(super) fn new(client: Client, options: &Options) -> Self {
        let Options { node, namespace } = options;
        Self {
            node: node.clone(),
            statuses: Api::namespaced(client.clone(), namespace),
            state: State::of_agent(client.clone(), namespace, node),
            client,
        }
    }

    /// What this node's `ConfigurationState` says, whenever that changes.
    pub(super) fn judged(&self) -> impl Stream<Item = Said> + Send + use<> {
        self.state.watch()
    }

    /// Carries out a step. A claim takes two writes: returns the name of its object and the
    /// version between them, if there was one.
    pub(super) async fn carry_out(&self, step: &Step) -> Result<Option<(String, String)>> {
        match step {
            Step::Claim {
                service,
                interfaces,
                ..
            } => {
                let interfaces = interfaces.iter().cloned();
                let interfaces = interfaces.map(|name| InterfaceInfo { name });
                return self.claim(service, interfaces.collect()).await;
            }
            Step::Say { service, uid } => {
                let node = &self.node;
                let note = format!("announcing from node {node:?} with protocol \"layer2\"");
                let uid = uid.as_ref();
                self.event(service, uid, EventType::Normal, "nodeAssigned", note)
                    .await?;
            }
            Step::Remove {
                name,
                resource_version,
            } => self.remove(name, resource_version.as_ref()).await?,
            Step::Fail {
                service,
                uid,
                reason,
            } => {
                let (uid, note) = (uid.as_ref(), reason.clone());
                self.event(service, uid, EventType::Warning, "announceFailed", note)
                    .await?;
            }
            Step::Forget { .. } => {}
            Step::Judge(judgement) => self.state.write(judgement).await?,
        }
        Ok(None)
    }

    async fn claim(
        &self,
        service: &ObjectName,
        interfaces: Vec<InterfaceInfo>,
    ) -> Result<Option<(String, String)>> {
        let name = status_name(service);
        let labels = BTreeMap::from([
            (ServiceL2Status::NODE_LABEL, node_label(&self.node)),
            (ServiceL2Status::SERVICE_NAME_LABEL, service.name.clone()),
            (
                ServiceL2Status::SERVICE_NAMESPACE_LABEL,
                service.namespace.clone(),
            ),
        ]);
        let object = Patch::Apply(json!({
            "apiVersion": ServiceL2Status::api_version(&()),
            "kind": ServiceL2Status::kind(&()),
            "metadata": {"name": name, "labels": labels},
        }));
        let status = ServiceL2StatusStatus {
            node: self.node.clone(),
            service_name: service.name.clone(),
            service_namespace: service.namespace.clone(),
            interfaces,
        };
        let status = Patch::Merge(json!({"status": status}));
        let apply = PatchParams::apply(MANAGER).force();
        let merge = PatchParams::default();
        let label = || self.statuses.patch(&name, &apply, &object);
        let say = || self.statuses.patch_status(&name, &merge, &status);

        let mut labelled = label().await?;
        let written = match say().await {
            // By MetalLB's definition of the resource, which may be the one in force, a status
            // never names another node: it has to be another object.
            Err(Error::Api(refused)) if refused.code == 422 && self.is_of_other(&labelled) => {
                self.remove(&name, labelled.metadata.resource_version.as_ref())
                    .await?;
                labelled = label().await?;
                say().await?
            }
            written => written?,
        };
        let last = written.metadata.resource_version;
        let first = labelled.metadata.resource_version;
        Ok(first
            .filter(|it| last.as_ref() != Some(it))
            .map(|it| (name, it)))
    }

    fn is_of_other(&self, object: &ServiceL2Status) -> bool {
        let status = object.status.as_ref();
        status.is_some_and(|it| !it.node.is_empty() && it.node != self.node)
    }

    async fn remove(&self, name: &str, resource_version: Option<&String>) -> Result<()> {
        let unchanged = DeleteParams {
            preconditions: resource_version.map(|version| Preconditions {
                resource_version: Some(version.clone()),
                uid: None,
            }),
            ..DeleteParams::default()
        };
        match self.statuses.delete(name, &unchanged).await {
            // It is gone or has changed: the watch will say so.
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            result => result.map(drop).map_err(Into::into),
        }
    }

    async fn event(
        &self,
        service: &ObjectName,
        uid: Option<&String>,
        type_: EventType,
        reason: &str,
        note: String,
    ) -> Result<()> {
        let reporter = Reporter {
            controller: "speaker".to_owned(),
            instance: Some(self.node.clone()),
        };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Announce".to_owned(),
            secondary: None,
        };
        match event::write(&self.client, reporter, service, uid, event).await {
            // For example in a namespace that is being deleted.
            Err(Error::Api(status)) if is_final(&status) => {
                warn!(
                    "event {reason} of Service {service} is lost: {}",
                    status.message
                );
                Ok(())
            }
            written => Ok(written?),
        }
    }
}

/// Whether an error is final, as opposed to rate limits, conflicts and an expired token.
fn is_final(status: &Status) -> bool {
    (400..500).contains(&status.code) && !matches!(status.code, 401 | 408 | 409 | 429)
}

/// What an error means for the next attempt.
pub(super) fn outcome(error: &anyhow::Error) -> Outcome {
    match error.downcast_ref() {
        Some(Error::Api(status)) if is_final(status) => Outcome::Refused,
        _ => Outcome::Unanswered,
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
