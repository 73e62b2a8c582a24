//! What the watches have told so far, and what of it the agent has not heard.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
};

use speaker_core::intent::{Key, Object, ObjectName};

use crate::source::Change;

/// What is watched. All of them have to be listed before anything counts.
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

/// Something that a watch tells.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) of: Resource,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// Everything is listed from the start: what is not is gone.
    ListBegins,
    ListEnds,
    /// An object is there.
    There(ObjectName, Item),
    /// An object is gone.
    Gone(ObjectName),
}

/// What an object comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Something that counts.
    Valid(Valid),
    /// Nothing that counts.
    Nothing,
    /// It cannot be, for this reason. Its last valid version stays.
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

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Objects {
    listed: BTreeSet<Resource>,
    /// What a list that has begun has named so far.
    listing: BTreeMap<Resource, BTreeSet<ObjectName>>,
    known: BTreeMap<(Resource, ObjectName), Valid>,
    refused: BTreeMap<(Resource, ObjectName), String>,
    /// What stands in for the API server is to be told, though nothing is listed.
    standing_in: bool,
    /// What the agent has been told of, and what of that is other now.
    told: BTreeSet<Key>,
    changed: BTreeSet<(Resource, ObjectName)>,
    told_refused: Option<Vec<String>>,
    told_peers: Option<BTreeSet<IpAddr>>,
}

impl Objects {
    /// Takes note. What is refused now and was not before, for the log.
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
                let is_news = refused.as_ref() != Some(&reason);
                self.refused.insert(key, reason.clone());
                return is_news.then_some(reason);
            }
            Item::Nothing => self.forget(key.0, key.1),
            Item::Valid(it) if self.known.get(&key) == Some(&it) => {}
            Item::Valid(it) => {
                self.known.insert(key.clone(), it);
                self.changed.insert(key);
            }
        }
        None
    }

    fn forget(&mut self, of: Resource, name: ObjectName) {
        let key = (of, name);
        if self.known.remove(&key).is_some() {
            self.changed.insert(key);
        }
    }

    /// What was known last stands in for what the API server has not told.
    pub(super) fn stand_in(&mut self, objects: Vec<Object>, peers: BTreeSet<IpAddr>) {
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
        let known: Vec<_> = objects
            .chain(peers)
            .filter(|((of, _), _)| !self.listed.contains(of))
            .collect();
        for (key, item) in known {
            self.known.entry(key.clone()).or_insert(item);
            self.changed.insert(key);
        }
        self.standing_in = true;
    }

    /// Whether everything has been listed.
    pub(super) fn is_synced(&self) -> bool {
        Resource::ALL.iter().all(|it| self.listed.contains(it))
    }

    /// Whether there is something to tell.
    pub(super) fn has_change(&self) -> bool {
        let tells = self.is_synced() || self.standing_in;
        let first = self.told_refused.is_none();
        tells && (first || !self.changed.is_empty() || self.has_other_refusals())
    }

    fn has_other_refusals(&self) -> bool {
        let told = self.told_refused.iter().flatten();
        !told.eq(self.refused.values())
    }

    /// What has become different since this was last asked.
    pub(super) fn take_change(&mut self) -> Change {
        let mut change = Change {
            refused: self.refused.values().cloned().collect(),
            ..Change::default()
        };
        for key in mem::take(&mut self.changed) {
            match self.known.get(&key) {
                Some(Valid::Object(object)) => {
                    self.told.insert(object.key());
                    change.apply.push(object.clone());
                }
                Some(Valid::Agent(_)) => {}
                None => change.delete.extend(self.told_key(key)),
            }
        }
        for key in &change.delete {
            self.told.remove(key);
        }
        let peers = self.peers();
        if self.told_peers.as_ref() != Some(&peers) {
            self.told_peers = Some(peers.clone());
            change.peers = Some(peers);
        }
        self.told_refused = Some(change.refused.clone());
        change
    }

    fn told_key(&self, (of, name): (Resource, ObjectName)) -> Option<Key> {
        use speaker_core::intent::Kind;
        let kind = match of {
            Resource::Services => Kind::Service,
            Resource::Endpoints => Kind::Endpoints,
            Resource::Nodes => Kind::Node,
            Resource::Pools => Kind::Pool,
            Resource::Advertisements => Kind::Advertisement,
            Resource::Agents => return None,
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

    /// All that is known, to be kept.
    pub(super) fn known(&self) -> (Vec<Object>, BTreeSet<IpAddr>) {
        let objects = self.known.values().filter_map(|item| match item {
            Valid::Object(object) => Some(object.clone()),
            Valid::Agent(_) => None,
        });
        (objects.collect(), self.peers())
    }
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
