//! Objects as users and controllers write them; tests can change them further:
//! `service["spec"]["externalTrafficPolicy"] = "Local".into()`.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::lab::Host;

/// A protocol, a Service's port, and the port of its endpoints.
pub type Port<'a> = (&'a str, u16, u16);

/// A Namespace.
pub fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// A Node.
pub fn node(name: &str, labels: &[(&str, &str)]) -> Value {
    // The longest value of a label.
    let hostname = name.get(..63).unwrap_or(name);
    let mut node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": hostname } },
    });
    for (label, value) in labels {
        node["metadata"]["labels"][*label] = json!(value);
    }
    node
}

/// A dual-stack Service of type LoadBalancer without a selector, in the namespace `default`.
pub fn service(name: &str, ports: &[Port<'_>]) -> Value {
    let ports = ports.iter().map(|(protocol, port, target)| {
        json!({
            "name": port_name(protocol, *port),
            "protocol": protocol,
            "port": port,
            "targetPort": target,
        })
    });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "type": "LoadBalancer",
            "ipFamilyPolicy": "PreferDualStack",
            "ports": ports.collect::<Vec<_>>(),
        },
    })
}

/// A Service's endpoints of one family, as the cluster's own controller writes them.
pub fn endpoint_slice(service: &str, endpoints: &[Endpoint<'_>], ports: &[Port<'_>]) -> Value {
    let is_ipv6 = endpoints.iter().any(|endpoint| endpoint.address.is_ipv6());
    let family = if is_ipv6 { "IPv6" } else { "IPv4" };
    let ports = ports.iter().map(|(protocol, port, target)| {
        json!({ "name": port_name(protocol, *port), "protocol": protocol, "port": target })
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}", family.to_lowercase()),
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": family,
        "endpoints": endpoints.iter().map(Endpoint::object).collect::<Vec<_>>(),
        "ports": ports.collect::<Vec<_>>(),
    })
}

/// A Service's endpoints of one family, as the API server looks for those of a webhook.
pub fn endpoints(service: &str, addresses: &[IpAddr], ports: &[Port<'_>]) -> Value {
    let addresses = addresses.iter().map(|address| json!({ "ip": address }));
    let ports = ports.iter().map(|(protocol, port, target)| {
        json!({ "name": port_name(protocol, *port), "protocol": protocol, "port": target })
    });
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": { "name": service, "namespace": "default" },
        "subsets": [{ "addresses": addresses.collect::<Vec<_>>(), "ports": ports.collect::<Vec<_>>() }],
    })
}

/// Several objects, to apply at once.
pub fn list(objects: impl IntoIterator<Item = Value>) -> Value {
    let objects: Vec<_> = objects.into_iter().collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": objects })
}

/// An endpoint of a Service.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// Where.
    pub address: IpAddr,
    /// The node that it is on.
    pub node: Option<&'a str>,
    /// Whether it is ready.
    pub ready: Option<bool>,
    /// Whether it is serving, even if terminating.
    pub serving: Option<bool>,
    /// Whether it is terminating.
    pub terminating: Option<bool>,
}

impl<'a> Endpoint<'a> {
    /// A ready endpoint, with a node's own address of one family.
    pub fn on(node: &'a Host, is_ipv6: bool) -> Self {
        Self {
            address: match is_ipv6 {
                true => node.eth0.ipv6.into(),
                false => node.eth0.ipv4.into(),
            },
            node: Some(node.name()),
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }
    }

    fn object(&self) -> Value {
        let mut object = json!({ "addresses": [self.address], "conditions": {} });
        if let Some(node) = self.node {
            object["nodeName"] = json!(node);
        }
        for (condition, holds) in [
            ("ready", self.ready),
            ("serving", self.serving),
            ("terminating", self.terminating),
        ] {
            if let Some(holds) = holds {
                object["conditions"][condition] = json!(holds);
            }
        }
        object
    }
}

fn port_name(protocol: &str, port: u16) -> String {
    format!("{}-{port}", protocol.to_lowercase())
}
