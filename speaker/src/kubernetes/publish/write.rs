//! Writing to the API server.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::{
    Api, Client, Error, Resource as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::json;
use speaker_core::intent::ObjectName;

use super::{
    MANAGER, Options, State,
    steps::{Step, status_name},
};
use crate::kubernetes::{InterfaceInfo, ServiceL2Status, ServiceL2StatusStatus};

pub(super) struct Writer {
    client: Client,
    node: String,
    statuses: Api<ServiceL2Status>,
    state: State,
    recorder: Recorder,
}

impl Writer {
    pub(super) fn new(client: Client, options: &Options) -> Self {
        let Options { node, namespace } = options;
        let reporter = Reporter {
            controller: "speaker".to_owned(),
            instance: Some(node.clone()),
        };
        Self {
            node: node.clone(),
            statuses: Api::namespaced(client.clone(), namespace),
            state: State::of_agent(client.clone(), namespace, node),
            recorder: Recorder::new(client.clone(), reporter),
            client,
        }
    }

    pub(super) async fn carry_out(&self, step: &Step) -> Result<()> {
        match step {
            Step::Claim {
                service,
                interfaces,
                ..
            } => {
                let interfaces = interfaces.iter().cloned();
                let interfaces = interfaces.map(|name| InterfaceInfo { name });
                self.claim(service, interfaces.collect()).await
            }
            Step::Say { service } => {
                let node = &self.node;
                let note = format!("announcing from node {node:?} with protocol \"layer2\"");
                self.event(service, EventType::Normal, "nodeAssigned", note)
                    .await
            }
            Step::Remove {
                name,
                resource_version,
            } => self.remove(name, resource_version.as_ref()).await,
            Step::Fail { service, reason } => {
                let note = reason.clone();
                self.event(service, EventType::Warning, "announceFailed", note)
                    .await
            }
            Step::Forget { .. } => Ok(()),
            Step::Judge { refused } => self.state.write(refused).await,
        }
    }

    async fn claim(&self, service: &ObjectName, interfaces: Vec<InterfaceInfo>) -> Result<()> {
        let name = status_name(service);
        let labels = BTreeMap::from([
            (ServiceL2Status::NODE_LABEL, &self.node),
            (ServiceL2Status::SERVICE_NAME_LABEL, &service.name),
            (ServiceL2Status::SERVICE_NAMESPACE_LABEL, &service.namespace),
        ]);
        let object = json!({
            "apiVersion": ServiceL2Status::api_version(&()),
            "kind": ServiceL2Status::kind(&()),
            "metadata": {"name": name, "labels": labels},
        });
        let apply = PatchParams::apply(MANAGER).force();
        self.statuses
            .patch(&name, &apply, &Patch::Apply(object))
            .await?;
        let status = ServiceL2StatusStatus {
            node: self.node.clone(),
            service_name: service.name.clone(),
            service_namespace: service.namespace.clone(),
            interfaces,
        };
        let status = Patch::Merge(json!({"status": status}));
        self.statuses
            .patch_status(&name, &PatchParams::default(), &status)
            .await?;
        Ok(())
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
            // Gone, or no longer as it was: the watch tells.
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            result => result.map(drop).map_err(Into::into),
        }
    }

    async fn event(
        &self,
        service: &ObjectName,
        kind: EventType,
        reason: &str,
        note: String,
    ) -> Result<()> {
        let ObjectName { namespace, name } = service;
        let services = Api::<Service>::namespaced(self.client.clone(), namespace);
        let Some(service) = services.get_metadata_opt(name).await? else {
            // Nobody can be told of a Service that is gone.
            return Ok(());
        };
        let reference = ObjectReference {
            api_version: Some(Service::api_version(&()).into_owned()),
            kind: Some(Service::kind(&()).into_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: service.metadata.uid,
            ..ObjectReference::default()
        };
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Announce".to_owned(),
            secondary: None,
        };
        let published = self.recorder.publish(&event, &reference).await;
        published.with_context(|| format!("event of Service {namespace}/{name}"))
    }
}
