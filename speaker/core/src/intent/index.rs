//! The index.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
};

use super::{
    Advertisement, Key, Kind, Node, Object, ObjectName, Outlook, Pool, Service, Wanted,
    endpoints::Slices, wanted,
};

/// What is decided apart from any object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The `loadBalancerClass` of the Services that count; without one, those that have none.
    pub class: Option<String>,
    /// A Service is announced only while it has endpoints that serve. Files tell of none.
    pub needs_endpoints: bool,
    /// Nodes that are excluded from external load balancers by label announce all the same.
    pub ignore_exclude_label: bool,
}

/// All objects that count, and what follows from them.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    terms: Terms,
    services: BTreeMap<ObjectName, Service>,
    /// No address is in two of them: whoever applies them has [admitted](super::admission) them.
    pools: BTreeMap<ObjectName, Pool>,
    advertisements: BTreeMap<ObjectName, Advertisement>,
    slices: Slices,
    nodes: BTreeMap<String, Node>,
}

impl Intent {
    /// An empty index on these terms.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            ..Self::default()
        }
    }

    /// An object is new or has changed. Whether what is wanted may be something else by that.
    pub fn apply(&mut self, object: Object) -> bool {
        match object {
            Object::Service(service) => put(&mut self.services, service.name.clone(), service),
            Object::Pool(pool) => put(&mut self.pools, pool.name().clone(), pool),
            Object::Advertisement(it) => put(&mut self.advertisements, it.name.clone(), it),
            Object::Endpoints(slice) => self.slices.apply(slice),
            Object::Node(node) => put(&mut self.nodes, node.name.name.clone(), node),
        }
    }

    /// An object is gone, or no longer of a kind that counts. Whether what is wanted may be
    /// something else by that.
    pub fn delete(&mut self, key: &Key) -> bool {
        match key.kind {
            Kind::Service => self.services.remove(&key.name).is_some(),
            Kind::Pool => self.pools.remove(&key.name).is_some(),
            Kind::Advertisement => self.advertisements.remove(&key.name).is_some(),
            Kind::Endpoints => self.slices.delete(&key.name),
            Kind::Node => self.nodes.remove(&key.name.name).is_some(),
        }
    }

    /// What is known of the node of this name.
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

    /// What sets a node apart from others: nodes of one outlook are asked for
    /// [the same](super::WantedVip::alike).
    pub fn outlook(&self, node: &Node) -> Outlook {
        Outlook::of(node, &self.terms, self.advertisements.values())
    }

    /// What a node is to announce, should it own it.
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

/// Whether that makes a difference.
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
