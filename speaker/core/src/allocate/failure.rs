//! Why a Service gets no address, or may not keep one.

use std::net::IpAddr;

use super::{Family, Port};
use crate::intent::ObjectName;

/// Why, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There are no pools.
    #[error("there is no IPAddressPool: add one")]
    NoPools,
    /// The pool that the Service requests does not exist.
    #[error("there is no IPAddressPool {0:?}, which the annotation metallb.io/address-pool names")]
    UnknownPool(String),
    /// The pool is for other Services.
    #[error("IPAddressPool {0} is not for this Service: see its spec.serviceAllocation")]
    NotForService(ObjectName),
    /// All pools are for other Services, or used only on request.
    #[error(
        "no IPAddressPool is for this Service: each has autoAssign false or a serviceAllocation \
         that does not match"
    )]
    NoneForService,
    /// The pools for the Service are exhausted.
    #[error("no free {family} address in {}", list(.pools))]
    Exhausted {
        /// The requested families.
        family: FamilyWanted,
        /// The pools.
        pools: Vec<ObjectName>,
    },
    /// The families of the Service are not known yet.
    #[error("the Service has no cluster IP yet, so its IP families are unknown")]
    NoFamily,
    /// `RequireDualStack` with one family.
    #[error(
        "ipFamilyPolicy is RequireDualStack, but the Service has cluster IPs of only one family"
    )]
    OneFamily,
    /// The address is not in a family of the Service.
    #[error("{0} is not in an IP family of the Service")]
    WrongFamily(IpAddr),
    /// Fewer or more addresses than the policy requires.
    #[error("ipFamilyPolicy requires {0}")]
    WrongCount(&'static str),
    /// The request of the Service cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The Service requests addresses other than those it has.
    #[error("the Service requests {} instead of {}", addresses(.requested), addresses(.had))]
    NotRequested {
        /// The requested addresses.
        requested: Vec<IpAddr>,
        /// The assigned addresses.
        had: Vec<IpAddr>,
    },
    /// The Service requests another pool.
    #[error("{address} is in IPAddressPool {pool}, but the Service requests {wanted}")]
    OtherPool {
        /// The address.
        address: IpAddr,
        /// Its pool.
        pool: ObjectName,
        /// The requested pool.
        wanted: String,
    },
    /// No pool holds the address.
    #[error("no IPAddressPool holds {0}: add it to one")]
    NoPool(IpAddr),
    /// The two addresses of a Service are in different pools.
    #[error("{0} and {1} are in different IPAddressPools: request both from one")]
    TwoPools(IpAddr, IpAddr),
    /// The pool does not assign such addresses.
    #[error("IPAddressPool {pool} has avoidBuggyIPs, so it does not assign {address}")]
    Avoided {
        /// The address.
        address: IpAddr,
        /// Its pool.
        pool: ObjectName,
    },
    /// Another Service has it.
    #[error("{address} is in use by Service {by}: {why}")]
    InUse {
        /// The address.
        address: IpAddr,
        /// The Service that has it.
        by: ObjectName,
        /// Why it cannot be shared.
        why: Taken,
    },
}

/// The requested families, in [`Failure::Exhausted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyWanted {
    /// An address of this family.
    One(Family),
    /// An address of either family.
    Any,
    /// An address of each family, from one pool.
    Both,
}

impl std::fmt::Display for FamilyWanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(family) => family.fmt(f),
            Self::Any => f.write_str("IPv4 or IPv6"),
            Self::Both => f.write_str("pair of an IPv4 and an IPv6"),
        }
    }
}

/// Why two Services cannot share an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// Another load balancer assigned it.
    #[error("another load balancer assigned it that address")]
    Foreign,
    /// At least one of them has no sharing key.
    #[error("both need the same annotation metallb.io/allow-shared-ip to share it")]
    NoKey,
    /// They have different keys.
    #[error("its metallb.io/allow-shared-ip has a different value")]
    OtherKey,
    /// Their traffic goes to different nodes.
    #[error(
        "to share it, both need externalTrafficPolicy Cluster, or Local with the same selector"
    )]
    OtherBackend,
    /// A port of both.
    #[error("both use port {0}")]
    Port(Port),
}

fn addresses(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}

fn list(pools: &[ObjectName]) -> String {
    let names: Vec<_> = pools.iter().map(|it| it.name.as_str()).collect();
    match names.as_slice() {
        [one] => format!("IPAddressPool {one}"),
        many => format!("IPAddressPools {}", many.join(", ")),
    }
}
