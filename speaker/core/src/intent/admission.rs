//! Which of several conflicting sources of configuration are in force.
//!
//! A source is judged as a whole: an object of a cluster, or a file with several. Two sources
//! conflict if they define the same object, or pools with a common address. The rules, in order:
//!
//! 1. If all new contents are compatible, all come into force, in whatever order they arrived:
//!    addresses may move from one pool to another, and pools may swap theirs.
//! 2. Otherwise what is in force stays, and each new content that is compatible with it is
//!    admitted, oldest first: at a start that does not know what was in force, the older of two
//!    pools most likely was. The others wait, and are retried whenever something changes.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    net::IpAddr,
    sync::Arc,
};

use super::{AddressRange, Key, Kind, Object, ObjectName, Pool};

/// Something that only one source may have.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Its place in the source: a number that only the caller interprets.
    pub place: u64,
    /// The kind of the object.
    pub kind: Kind,
    /// Its name.
    pub name: &'a ObjectName,
    /// The addresses that it claims; if empty, the object itself.
    pub addresses: Option<AddressRange>,
}

impl<'a> Claim<'a> {
    /// The claims of an object.
    pub fn of(place: u64, object: &'a Object) -> impl Iterator<Item = Self> {
        let (kind, name) = (object.kind(), object.name());
        let addresses = match object {
            Object::Pool(pool) => pool.addresses(),
            Object::Service(_)
            | Object::Advertisement(_)
            | Object::Endpoints(_)
            | Object::Node(_) => &[],
        };
        let claim = move |addresses| Self {
            place,
            kind,
            name,
            addresses,
        };
        [claim(None)]
            .into_iter()
            .chain(addresses.iter().map(move |&range| claim(Some(range))))
    }

    fn key(&self) -> Key {
        Key {
            kind: self.kind,
            name: self.name.clone(),
        }
    }
}

/// The content of a source.
pub trait Claimant {
    /// All its claims.
    fn claims(&self) -> impl Iterator<Item = Claim<'_>>;

    /// When it was created, if known. Equally old content is tried in the order of its sources.
    fn created(&self) -> i64 {
        0
    }
}

impl Claimant for Pool {
    fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        self.addresses().iter().map(|&range| Claim {
            place: 0,
            kind: Kind::Pool,
            name: self.name(),
            addresses: Some(range),
        })
    }

    fn created(&self) -> i64 {
        self.created()
    }
}

/// Why the content of a source is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<S> {
    /// Its claim.
    pub claimed: Claimed,
    /// The conflicting claim.
    pub held: Claimed,
    /// The source of that claim: another, or the same one.
    pub holder: S,
}

/// A [`Claim`] that outlives the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// [`Claim::place`].
    pub place: u64,
    /// The object.
    pub key: Key,
    /// [`Claim::addresses`].
    pub addresses: Option<AddressRange>,
}

impl From<Claim<'_>> for Claimed {
    fn from(claim: Claim<'_>) -> Self {
        Self {
            place: claim.place,
            key: claim.key(),
            addresses: claim.addresses,
        }
    }
}

impl<S> fmt::Display for Conflict<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claimed, held, .. } = self;
        match (claimed.addresses, held.addresses) {
            (Some(addresses), Some(other)) => write!(
                f,
                "{}: {addresses} overlaps {other} of {}: give each address to one pool only",
                claimed.key, held.key
            ),
            _ => write!(f, "{} is defined twice: remove one", claimed.key),
        }
    }
}

/// The newest content of each source, and the content that is in force.
#[derive(Clone, Debug)]
pub struct Admission<S, T> {
    newest: BTreeMap<S, Arc<T>>,
    in_force: BTreeMap<S, Arc<T>>,
}

impl<S, T> Default for Admission<S, T> {
    fn default() -> Self {
        Self {
            newest: BTreeMap::new(),
            in_force: BTreeMap::new(),
        }
    }
}

impl<S: Clone + Debug + Ord, T: Claimant> Admission<S, T> {
    /// Takes new content, which the next [`Self::settle`] judges.
    pub fn offer(&mut self, source: S, content: T) {
        self.newest.insert(source, Arc::new(content));
    }

    /// Drops new content that was not admitted.
    pub fn retract(&mut self, source: &S) {
        match self.in_force.get(source) {
            Some(content) => self.newest.insert(source.clone(), Arc::clone(content)),
            None => self.newest.remove(source),
        };
    }

    /// Removes a source, and frees its claims.
    pub fn withdraw(&mut self, source: &S) {
        self.newest.remove(source);
        self.in_force.remove(source);
    }

    /// The content in force of each source.
    pub fn in_force(&self) -> impl Iterator<Item = (&S, &T)> {
        self.in_force
            .iter()
            .map(|(source, content)| (source, &**content))
    }

    /// Admits what can be admitted, and returns why the rest cannot.
    pub fn settle(&mut self) -> BTreeMap<S, Conflict<S>> {
        if Index::of(&self.newest).is_ok() {
            self.in_force.clone_from(&self.newest);
            return BTreeMap::new();
        }
        let (admitted, conflicts) = self.admit_one_by_one();
        for source in admitted {
            let content = Arc::clone(&self.newest[&source]);
            self.in_force.insert(source, content);
        }
        conflicts
    }

    fn admit_one_by_one(&self) -> (Vec<S>, BTreeMap<S, Conflict<S>>) {
        let mut index = Index::of(&self.in_force).expect("it was admitted together");
        let mut admitted = Vec::new();
        let mut waiting: Vec<_> = self
            .newest
            .iter()
            .filter(|&(source, content)| !self.is_in_force(source, content))
            .collect();
        waiting.sort_by_key(|(_, content)| content.created());
        loop {
            let mut conflicts = BTreeMap::new();
            let before = waiting.len();
            waiting.retain(|&(source, content)| {
                let old = self.in_force.get(source).map(|it| &**it);
                if let Some(old) = old {
                    index.remove(old);
                }
                match index.add(source, &**content) {
                    Ok(()) => {
                        admitted.push(source.clone());
                        false
                    }
                    Err(conflict) => {
                        conflicts.insert(source.clone(), *conflict);
                        if let Some(old) = old {
                            index.add(source, old).expect("it was there before");
                        }
                        true
                    }
                }
            });
            if waiting.len() == before {
                return (admitted, conflicts);
            }
        }
    }

    fn is_in_force(&self, source: &S, content: &Arc<T>) -> bool {
        self.in_force
            .get(source)
            .is_some_and(|it| Arc::ptr_eq(it, content))
    }
}

/// Which source holds which claims.
#[derive(Debug)]
struct Index<'a, S> {
    objects: BTreeMap<(Kind, &'a ObjectName), (Claim<'a>, &'a S)>,
    /// Disjoint ranges, by their first address.
    addresses: BTreeMap<IpAddr, (AddressRange, Claim<'a>, &'a S)>,
}

impl<'a, S: Clone + Debug + Ord> Index<'a, S> {
    fn of<T: Claimant>(sources: &'a BTreeMap<S, Arc<T>>) -> Result<Self, Box<Conflict<S>>> {
        let mut index = Self {
            objects: BTreeMap::new(),
            addresses: BTreeMap::new(),
        };
        for (source, content) in sources {
            index.add(source, &**content)?;
        }
        Ok(index)
    }

    /// Takes all claims of a content, or none.
    fn add<T: Claimant>(&mut self, source: &'a S, content: &'a T) -> Result<(), Box<Conflict<S>>> {
        for (count, claim) in content.claims().enumerate() {
            if let Some((held, holder)) = self.holder(&claim) {
                let conflict = Conflict {
                    claimed: claim.into(),
                    held: held.into(),
                    holder: holder.clone(),
                };
                for claim in content.claims().take(count) {
                    self.release(&claim);
                }
                return Err(Box::new(conflict));
            }
            match claim.addresses {
                Some(range) => {
                    self.addresses.insert(range.first(), (range, claim, source));
                }
                None => {
                    self.objects
                        .insert((claim.kind, claim.name), (claim, source));
                }
            }
        }
        Ok(())
    }

    fn remove<T: Claimant>(&mut self, content: &'a T) {
        for claim in content.claims() {
            self.release(&claim);
        }
    }

    fn release(&mut self, claim: &Claim<'a>) {
        match claim.addresses {
            Some(range) => {
                self.addresses.remove(&range.first());
            }
            None => {
                self.objects.remove(&(claim.kind, claim.name));
            }
        }
    }

    fn holder(&self, claim: &Claim<'a>) -> Option<(Claim<'a>, &'a S)> {
        match claim.addresses {
            // The ranges are disjoint: if any overlaps, the last one that begins no later than this
            // one ends does.
            Some(range) => self
                .addresses
                .range(..=range.last())
                .next_back()
                .filter(|(_, (held, ..))| held.overlaps(&range))
                .map(|(_, &(_, claim, source))| (claim, source)),
            None => self.objects.get(&(claim.kind, claim.name)).copied(),
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
