//! The index.

use std::collections::BTreeMap;

use super::{
    Advertisement, Key, Kind, Labels, Node, Object, ObjectName, Pool, Service, Wanted,
    admission::{Admission, Conflict},
    wanted,
};

/// All objects that count, and what follows from them.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    class: Option<String>,
    services: BTreeMap<ObjectName, Service>,
    pools: Admission<ObjectName, Pool>,
    conflicts: BTreeMap<ObjectName, Conflict<ObjectName>>,
    advertisements: BTreeMap<ObjectName, Advertisement>,
}

impl Intent {
    /// An empty index, for the Services of this `loadBalancerClass`; without one, for those that
    /// have none.
    pub fn new(class: Option<String>) -> Self {
        Self {
            class,
            ..Self::default()
        }
    }

    /// An object is new or has changed.
    pub fn apply(&mut self, object: Object) {
        match object {
            Object::Service(service) => {
                self.services.insert(service.name.clone(), service);
            }
            Object::Pool(pool) => {
                self.pools.offer(pool.name().clone(), pool);
                self.conflicts = self.pools.settle();
            }
            Object::Advertisement(advertisement) => {
                let name = advertisement.name.clone();
                self.advertisements.insert(name, advertisement);
            }
        }
    }

    /// An object is gone, or no longer of a kind that counts.
    pub fn delete(&mut self, key: &Key) {
        match key.kind {
            Kind::Service => {
                self.services.remove(&key.name);
            }
            Kind::Pool => {
                self.pools.withdraw(&key.name);
                self.conflicts = self.pools.settle();
            }
            Kind::Advertisement => {
                self.advertisements.remove(&key.name);
            }
        }
    }

    /// The pools whose newest version is not in force because it holds addresses of another. The
    /// last valid version of each stays, and the conflict may be gone after the next change.
    pub const fn conflicts(&self) -> &BTreeMap<ObjectName, Conflict<ObjectName>> {
        &self.conflicts
    }

    /// Which advertisements concern a node with these labels, in their order: nodes that are alike
    /// in this are asked for the same VIPs.
    pub fn selection(&self, labels: &Labels) -> Vec<bool> {
        let advertisements = self.advertisements.values();
        advertisements.map(|it| it.selects_node(labels)).collect()
    }

    /// What this node is to announce, should it own it.
    pub fn wanted(&self, node: &Node) -> Wanted {
        wanted::compute(&wanted::Configuration {
            class: self.class.as_deref(),
            services: &self.services,
            pools: self.pools.in_force().map(|(_, pool)| pool).collect(),
            advertisements: self.advertisements.values().collect(),
            node,
        })
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
