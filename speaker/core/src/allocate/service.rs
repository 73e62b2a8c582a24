//! Services, with the fields that affect their addresses.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use crate::intent::{Labels, ObjectName};

/// A Service of type `LoadBalancer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its UID, which distinguishes it from earlier Services of that name.
    pub uid: String,
    /// Its `resourceVersion`.
    pub version: String,
    /// When it was created, in seconds since the Unix epoch: older Services are served first.
    pub created: i64,
    /// Whether this controller assigns its addresses. If not, no other Service gets those that it
    /// has.
    pub is_ours: bool,
    /// Its labels, for the `serviceSelectors` of pools.
    pub labels: Labels,
    /// Its families, the preferred one first; empty if not known yet.
    pub families: Vec<Family>,
    /// How many families it needs.
    pub policy: FamilyPolicy,
    /// The name of the pool that it requests.
    pub pool: Option<String>,
    /// The addresses that it requests, if any, or why the request cannot be read.
    pub requested: Result<Vec<IpAddr>, String>,
    /// Which Services it may share addresses with.
    pub sharing: Sharing,
    /// The addresses in its status.
    pub shown: Vec<IpAddr>,
    /// The pool to which they belong, by its annotation.
    pub shown_pool: Option<String>,
    /// Annotations in their old spelling, which are still valid.
    pub old_annotations: Vec<String>,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FamilyPolicy {
    /// One address, of the first family.
    #[default]
    SingleStack,
    /// One address of each family, or of one if there is no other.
    PreferDualStack,
    /// One address of each family.
    RequireDualStack,
}

/// A port of the Service's address; its text is `TCP/80`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The number.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.number)
    }
}

/// What determines whether Services may share an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// The annotation `allow-shared-ip`: only Services with the same key share. Empty: it shares
    /// with none.
    pub key: String,
    /// Where its traffic goes: Services that share must send it to the same nodes. The selector if
    /// the traffic policy is `Local`, empty if it is `Cluster`.
    pub backend: String,
    /// Its ports: Services that share an address have different ones.
    pub ports: BTreeSet<Port>,
}

impl Service {
    /// Whether everything that determines its addresses is the same.
    pub(super) fn wants_the_same(&self, other: &Self) -> bool {
        let Self {
            name,
            uid,
            version: _,
            created,
            is_ours,
            labels,
            families,
            policy,
            pool,
            requested,
            sharing,
            shown,
            shown_pool: _,
            old_annotations: _,
        } = self;
        *name == other.name
            && *uid == other.uid
            && *created == other.created
            && *is_ours == other.is_ours
            && *labels == other.labels
            && *families == other.families
            && *policy == other.policy
            && *pool == other.pool
            && *requested == other.requested
            && *sharing == other.sharing
            && *shown == other.shown
    }
}
