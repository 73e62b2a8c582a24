//! What the watches have reported, and which of it the agent does not know yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
};

use speaker_core::intent::{Key, Kind, Object, ObjectName, Pool, admission::Admission};

use crate::source::Change;

/// What is watched. Everything must be listed before anything counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    Services,
    Endpoints,
    Nodes,
    Pools,
    Advertisements,
    /// The agents' pods.
    Agents,
}

impl Resource {
    pub(super) const ALL: [Self; 6] = [
        Self::Services,
        Self::Endpoints,
        Self::Nodes,
        Self::Pools,
        Self::Advertisements,
        Self::Agents,
    ];
}

/// Something that a watch reports.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) of: Resource,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A new list begins. Objects that it does not have are gone.
    ListBegins,
    ListEnds,
    /// An object exists.
    There(ObjectName, Item),
    /// An object is gone.
    Gone(ObjectName),
}

/// The meaning of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Something that counts.
    Valid(Valid),
    /// Nothing that counts.
    Nothing,
    /// It is invalid, for this reason. Its last valid version stays.
    Invalid(String),
}

/// What counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Valid {
    /// An object of the configuration.
    Object(Object),
    /// An agent at this address.
    Agent(IpAddr),
}

/// The objects of the cluster as listed and watched, and what the agent knows of them.
#[derive(Debug, Default)]
pub(super) struct Objects {
    listed: BTreeSet<Resource>,
    /// The names in lists that have begun.
    listing: BTreeMap<Resource, BTreeSet<ObjectName>>,
    known: BTreeMap<(Resource, ObjectName), Valid>,
    refused: BTreeMap<(Resource, ObjectName), String>,
    /// What was in force when the agent last ran, of kinds that have not been listed yet.
    recalled: BTreeMap<(Resource, ObjectName), Valid>,
    /// What is recalled counts, although not everything has been listed.
    standing_in: bool,
    /// Which pools are in force: of two that overlap, the one in force before, or else the older
    /// one.
    pools: Admission<ObjectName, Pool>,
    told_pools: BTreeMap<ObjectName, Pool>,
    /// What the agent knows, and what has changed since.
    told: BTreeSet<Key>,
    changed: BTreeSet<(Resource, ObjectName)>,
    told_refused: Option<BTreeMap<(Resource, ObjectName), String>>,
    told_peers: Option<BTreeSet<IpAddr>>,
}

impl Objects {
    /// Handles news. Returns a new refusal, for the log.
    pub(super) fn hear(&mut self, News { of, what }: News) -> Option<String> {
        match what {
            What::ListBegins => drop(self.listing.insert(of, BTreeSet::new())),
            What::ListEnds => {
                let named = self.listing.remove(&of).unwrap_or_default();
                let first = (of, ObjectName::new("", ""));
                let all = self.known.range(first..).map(|(key, _)| key);
                let unnamed =
                    |(kind, name): &&(Resource, ObjectName)| *kind == of && !named.contains(name);
                let gone: Vec<_> = all
                    .take_while(|(kind, _)| *kind == of)
                    .filter(unnamed)
                    .cloned()
                    .collect();
                for (_, name) in gone {
                    self.forget(of, name);
                }
                self.refused
                    .retain(|(kind, name), _| *kind != of || named.contains(name));
                for ((_, name), _) in self.recalled.extract_if(.., |(kind, _), _| *kind == of) {
                    if of == Resource::Pools && !named.contains(&name) {
                        self.pools.withdraw(&name);
                    }
                }
                self.listed.insert(of);
            }
            What::There(name, item) => {
                if let Some(named) = self.listing.get_mut(&of) {
                    named.insert(name.clone());
                }
                return self.learn(of, name, item);
            }
            What::Gone(name) => {
                self.refused.remove(&(of, name.clone()));
                self.forget(of, name);
            }
        }
        None
    }

    fn learn(&mut self, of: Resource, name: ObjectName, item: Item) -> Option<String> {
        let key = (of, name);
        let refused = self.refused.remove(&key);
        match item {
            Item::Invalid(reason) => {
                if !self.known.contains_key(&key)
                    && let Some(last) = self.recalled.get(&key).cloned()
                {
                    self.know(key.clone(), last);
                }
                let is_news = refused.as_ref() != Some(&reason);
                self.refused.insert(key, reason.clone());
                return is_news.then_some(reason);
            }
            Item::Nothing => self.forget(key.0, key.1),
            Item::Valid(it) if self.known.get(&key) == Some(&it) => {}
            Item::Valid(it) => self.know(key, it),
        }
        None
    }

    fn know(&mut self, key: (Resource, ObjectName), it: Valid) {
        if let Valid::Object(Object::Pool(pool)) = &it {
            self.pools.offer(key.1.clone(), pool.clone());
        }
        self.known.insert(key.clone(), it);
        self.changed.insert(key);
    }

    fn forget(&mut self, of: Resource, name: ObjectName) {
        if of == Resource::Pools {
            self.pools.withdraw(&name);
        }
        let key = (of, name);
        if self.known.remove(&key).is_some() {
            self.changed.insert(key);
        }
    }

    /// Sets what was in force when the agent last ran. It counts in place of objects that are
    /// refused now, decides between overlapping pools, and [stands in](Self::stand_in) for an API
    /// server that is away.
    pub(super) fn recall(&mut self, objects: Vec<Object>, peers: BTreeSet<IpAddr>) {
        let objects = objects.into_iter().map(|object| {
            let of = match object {
                Object::Service(_) => Resource::Services,
                Object::Endpoints(_) => Resource::Endpoints,
                Object::Node(_) => Resource::Nodes,
                Object::Pool(_) => Resource::Pools,
                Object::Advertisement(_) => Resource::Advertisements,
            };
            ((of, object.name().clone()), Valid::Object(object))
        });
        let peers = peers.into_iter().map(|peer| {
            let name = ObjectName::new("", peer.to_string());
            ((Resource::Agents, name), Valid::Agent(peer))
        });
        self.recalled = objects.chain(peers).collect();
        for it in self.recalled.values() {
            if let Valid::Object(Object::Pool(pool)) = it {
                self.pools.offer(pool.name().clone(), pool.clone());
            }
        }
        // Settled before any other pool is offered, so that these are in force.
        self.pools.settle();
    }

    /// Lets the recalled objects stand in for what the API server has not reported.
    pub(super) fn stand_in(&mut self) {
        for (key, it) in self.recalled.clone() {
            if !self.known.contains_key(&key) {
                self.know(key, it);
            }
        }
        self.standing_in = true;
    }

    /// Whether everything has been listed.
    pub(super) fn is_synced(&self) -> bool {
        Resource::ALL.iter().all(|it| self.listed.contains(it))
    }

    /// Whether there is something to report.
    pub(super) fn has_change(&self) -> bool {
        let tells = self.is_synced() || self.standing_in;
        let first = self.told_refused.is_none();
        tells && (first || !self.changed.is_empty() || self.has_other_refusals())
    }

    fn has_other_refusals(&self) -> bool {
        self.told_refused.as_ref() != Some(&self.refused)
    }

    /// What has changed since the last call.
    pub(super) fn take_change(&mut self) -> Change {
        let mut change = Change::default();
        for key in mem::take(&mut self.changed) {
            match self.known.get(&key) {
                Some(Valid::Object(Object::Pool(_)) | Valid::Agent(_)) => {}
                Some(Valid::Object(object)) => {
                    self.told.insert(object.key());
                    change.apply.push(object.clone());
                }
                None => change.delete.extend(self.told_key(key)),
            }
        }
        for key in &change.delete {
            self.told.remove(key);
        }
        let conflicts = self.settle_pools(&mut change);
        let peers = self.peers();
        if self.told_peers.as_ref() != Some(&peers) {
            self.told_peers = Some(peers.clone());
            change.peers = Some(peers);
        }
        let refused = self.refused.values().cloned();
        change.refused = refused.chain(conflicts).collect();
        self.told_refused = Some(self.refused.clone());
        change
    }

    /// Updates which pools are in force. Returns why the others are not.
    fn settle_pools(&mut self, change: &mut Change) -> Vec<String> {
        let conflicts = self.pools.settle();
        let in_force: BTreeMap<_, _> = self
            .pools
            .in_force()
            .map(|(name, pool)| (name.clone(), pool.clone()))
            .collect();
        let told = mem::replace(&mut self.told_pools, in_force);
        let gone = told.keys().filter(|it| !self.told_pools.contains_key(*it));
        change.delete.extend(gone.cloned().map(|name| Key {
            kind: Kind::Pool,
            name,
        }));
        let others = self.told_pools.iter();
        let others = others.filter(|(name, pool)| told.get(*name) != Some(*pool));
        change
            .apply
            .extend(others.map(|(_, pool)| Object::Pool(pool.clone())));
        conflicts.values().map(ToString::to_string).collect()
    }

    fn told_key(&self, (of, name): (Resource, ObjectName)) -> Option<Key> {
        let kind = match of {
            Resource::Services => Kind::Service,
            Resource::Endpoints => Kind::Endpoints,
            Resource::Nodes => Kind::Node,
            Resource::Advertisements => Kind::Advertisement,
            Resource::Pools | Resource::Agents => return None,
        };
        self.told.get(&Key { kind, name }).cloned()
    }

    fn peers(&self) -> BTreeSet<IpAddr> {
        let items = self.known.values();
        items
            .filter_map(|item| match item {
                Valid::Agent(address) => Some(*address),
                Valid::Object(_) => None,
            })
            .collect()
    }

    /// Everything in force, to be stored.
    pub(super) fn in_force(&self) -> (Vec<Object>, BTreeSet<IpAddr>) {
        let others = self.known.values().filter_map(|item| match item {
            Valid::Object(Object::Pool(_)) | Valid::Agent(_) => None,
            Valid::Object(object) => Some(object.clone()),
        });
        let pools = self.told_pools.values().cloned().map(Object::Pool);
        (others.chain(pools).collect(), self.peers())
    }
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
