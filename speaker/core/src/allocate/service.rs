//! Services, as far as giving them addresses is concerned.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use crate::intent::{Labels, ObjectName};

/// A Service of type `LoadBalancer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// What tells it from another of the same name.
    pub uid: String,
    /// Its `resourceVersion`.
    pub version: String,
    /// When it was created, in seconds since the epoch: who came first is served first.
    pub created: i64,
    /// Whether it is given addresses by this controller. If it is not, those that it has are
    /// nobody else's.
    pub is_ours: bool,
    /// Its labels, for the `serviceSelectors` of pools.
    pub labels: Labels,
    /// Its families, the preferred one first; none where they are not known yet.
    pub families: Vec<Family>,
    /// How many of them it needs.
    pub policy: FamilyPolicy,
    /// The pool that it asks for, by name.
    pub pool: Option<String>,
    /// The addresses that it asks for, if any, or why they cannot be read.
    pub requested: Result<Vec<IpAddr>, String>,
    /// Whom it may share addresses with.
    pub sharing: Sharing,
    /// The addresses in its status.
    pub shown: Vec<IpAddr>,
    /// The pool that they are said to be from.
    pub shown_pool: Option<String>,
    /// Annotations in their old spelling, which still count.
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
    /// That of the address.
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
    /// One of each family, or of one while there is no other.
    PreferDualStack,
    /// One of each family.
    RequireDualStack,
}

/// A port that is reached at the Service's address; its text is `TCP/80`.
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

/// What decides with whom a Service may share an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// The annotation `allow-shared-ip`: only Services of the same key share. Empty: with nobody.
    pub key: String,
    /// Where its traffic goes: Services that share send it to the same nodes. Empty where the
    /// traffic policy is `Cluster`, the selector where it is `Local`.
    pub backend: String,
    /// Its ports, no two of which may meet on one address.
    pub ports: BTreeSet<Port>,
}

impl Service {
    /// Whether what decides about its addresses is the same; status and version are not.
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
