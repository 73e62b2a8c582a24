//! Which Services have serving endpoints, and on which nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Endpoints, ObjectName};

/// Where a Service is served, according to all its slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Served {
    /// The nodes with a servable endpoint.
    pub(super) nodes: BTreeSet<String>,
    /// There is a servable endpoint that names no node.
    pub(super) elsewhere: bool,
}

/// What a slice changes for its Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// The nodes that serve it.
    Where,
    /// Whether it is served.
    Whether,
    /// It served another Service before.
    Both,
}

/// All slices, by Service.
#[derive(Clone, Debug, Default)]
pub(super) struct Slices {
    services: BTreeMap<ObjectName, BTreeMap<ObjectName, Endpoints>>,
    /// The Service of each slice.
    owners: BTreeMap<ObjectName, ObjectName>,
    served: BTreeMap<ObjectName, Served>,
}

impl Slices {
    /// Where a Service is served; `None` if it is not.
    pub(super) fn served(&self, service: &ObjectName) -> Option<&Served> {
        self.served.get(service)
    }

    /// Adds or changes a slice.
    pub(super) fn apply(&mut self, slice: Endpoints) -> Effect {
        // A slice should not change its Service, but nothing prevents it.
        let moved = match self.owners.get(&slice.name) {
            Some(owner) if *owner != slice.service => {
                self.delete(&slice.name.clone());
                Effect::Both
            }
            _ => Effect::None,
        };
        let service = slice.service.clone();
        self.owners.insert(slice.name.clone(), service.clone());
        let slices = self.services.entry(service.clone()).or_default();
        slices.insert(slice.name.clone(), slice);
        moved.max(self.count(&service))
    }

    /// Removes a slice.
    pub(super) fn delete(&mut self, slice: &ObjectName) -> Effect {
        let Some(service) = self.owners.remove(slice) else {
            return Effect::None;
        };
        if let Some(slices) = self.services.get_mut(&service) {
            slices.remove(slice);
            if slices.is_empty() {
                self.services.remove(&service);
            }
        }
        self.count(&service)
    }

    /// The Service of a slice.
    pub(super) fn owner(&self, slice: &ObjectName) -> Option<&ObjectName> {
        self.owners.get(slice)
    }

    fn count(&mut self, service: &ObjectName) -> Effect {
        let slices = self.services.get(service).into_iter().flatten();
        let mut served = Served::default();
        for (_, slice) in slices {
            served.nodes.extend(slice.nodes.iter().cloned());
            served.elsewhere |= slice.elsewhere;
        }
        let before = if served == Served::default() {
            self.served.remove(service)
        } else {
            self.served.insert(service.clone(), served)
        };
        match (&before, self.served.get(service)) {
            (before, now) if before.as_ref() == now => Effect::None,
            (Some(_), Some(_)) => Effect::Where,
            _ => Effect::Whether,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, service: &str, nodes: &[&str], elsewhere: bool) -> Endpoints {
        Endpoints {
            name: ObjectName::new("ns", name),
            service: ObjectName::new("ns", service),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            elsewhere,
        }
    }

    fn served(slices: &Slices, service: &str) -> String {
        let served = slices.served(&ObjectName::new("ns", service));
        served.map_or_else(
            || "nobody".to_owned(),
            |served| {
                let nodes: Vec<_> = served.nodes.iter().map(String::as_str).collect();
                let elsewhere = if served.elsewhere { " elsewhere" } else { "" };
                nodes.join(" ") + elsewhere
            },
        )
    }

    #[test]
    fn several_slices_of_a_service_are_merged() {
        let mut slices = Slices::default();
        let all = slice("a", "s", &["n1", "n2"], false);
        assert_eq!(slices.apply(all), Effect::Whether);
        assert_eq!(slices.apply(slice("b", "s", &["n2"], false)), Effect::None);
        assert_eq!(slices.apply(slice("c", "s", &[], true)), Effect::Where);
        assert_eq!(served(&slices, "s"), "n1 n2 elsewhere");
        assert_eq!(slices.delete(&ObjectName::new("ns", "a")), Effect::Where);
        assert_eq!(served(&slices, "s"), "n2 elsewhere");
        assert_eq!(slices.delete(&ObjectName::new("ns", "a")), Effect::None);
    }

    #[test]
    fn a_slice_without_servable_endpoints_counts_as_none() {
        let mut slices = Slices::default();
        assert_eq!(slices.apply(slice("a", "s", &[], false)), Effect::None);
        assert_eq!(served(&slices, "s"), "nobody");
        assert_eq!(
            slices.apply(slice("a", "s", &["n1"], false)),
            Effect::Whether
        );
        assert_eq!(slices.apply(slice("a", "s", &[], false)), Effect::Whether);
        assert_eq!(served(&slices, "s"), "nobody");
    }

    #[test]
    fn a_slice_that_changes_its_service_serves_only_the_new_one() {
        let mut slices = Slices::default();
        assert_eq!(
            slices.apply(slice("a", "s", &["n1"], false)),
            Effect::Whether
        );
        assert_eq!(slices.apply(slice("a", "t", &["n1"], false)), Effect::Both);
        assert_eq!(served(&slices, "s"), "nobody");
        assert_eq!(served(&slices, "t"), "n1");
    }
}
