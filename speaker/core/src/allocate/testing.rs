//! The vocabulary of this module's tests.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Allocator, Family, FamilyPolicy, Port, Service, Sharing};
use crate::intent::{Allocation, Labels, ObjectName, Pool};

/// `namespace/name`, or a name in `default`.
pub(super) fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    ObjectName::new(namespace, name)
}

pub(super) fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace()
        .map(|it| it.parse().unwrap())
        .collect()
}

pub(super) fn labels(text: &str) -> Labels {
    let pairs = text
        .split_whitespace()
        .map(|it| it.split_once('=').unwrap());
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// An IPv4 Service without requests, on TCP/80.
pub(super) fn service(of: &str) -> Service {
    Service {
        name: name(of),
        uid: format!("uid-{of}"),
        version: "1".to_owned(),
        created: 0,
        is_ours: true,
        labels: Labels::new(),
        families: vec![Family::V4],
        policy: FamilyPolicy::SingleStack,
        pool: None,
        requested: Ok(Vec::new()),
        sharing: Sharing {
            ports: ports("TCP/80"),
            ..Sharing::default()
        },
        shown: Vec::new(),
        shown_pool: None,
        old_annotations: Vec::new(),
    }
}

pub(super) fn ports(text: &str) -> BTreeSet<Port> {
    let ports = text
        .split_whitespace()
        .map(|it| it.split_once('/').unwrap());
    let port = |(protocol, number): (&str, &str)| Port {
        protocol: protocol.to_owned(),
        number: number.parse().unwrap(),
    };
    ports.map(port).collect()
}

impl Service {
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn created(self, at: i64) -> Self {
        self.with(|it| it.created = at)
    }

    pub(super) fn asking(self, addresses: &str) -> Self {
        self.with(|it| it.requested = Ok(ips(addresses)))
    }

    pub(super) fn of_pool(self, pool: &str) -> Self {
        self.with(|it| it.pool = Some(pool.to_owned()))
    }

    pub(super) fn showing(self, addresses: &str) -> Self {
        self.with(|it| it.shown = ips(addresses))
    }

    pub(super) fn labelled(self, text: &str) -> Self {
        self.with(|it| it.labels = labels(text))
    }

    pub(super) fn sharing(self, key: &str, on: &str) -> Self {
        self.with(|it| {
            it.sharing.key = key.to_owned();
            it.sharing.ports = ports(on);
        })
    }

    pub(super) fn dual(self, policy: FamilyPolicy) -> Self {
        self.with(|it| {
            it.families = vec![Family::V4, Family::V6];
            it.policy = policy;
        })
    }
}

pub(super) fn pool(of: &str, addresses: &str) -> Pool {
    let addresses = addresses.split_whitespace().map(|it| it.parse().unwrap());
    let name = ObjectName::new("speaker-system", of);
    Pool::new(name, Labels::new(), addresses.collect()).unwrap()
}

pub(super) fn allocating(pool: Pool, change: impl FnOnce(&mut Allocation)) -> Pool {
    let mut allocation = pool.allocation().clone();
    change(&mut allocation);
    pool.with_allocation(allocation)
}

impl Allocator {
    pub(super) fn of(pools: impl IntoIterator<Item = Pool>) -> Self {
        let mut allocator = Self::default();
        pools.into_iter().for_each(|it| allocator.apply_pool(it));
        allocator
    }

    /// The outcome of a Service: `10.0.0.1 of lan`, or why it has none.
    pub(super) fn tell(&mut self, of: &str) -> String {
        self.settle();
        let Some((_, outcome)) = self.service(&name(of)) else {
            return "no such Service".to_owned();
        };
        let missing = outcome.missing.as_ref().map(ToString::to_string);
        if outcome.addresses.is_empty() {
            return missing.unwrap_or_default();
        }
        let addresses = outcome.addresses.iter().map(ToString::to_string);
        let addresses = addresses.collect::<Vec<_>>().join(" ");
        let pool = outcome.pool.as_deref().unwrap_or("no pool");
        match missing {
            Some(missing) => format!("{addresses} of {pool}; {missing}"),
            None => format!("{addresses} of {pool}"),
        }
    }

    /// Sets the status to the outcome, as if it had been written and seen.
    pub(super) fn write_all(&mut self) {
        self.settle();
        for name in self.names().cloned().collect::<Vec<_>>() {
            let (service, outcome) = self.service(&name).unwrap();
            let (shown, shown_pool) = (outcome.addresses.clone(), outcome.pool.clone());
            if service.is_ours {
                let service = Service {
                    shown,
                    shown_pool,
                    ..service.clone()
                };
                self.apply(service);
            }
        }
        self.settle();
    }
}
