//! From Services of the API to those of the allocator.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1 as core;
use speaker_core::allocate::{Family, FamilyPolicy, Port, Service, Sharing};

use crate::kubernetes::convert;

/// The annotation with the pool of a Service's addresses, for people.
pub(super) const FROM_POOL: &str = "metallb.io/ip-allocated-from-pool";
/// The older name of [`FROM_POOL`].
pub(super) const OLD_FROM_POOL: &str = "metallb.universe.tf/ip-allocated-from-pool";

const PREFIX: &str = "metallb.io/";
/// Annotations with this prefix count where the same one with [`PREFIX`] is absent.
const OLD_PREFIX: &str = "metallb.universe.tf/";
const ADDRESS_POOL: &str = "address-pool";
const ALLOW_SHARED_IP: &str = "allow-shared-ip";
const LOAD_BALANCER_IPS: &str = "loadBalancerIPs";

/// A Service; `None` if it is not of type `LoadBalancer`. It is ours only if it has this class.
pub(super) fn service(object: &core::Service, class: Option<&str>) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return None;
    }
    let metadata = &object.metadata;
    let annotations = metadata.annotations.as_ref();
    let annotations = Annotations(annotations);
    let created = metadata.creation_timestamp.as_ref();
    let load_balancer = object
        .status
        .as_ref()
        .and_then(|it| it.load_balancer.as_ref());
    let ingress = load_balancer.and_then(|it| it.ingress.as_deref());
    let shown = ingress.unwrap_or_default().iter();
    let shown = shown.filter_map(|it| it.ip.as_deref()?.parse::<IpAddr>().ok());
    Some(Service {
        name: convert::name(metadata),
        uid: metadata.uid.clone().unwrap_or_default(),
        version: metadata.resource_version.clone().unwrap_or_default(),
        created: created.map_or(0, |it| it.0.as_second()),
        is_ours: spec.load_balancer_class.as_deref() == class,
        labels: metadata.labels.clone().unwrap_or_default(),
        families: families(spec),
        policy: match spec.ip_family_policy.as_deref() {
            Some("PreferDualStack") => FamilyPolicy::PreferDualStack,
            Some("RequireDualStack") => FamilyPolicy::RequireDualStack,
            _ => FamilyPolicy::SingleStack,
        },
        pool: annotations.value(ADDRESS_POOL).filter(|it| !it.is_empty()),
        requested: convert::requested_addresses(object)
            .map_err(|invalid| format!("{}: {}", invalid.field, invalid.reason)),
        sharing: Sharing {
            key: annotations.value(ALLOW_SHARED_IP).unwrap_or_default(),
            backend: backend(spec),
            ports: ports(spec).collect(),
        },
        shown: shown.collect(),
        shown_pool: annotations.0.and_then(|it| it.get(FROM_POOL)).cloned(),
        old_annotations: annotations.old(),
    })
}

struct Annotations<'a>(Option<&'a BTreeMap<String, String>>);

impl Annotations<'_> {
    fn value(&self, name: &str) -> Option<String> {
        let annotations = self.0?;
        let new = annotations.get(&format!("{PREFIX}{name}"));
        new.or_else(|| annotations.get(&format!("{OLD_PREFIX}{name}")))
            .cloned()
    }

    /// Those in the old spelling.
    fn old(&self) -> Vec<String> {
        let names = [ADDRESS_POOL, ALLOW_SHARED_IP, LOAD_BALANCER_IPS];
        let names = names.map(|name| format!("{OLD_PREFIX}{name}"));
        let is_there = |name: &String| self.0.is_some_and(|it| it.contains_key(name));
        names.into_iter().filter(is_there).collect()
    }
}

/// As the API server says; if it supports only one family, the family of the cluster IP.
fn families(spec: &core::ServiceSpec) -> Vec<Family> {
    let named = spec.ip_families.as_deref().unwrap_or_default();
    if !named.is_empty() {
        let family = |it: &String| match it.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        };
        return named.iter().filter_map(family).collect();
    }
    let several = spec.cluster_ips.as_deref().unwrap_or_default();
    let one = spec.cluster_ip.as_slice();
    let of = if several.is_empty() { one } else { several };
    let addresses = of.iter().filter_map(|it| it.parse().ok());
    addresses.map(Family::of).collect()
}

/// Where traffic goes: to all nodes, or to those with an endpoint that the selector selects.
fn backend(spec: &core::ServiceSpec) -> String {
    if spec.external_traffic_policy.as_deref() != Some("Local") {
        return String::new();
    }
    let selector = spec.selector.iter().flatten();
    let pairs: Vec<_> = selector
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    // Without a selector, endpoints are written by hand, for this Service alone. It shares no
    // address with a Service whose endpoints are selected by labels.
    format!("Local:{}", pairs.join(","))
}

fn ports(spec: &core::ServiceSpec) -> impl Iterator<Item = Port> {
    spec.ports.iter().flatten().filter_map(|it| {
        Some(Port {
            protocol: it.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            number: it.port.try_into().ok()?,
        })
    })
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
