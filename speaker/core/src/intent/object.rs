//! The objects that the index holds.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use super::{Advertisement, Pool};

/// Labels of an object, by key.
pub type Labels = BTreeMap<String, String>;

/// The name of a namespaced object; its text is `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The namespace.
    pub namespace: String,
    /// The name within it.
    pub name: String,
}

impl ObjectName {
    /// The object `name` of `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The kinds of object that count; the text is the Kubernetes kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A Service of type `LoadBalancer`.
    Service,
    /// `IPAddressPool` of metallb.io.
    Pool,
    /// `L2Advertisement` of metallb.io.
    Advertisement,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::Pool => "IPAddressPool",
            Self::Advertisement => "L2Advertisement",
        })
    }
}

/// What identifies an object; its text is `Kind namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: ObjectName,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A valid object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service of type `LoadBalancer`.
    Service(Service),
    /// A pool of addresses.
    Pool(Pool),
    /// Where the addresses of pools are announced.
    Advertisement(Advertisement),
}

impl Object {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::Pool(_) => Kind::Pool,
            Self::Advertisement(_) => Kind::Advertisement,
        }
    }

    /// Its name.
    pub const fn name(&self) -> &ObjectName {
        match self {
            Self::Service(service) => &service.name,
            Self::Pool(pool) => pool.name(),
            Self::Advertisement(advertisement) => &advertisement.name,
        }
    }

    /// What identifies it.
    pub fn key(&self) -> Key {
        Key {
            kind: self.kind(),
            name: self.name().clone(),
        }
    }
}

/// A Service of type `LoadBalancer`, as far as announcing it is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its labels, for the `serviceSelectors` of advertisements.
    pub labels: Labels,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// The addresses that it is to be reached by, without repetition, in the order of the object.
    pub addresses: Vec<IpAddr>,
}

/// A node that may announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels, for the `nodeSelectors` of advertisements.
    pub labels: Labels,
}

impl Node {
    /// A node that no API server describes: its one label is the one that every node of a cluster
    /// has, `kubernetes.io/hostname`.
    pub fn standalone(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            labels: Labels::from([("kubernetes.io/hostname".to_owned(), name.clone())]),
            name,
        }
    }
}
