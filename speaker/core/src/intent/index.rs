//! The index of all objects.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
};

use super::{
    Advertisement, Key, Kind, Node, Object, ObjectName, Outlook, Pool, Service, Wanted,
    endpoints::{Effect, Slices},
    wanted,
};

/// Settings that are not from objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The `loadBalancerClass` of the Services to serve; `None`: those without a class.
    pub class: Option<String>,
    /// A Service is announced only while it has serving endpoints. Files contain no endpoints.
    pub needs_endpoints: bool,
    /// Nodes announce even if their label excludes them from external load balancers.
    pub ignore_exclude_label: bool,
}

/// All objects, and what is derived from them.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    terms: Terms,
    services: BTreeMap<ObjectName, Service>,
    /// No address is in two of them: they were [admitted](super::admission).
    pools: BTreeMap<ObjectName, Pool>,
    advertisements: BTreeMap<ObjectName, Advertisement>,
    slices: Slices,
    nodes: BTreeMap<String, Node>,
}

impl Intent {
    /// An empty index with these settings.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            ..Self::default()
        }
    }

    /// Adds or changes an object. Returns whether what is wanted may have changed.
    pub fn apply(&mut self, object: Object) -> bool {
        match object {
            Object::Service(service) => put(&mut self.services, service.name.clone(), service),
            Object::Pool(pool) => put(&mut self.pools, pool.name().clone(), pool),
            Object::Advertisement(it) => put(&mut self.advertisements, it.name.clone(), it),
            Object::Endpoints(slice) => {
                let service = slice.service.clone();
                let effect = self.slices.apply(slice);
                self.is_relevant(&service, effect)
            }
            Object::Node(node) => put(&mut self.nodes, node.name.name.clone(), node),
        }
    }

    /// Removes an object that is gone or no longer counts. Returns whether what is wanted may have
    /// changed.
    pub fn delete(&mut self, key: &Key) -> bool {
        match key.kind {
            Kind::Service => self.services.remove(&key.name).is_some(),
            Kind::Pool => self.pools.remove(&key.name).is_some(),
            Kind::Advertisement => self.advertisements.remove(&key.name).is_some(),
            Kind::Endpoints => {
                let service = self.slices.owner(&key.name).cloned();
                let effect = self.slices.delete(&key.name);
                service.is_some_and(|it| self.is_relevant(&it, effect))
            }
            Kind::Node => self.nodes.remove(&key.name.name).is_some(),
        }
    }

    /// Whether new endpoints of a Service may change what is wanted. Most do not: those of Services
    /// of other types, and those that come and go on some node while others remain.
    fn is_relevant(&self, service: &ObjectName, effect: Effect) -> bool {
        let service = self.services.get(service);
        match effect {
            Effect::None => false,
            Effect::Where => service.is_some_and(|it| it.local),
            Effect::Whether => service.is_some(),
            Effect::Both => true,
        }
    }

    /// What is known about the node of this name.
    pub fn node(&self, name: &str) -> Cow<'_, Node> {
        match self.nodes.get(name) {
            Some(node) => Cow::Borrowed(node),
            None => Cow::Owned(Node::standalone(name)),
        }
    }

    /// The uid of the Service of this name.
    pub fn service_uid(&self, name: &ObjectName) -> Option<&String> {
        self.services.get(name)?.uid.as_ref()
    }

    /// What distinguishes a node from others: nodes with the same outlook want [the
    /// same](super::WantedVip::alike).
    pub fn outlook(&self, node: &Node) -> Outlook {
        Outlook::of(node, &self.terms, self.advertisements.values())
    }

    /// The VIPs that a node should announce whenever it owns them.
    pub fn wanted(&self, node: &Node) -> Wanted {
        wanted::compute(&wanted::Configuration {
            terms: &self.terms,
            services: &self.services,
            pools: self.pools.values().collect(),
            advertisements: self.advertisements.values().collect(),
            slices: &self.slices,
            outlook: self.outlook(node),
            node,
        })
    }
}

/// Inserts a value. Returns whether that makes a difference.
fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    match map.entry(key) {
        Entry::Occupied(held) if *held.get() == value => false,
        Entry::Occupied(mut held) => {
            held.insert(value);
            true
        }
        Entry::Vacant(free) => {
            free.insert(value);
            true
        }
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
