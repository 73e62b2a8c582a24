//! The objects of a large cluster, written as its controllers and kubelets would write them.

use std::{fmt::Debug, net::Ipv4Addr};

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{AGENTS, NODES};
use crate::kube::{
    Identity, Site,
    objects::{self, Endpoint},
    site::{self, NAMESPACE, WEB},
};

/// Concurrent requests.
const AT_ONCE: usize = 16;
/// Endpoints of each Service.
const ENDPOINTS: usize = 2;
/// Addresses of nodes without agents: in the subnet, but unused.
const OTHERS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

/// Writes Services without addresses, their endpoints, and the nodes without agents.
pub(super) fn write(site: &Site, services: usize) -> Result<()> {
    let others: Vec<usize> = (usize::from(AGENTS)..NODES).collect();
    site.kube.client(Identity::Admin, async |client| {
        let nodes = others
            .iter()
            .map(|number| objects::node(&name(*number), &[]));
        create::<Node>(&Api::all(client.clone()), nodes).await?;
        let pods = others.iter().map(|number| site::pod(&name(*number)));
        let api = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
        create(&api, pods).await?;
        let statuses = others.iter().map(|number| {
            let address = address(*number);
            let status = json!({ "phase": "Running", "podIP": address, "hostIP": address });
            (format!("speaker-agent-{}", name(*number)), status)
        });
        let params = PatchParams::default();
        for (pod, status) in statuses {
            let patch = Patch::Merge(json!({ "status": status }));
            api.patch_status(&pod, &params, &patch).await?;
        }
        write_services(&client, 0..services).await
    })
}

/// Writes Services of these numbers, and their endpoints.
pub(super) async fn write_services(
    client: &Client,
    numbers: impl Iterator<Item = usize> + Clone,
) -> Result<()> {
    let slices = numbers.clone().map(slice);
    let api = Api::default_namespaced(client.clone());
    create::<EndpointSlice>(&api, slices).await?;
    let api = Api::default_namespaced(client.clone());
    create::<Service>(&api, numbers.map(service)).await
}

/// The name of the Service of this number.
pub(super) fn service_name(number: usize) -> String {
    format!("web-{number}")
}

fn service(number: usize) -> Value {
    let mut service = objects::service(&service_name(number), &WEB);
    service["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    // There are fewer than 3,000 node ports.
    service["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    service
}

fn slice(number: usize) -> Value {
    let nodes: Vec<usize> = (0..ENDPOINTS).map(|n| (number + 7 * n) % NODES).collect();
    let names: Vec<String> = nodes.iter().map(|number| name(*number)).collect();
    let endpoints = nodes.iter().zip(&names).map(|(number, name)| Endpoint {
        address: address(*number).into(),
        node: Some(name),
        ready: Some(true),
        serving: Some(true),
        terminating: Some(false),
    });
    let endpoints: Vec<Endpoint<'_>> = endpoints.collect();
    objects::endpoint_slice(&service_name(number), &endpoints, &WEB)
}

fn name(number: usize) -> String {
    format!("other-{number}")
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(OTHERS.to_bits() + number as u32)
}

async fn create<K>(api: &Api<K>, objects: impl Iterator<Item = Value>) -> Result<()>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams::default();
    let create = async |object: Value| -> Result<()> {
        let object = serde_json::from_value(object)?;
        api.create(&params, &object).await?;
        Ok(())
    };
    stream::iter(objects)
        .map(create)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}
