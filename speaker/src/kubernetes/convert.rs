//! From the types of the API to those of [`speaker_core::intent`].
//!
//! The functions take metadata and spec rather than whole objects, so that a reader of files can
//! check each part separately.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::{
    api::{
        core::v1 as core,
        discovery::v1::{Endpoint, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use speaker_core::intent::{
    Advertisement, Allocation, AllocationRule, Endpoints, Interfaces, Key, Kind, Node, ObjectName,
    Pool, PoolError, Requirement, Selector, Service,
};

use super::{
    FieldPath, IPAddressPoolSpec, Invalid, L2AdvertisementSpec, LabelSelector,
    PreferredNodeSelector, Reason, ServiceAllocation,
};

/// The annotation that requests addresses, as a comma-separated list.
pub const LOAD_BALANCER_IPS: &str = "metallb.io/loadBalancerIPs";
/// The older name of [`LOAD_BALANCER_IPS`], which counts if the new one is absent.
pub const OLD_LOAD_BALANCER_IPS: &str = "metallb.universe.tf/loadBalancerIPs";

/// The label of a slice with the name of its Service (KEP-0752).
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The source of objects, and so who assigns addresses to Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Files: without a controller, a Service has the addresses that it requests, or else those in
    /// its status.
    Manifests,
    /// A cluster: a Service has the addresses that a controller has written into its status.
    Cluster,
}

/// The name of an object, in the namespace `default` unless it names another.
pub fn name(metadata: &ObjectMeta) -> ObjectName {
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    ObjectName::new(namespace, metadata.name.as_deref().unwrap_or_default())
}

/// An `IPAddressPool`.
pub fn pool(metadata: &ObjectMeta, spec: &IPAddressPoolSpec) -> Result<Pool, Box<Invalid>> {
    let convert = || {
        let at = FieldPath::root().key("spec");
        let of_rule = at.key("serviceAllocation");
        let rule = spec.service_allocation.as_ref();
        let allocation = Allocation {
            auto_assign: spec.auto_assign,
            avoid_buggy: spec.avoid_buggy_ips,
            rule: rule.map(|it| allocation_rule(it, &of_rule)).transpose()?,
        };
        let at = at.key("addresses");
        let parse = |(index, text): (usize, &String)| {
            text.parse().map_err(|error| fault(at.index(index), error))
        };
        let addresses = spec.addresses.iter().enumerate().map(parse);
        let labels = metadata.labels.clone().unwrap_or_default();
        let pool = Pool::new(name(metadata), labels, addresses.collect::<Result<_, _>>()?);
        let pool = pool.map_err(|error| match error {
            PoolError::Empty => fault(at.clone(), error),
            PoolError::Overlap { index, .. } => fault(at.index(index), error),
        })?;
        let created = metadata.creation_timestamp.as_ref();
        let created = created.map_or(0, |it| it.0.as_second());
        Ok(pool.with_allocation(allocation).with_created(created))
    };
    convert().map_err(|fault: Fault| fault.of(Kind::Pool, metadata))
}

/// An `L2Advertisement`.
pub fn advertisement(
    metadata: &ObjectMeta,
    spec: &L2AdvertisementSpec,
) -> Result<Advertisement, Box<Invalid>> {
    let convert = || {
        let at = FieldPath::root().key("spec");
        Ok(Advertisement {
            name: name(metadata),
            pools: unique(&spec.ip_address_pools, &at.key("ipAddressPools"))?,
            pool_selectors: selectors(
                &spec.ip_address_pool_selectors,
                &at.key("ipAddressPoolSelectors"),
            )?,
            node_selectors: selectors(&spec.node_selectors, &at.key("nodeSelectors"))?,
            service_selectors: selectors(&spec.service_selectors, &at.key("serviceSelectors"))?,
            interfaces: if spec.interfaces.is_empty() {
                Interfaces::All
            } else {
                Interfaces::Named(spec.interfaces.iter().cloned().collect())
            },
            preferences: preferences(spec, &at.key("preferredNodeSelectors"))?,
        })
    };
    convert().map_err(|fault: Fault| fault.of(Kind::Advertisement, metadata))
}

/// A Service; `None` if it is not of type `LoadBalancer`.
pub fn service(service: &core::Service, source: Source) -> Result<Option<Service>, Box<Invalid>> {
    let core::Service {
        metadata,
        spec: Some(spec),
        ..
    } = service
    else {
        return Ok(None);
    };
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return Ok(None);
    }
    let addresses = match source {
        Source::Cluster => assigned(service),
        Source::Manifests => requested(metadata, spec).and_then(|addresses| match addresses {
            Some(addresses) => Ok(addresses),
            None => assigned(service),
        }),
    };
    Ok(Some(Service {
        name: name(metadata),
        uid: metadata.uid.clone(),
        labels: metadata.labels.clone().unwrap_or_default(),
        class: spec.load_balancer_class.clone(),
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
        addresses: addresses.map_err(|fault| fault.of(Kind::Service, metadata))?,
    }))
}

/// A slice of a Service's endpoints; `None` if it does not name the Service.
pub fn endpoints(slice: &EndpointSlice) -> Option<Endpoints> {
    let EndpointSlice {
        metadata,
        endpoints,
        ..
    } = slice;
    let name = name(metadata);
    let service = metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let servable = |endpoint: &&Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // A condition that is unset means unknown, which counts as ready (KEP-1672).
        conditions.is_none_or(|it| it.ready.unwrap_or(true) || it.serving == Some(true))
    };
    let mut slice = Endpoints {
        service: ObjectName::new(name.namespace.clone(), service),
        name,
        nodes: BTreeSet::new(),
        elsewhere: false,
    };
    for endpoint in endpoints.iter().flatten().filter(servable) {
        match &endpoint.node_name {
            Some(node) => drop(slice.nodes.insert(node.clone())),
            None => slice.elsewhere = true,
        }
    }
    Some(slice)
}

/// A node.
pub fn node(node: &core::Node) -> Node {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    Node {
        name: ObjectName::new("", node.metadata.name.as_deref().unwrap_or_default()),
        uid: node.metadata.uid.clone(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        network_unavailable: conditions
            .into_iter()
            .flatten()
            .any(|it| it.type_ == "NetworkUnavailable" && it.status == "True"),
    }
}

/// The addresses that a Service requests, by annotation or field; empty if it requests none.
///
/// # Errors
///
/// They cannot be parsed, or are requested in both ways.
pub fn requested_addresses(service: &core::Service) -> Result<Vec<IpAddr>, Box<Invalid>> {
    let Some(spec) = &service.spec else {
        return Ok(Vec::new());
    };
    match requested(&service.metadata, spec) {
        Ok(addresses) => Ok(addresses.unwrap_or_default()),
        Err(fault) => Err(fault.of(Kind::Service, &service.metadata)),
    }
}

/// What is wrong, without the object.
struct Fault {
    field: FieldPath,
    reason: Reason,
}

fn fault(field: FieldPath, reason: impl Into<Reason>) -> Fault {
    Fault {
        field,
        reason: reason.into(),
    }
}

impl Fault {
    fn of(self, kind: Kind, metadata: &ObjectMeta) -> Box<Invalid> {
        Box::new(Invalid {
            object: Key {
                kind,
                name: name(metadata),
            },
            field: self.field,
            reason: self.reason,
        })
    }
}

/// The addresses that the Service requests, if any.
fn requested(
    metadata: &ObjectMeta,
    spec: &core::ServiceSpec,
) -> Result<Option<Vec<IpAddr>>, Fault> {
    let annotation = [LOAD_BALANCER_IPS, OLD_LOAD_BALANCER_IPS]
        .into_iter()
        .find_map(|name| Some((name, metadata.annotations.as_ref()?.get(name)?)))
        .filter(|(_, value)| !value.trim().is_empty());
    let field = spec.load_balancer_ip.as_ref();
    let field = field.filter(|value| !value.trim().is_empty());
    let at_field = FieldPath::root().key("spec").key("loadBalancerIP");
    match (annotation, field) {
        (Some((name, _)), Some(_)) => Err(fault(at_field, Reason::AnnotationAndField(name))),
        (Some((name, value)), None) => {
            let at = FieldPath::root()
                .key("metadata")
                .key("annotations")
                .key(name);
            addresses(value.split(',').map(|text| (at.clone(), text))).map(Some)
        }
        (None, Some(value)) => addresses([(at_field, value.as_str())]).map(Some),
        (None, None) => Ok(None),
    }
}

/// The addresses that have been assigned to the Service.
fn assigned(service: &core::Service) -> Result<Vec<IpAddr>, Fault> {
    let at = FieldPath::root()
        .key("status")
        .key("loadBalancer")
        .key("ingress");
    let load_balancer = service
        .status
        .as_ref()
        .and_then(|it| it.load_balancer.as_ref());
    let ingress = load_balancer
        .and_then(|it| it.ingress.as_deref())
        .unwrap_or_default();
    // Some load balancers have a host name instead: there is nothing to answer for.
    addresses(ingress.iter().enumerate().filter_map(|(index, ingress)| {
        let text = ingress.ip.as_deref()?;
        Some((at.index(index).key("ip"), text))
    }))
}

fn addresses<'a>(
    texts: impl IntoIterator<Item = (FieldPath, &'a str)>,
) -> Result<Vec<IpAddr>, Fault> {
    let mut addresses = Vec::new();
    for (at, text) in texts {
        let text = text.trim();
        let Ok(address) = text.parse::<IpAddr>() else {
            return Err(fault(at, Reason::NotAnAddress(text.to_owned())));
        };
        let address = address.to_canonical();
        if addresses.contains(&address) {
            return Err(fault(at, Reason::AddressTwice(address)));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn allocation_rule(of: &ServiceAllocation, at: &FieldPath) -> Result<AllocationRule, Fault> {
    Ok(AllocationRule {
        priority: of.priority,
        namespaces: unique(&of.namespaces, &at.key("namespaces"))?,
        namespace_selectors: selectors(&of.namespace_selectors, &at.key("namespaceSelectors"))?,
        service_selectors: selectors(&of.service_selectors, &at.key("serviceSelectors"))?,
    })
}

fn preferences(spec: &L2AdvertisementSpec, at: &FieldPath) -> Result<Vec<(u32, Selector)>, Fault> {
    let preference = |(index, preferred): (usize, &PreferredNodeSelector)| {
        let at = at.index(index);
        let weight = u32::try_from(preferred.weight).ok();
        let weight = weight.filter(|weight| (1..=100).contains(weight));
        let weight =
            weight.ok_or_else(|| fault(at.key("weight"), Reason::Weight(preferred.weight)))?;
        Ok((
            weight,
            selector(&preferred.preference, &at.key("preference"))?,
        ))
    };
    let preferred = spec.preferred_node_selectors.iter().enumerate();
    preferred.map(preference).collect()
}

fn unique(names: &[String], at: &FieldPath) -> Result<BTreeSet<String>, Fault> {
    let mut set = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        if !set.insert(name.clone()) {
            return Err(fault(at.index(index), Reason::Twice(name.clone())));
        }
    }
    Ok(set)
}

fn selectors(list: &[LabelSelector], at: &FieldPath) -> Result<Vec<Selector>, Fault> {
    distinct(list, at, selector)
}

fn selector(of: &LabelSelector, at: &FieldPath) -> Result<Selector, Fault> {
    let labels = Selector::by_labels(of.match_labels.clone());
    let labels = labels.map_err(|error| fault(at.key("matchLabels"), error))?;
    let requirements = distinct(
        &of.match_expressions,
        &at.key("matchExpressions"),
        |it, at| {
            let requirement =
                Requirement::new(it.key.clone(), &it.operator, it.values.iter().cloned());
            requirement.map_err(|error| fault(at.key(error.field()), error))
        },
    )?;
    Ok(Selector {
        requirements,
        ..labels
    })
}

/// Converts the items of a list; no two may mean the same.
fn distinct<T, U: PartialEq>(
    list: &[T],
    at: &FieldPath,
    convert: impl Fn(&T, &FieldPath) -> Result<U, Fault>,
) -> Result<Vec<U>, Fault> {
    let mut converted = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let at = at.index(index);
        let item = convert(item, &at)?;
        if let Some(same) = converted.iter().position(|it| *it == item) {
            return Err(fault(at, Reason::Same(same)));
        }
        converted.push(item);
    }
    Ok(converted)
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
