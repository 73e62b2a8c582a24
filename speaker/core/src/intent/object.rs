//! The objects that the index holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::{Advertisement, Pool};

/// Labels of an object, by key.
pub type Labels = BTreeMap<String, String>;

/// The name of an object; its text is `namespace/name`, or `name` without a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// The namespace; empty for cluster-scoped objects.
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
        let Self { namespace, name } = self;
        if namespace.is_empty() {
            return f.write_str(name);
        }
        write!(f, "{namespace}/{name}")
    }
}

/// The kinds of objects in the index; the text is the Kubernetes kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A Service of type `LoadBalancer`.
    Service,
    /// `IPAddressPool` of metallb.io.
    Pool,
    /// `L2Advertisement` of metallb.io.
    Advertisement,
    /// `EndpointSlice` of discovery.k8s.io.
    Endpoints,
    /// A node.
    Node,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::Pool => "IPAddressPool",
            Self::Advertisement => "L2Advertisement",
            Self::Endpoints => "EndpointSlice",
            Self::Node => "Node",
        })
    }
}

/// Identifies an object; its text is `Kind namespace/name`.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    /// A Service of type `LoadBalancer`.
    Service(Service),
    /// A pool of addresses.
    Pool(Pool),
    /// Where the addresses of pools are announced.
    Advertisement(Advertisement),
    /// Some of the endpoints of a Service.
    Endpoints(Endpoints),
    /// A node.
    Node(Node),
}

impl Object {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::Pool(_) => Kind::Pool,
            Self::Advertisement(_) => Kind::Advertisement,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Node(_) => Kind::Node,
        }
    }

    /// Its name.
    pub const fn name(&self) -> &ObjectName {
        match self {
            Self::Service(service) => &service.name,
            Self::Pool(pool) => pool.name(),
            Self::Advertisement(advertisement) => &advertisement.name,
            Self::Endpoints(endpoints) => &endpoints.name,
            Self::Node(node) => &node.name,
        }
    }

    /// Its key in the index.
    pub fn key(&self) -> Key {
        Key {
            kind: self.kind(),
            name: self.name().clone(),
        }
    }
}

/// The relevant fields of a Service of type `LoadBalancer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its uid, if an API server told it: events refer to it.
    pub uid: Option<String>,
    /// Its labels, for the `serviceSelectors` of advertisements.
    pub labels: Labels,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// `spec.externalTrafficPolicy` is `Local`: only nodes with an endpoint may answer.
    pub local: bool,
    /// Its addresses, without duplicates, in the order of the object.
    pub addresses: Vec<IpAddr>,
}

/// The relevant fields of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Its name.
    pub name: ObjectName,
    /// The Service whose endpoints they are.
    pub service: ObjectName,
    /// The nodes with a servable endpoint: one that is ready, or that is serving while it
    /// terminates.
    pub nodes: BTreeSet<String>,
    /// There is a servable endpoint that names no node.
    pub elsewhere: bool,
}

impl Endpoints {
    /// Whether there is a servable endpoint.
    pub fn is_servable(&self) -> bool {
        self.elsewhere || !self.nodes.is_empty()
    }
}

/// A node that may announce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: ObjectName,
    /// Its uid, if an API server told it: objects that it owns refer to it.
    pub uid: Option<String>,
    /// Its labels, for the `nodeSelectors` of advertisements.
    pub labels: Labels,
    /// Its condition `NetworkUnavailable` is true.
    pub network_unavailable: bool,
}

impl Node {
    /// A node without an API server. Its only label is `kubernetes.io/hostname`, which every node
    /// of a cluster has.
    pub fn standalone(name: &str) -> Self {
        Self {
            name: ObjectName::new("", name),
            uid: None,
            labels: Labels::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]),
            network_unavailable: false,
        }
    }
}
