//! What a node should announce, and why it should not announce the rest.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
};

use super::{
    AddressRange, Advertisement, Group, Interfaces, Node, ObjectName, Outlook, Pool, Service,
    Terms, endpoints::Slices, group::Groups,
};

/// What the configuration wants from one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The node.
    pub node: String,
    /// The VIPs of the cluster.
    pub vips: BTreeMap<IpAddr, WantedVip>,
    /// Addresses that are not VIPs, by Service and in the order of its addresses.
    pub refused: Vec<Refusal>,
}

/// An address that some node of the cluster may announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedVip {
    /// The Services that have the address.
    pub services: BTreeSet<ObjectName>,
    /// The interfaces on which nodes with this node's outlook announce it, regardless of endpoints;
    /// or why none of them may own it.
    pub alike: Result<Interfaces, NotAnnounced>,
    /// The nodes with endpoints, if only these may own it.
    pub served_by: Option<BTreeSet<String>>,
    /// The preference of nodes with this outlook.
    pub preference: u32,
    /// The VIPs with which it belongs together.
    pub group: Group,
    /// The first address of the group's first Service by name, from which the order of candidates
    /// is hashed.
    pub first_ip: IpAddr,
}

/// A Service, or one of its addresses, that no node announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The Service.
    pub service: ObjectName,
    /// The address; `None` if the reason applies to the whole Service.
    pub address: Option<IpAddr>,
    /// Why, and the remedy.
    pub reason: NotAnnounced,
}

/// Why something is not announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnnounced {
    /// The Service is for another load balancer.
    #[error("{}", class_mismatch(.service.as_deref(), .ours.as_deref()))]
    ClassMismatch {
        /// The Service's class.
        service: Option<String>,
        /// The class that is served.
        ours: Option<String>,
    },
    /// The Service has no address.
    #[error(
        "the Service has no address yet: a controller assigns one; without a controller, set its \
         annotation metallb.io/loadBalancerIPs"
    )]
    NoAddress,
    /// Unspecified, loopback, multicast or broadcast.
    #[error("no host can answer for this address: give the Service a unicast address")]
    NotUnicast,
    /// No pool holds the address.
    #[error("no IPAddressPool holds this address: add it to one")]
    NoPool,
    /// No advertisement covers the pool that holds the address.
    #[error(
        "no L2Advertisement covers IPAddressPool {pool}: add one to its namespace that names the \
         pool, or one that names no pools and so covers all"
    )]
    NoAdvertisement {
        /// The pool.
        pool: ObjectName,
    },
    /// Advertisements cover the pool, but not this Service.
    #[error("{} selects Services by labels that this one does not have", list(.advertisements))]
    ServiceNotSelected {
        /// Those advertisements.
        advertisements: Vec<ObjectName>,
    },
    /// Advertisements cover the pool and the Service, but not this node.
    #[error("{} selects nodes by labels that {node} does not have", list(.advertisements))]
    NodeNotSelected {
        /// The node.
        node: String,
        /// Those advertisements.
        advertisements: Vec<ObjectName>,
    },
    /// Load balancers must not use the node.
    #[error(
        "{node} has the label node.kubernetes.io/exclude-from-external-load-balancers: remove it \
         there, or start all agents with --ignore-exclude-lb"
    )]
    NodeExcluded {
        /// The node.
        node: String,
    },
    /// The node has no network.
    #[error("the condition NetworkUnavailable of {node} is true")]
    NetworkUnavailable {
        /// The node.
        node: String,
    },
    /// The Service has no serving endpoint.
    #[error("the Service has no endpoint that is ready, or serving while it terminates")]
    NoEndpoint,
    /// The Service has no serving endpoint on this node.
    #[error(
        "externalTrafficPolicy is Local, and none of the endpoints that are ready or serving is on \
         {node}"
    )]
    NoEndpointHere {
        /// The node.
        node: String,
    },
    /// The endpoints do not name their nodes.
    #[error(
        "externalTrafficPolicy is Local, and the endpoints do not say on which node they are: set \
         nodeName in the EndpointSlices, or use externalTrafficPolicy Cluster"
    )]
    EndpointsWithoutNode,
}

/// Everything from which [`Wanted`] is derived.
pub(super) struct Configuration<'a> {
    pub(super) terms: &'a Terms,
    pub(super) services: &'a BTreeMap<ObjectName, Service>,
    pub(super) pools: Vec<&'a Pool>,
    pub(super) advertisements: Vec<&'a Advertisement>,
    pub(super) slices: &'a Slices,
    pub(super) outlook: Outlook,
    pub(super) node: &'a Node,
}

impl<'a> Configuration<'a> {
    /// The Services that are for this load balancer.
    fn own_services(&self) -> impl Iterator<Item = &'a Service> {
        let class = self.terms.class.as_ref();
        let services = self.services.values();
        services.filter(move |service| service.class.as_ref() == class)
    }
}

pub(super) fn compute(configuration: &Configuration<'_>) -> Wanted {
    let pools = AdvertisedPools::new(configuration);
    let mut groups = Groups::default();
    // For all Services, whether or not this node announces them, so that all nodes form the same
    // groups.
    for service in configuration.own_services() {
        groups.join(&service.addresses);
    }
    let mut heads = BTreeMap::new();
    for service in configuration.own_services() {
        if let Some(&first) = service.addresses.first() {
            let group = groups.group(first);
            heads
                .entry(group)
                .or_insert_with(|| (first, pools.preference(first, service, configuration)));
        }
    }
    let mut wanted = Wanted {
        node: configuration.node.name.name.clone(),
        ..Wanted::default()
    };
    for service in configuration.services.values() {
        let mut refuse = |address, reason| {
            wanted.refused.push(Refusal {
                service: service.name.clone(),
                address,
                reason,
            });
        };
        let ours = configuration.terms.class.as_deref();
        if service.class.as_deref() != ours {
            let mismatch = NotAnnounced::ClassMismatch {
                service: service.class.clone(),
                ours: ours.map(str::to_owned),
            };
            refuse(None, mismatch);
            continue;
        }
        if service.addresses.is_empty() {
            refuse(None, NotAnnounced::NoAddress);
        }
        for &address in &service.addresses {
            let advertisements = match pools.advertisements(address, service) {
                Ok(advertisements) => advertisements,
                Err(reason) => {
                    refuse(Some(address), reason);
                    continue;
                }
            };
            let group = groups.group(address);
            let (first_ip, preference) = heads[&group];
            let vip = WantedVip {
                services: BTreeSet::from([service.name.clone()]),
                alike: alike(service, &advertisements, configuration),
                served_by: served_by(service, configuration),
                preference,
                group,
                first_ip,
            };
            match wanted.vips.entry(address) {
                Entry::Vacant(free) => drop(free.insert(vip)),
                Entry::Occupied(mut held) => held.get_mut().join(vip),
            }
        }
    }
    wanted
}

impl WantedVip {
    /// Where a node of this outlook announces it, if the configuration allows it to own it.
    pub fn interfaces_on(&self, node: &str) -> Option<&Interfaces> {
        self.alike.as_ref().ok().filter(|_| self.is_served_on(node))
    }

    /// Whether its endpoints allow a node to own it.
    pub fn is_served_on(&self, node: &str) -> bool {
        let nodes = self.served_by.as_ref();
        nodes.is_none_or(|nodes| nodes.contains(node))
    }

    /// Why the configuration does not allow a node of this outlook to own it.
    pub fn refusal_on(&self, node: &str) -> Option<NotAnnounced> {
        if let Err(reason) = &self.alike {
            return Some(reason.clone());
        }
        if self.is_served_on(node) {
            return None;
        }
        Some(NotAnnounced::NoEndpointHere {
            node: node.to_owned(),
        })
    }

    /// Another Service has the same address.
    fn join(&mut self, other: Self) {
        self.services.extend(other.services);
        match (&mut self.alike, other.alike) {
            (Ok(interfaces), Ok(more)) => interfaces.add(&more),
            (Err(_), Ok(interfaces)) => self.alike = Ok(interfaces),
            (_, Err(_)) => {}
        }
        match (&mut self.served_by, other.served_by) {
            (Some(nodes), Some(more)) => nodes.retain(|node| more.contains(node)),
            (all @ None, Some(nodes)) => *all = Some(nodes),
            (_, None) => {}
        }
    }
}

/// Where nodes of this one's outlook announce a Service, wherever its endpoints are.
fn alike(
    service: &Service,
    advertisements: &[(usize, &Advertisement)],
    configuration: &Configuration<'_>,
) -> Result<Interfaces, NotAnnounced> {
    let node = configuration.node;
    let selected = match &configuration.outlook {
        Outlook::Fit(selected) => selected,
        Outlook::Unfit(unfit) => return Err(unfit.reason(node)),
    };
    if configuration.terms.needs_endpoints {
        let served = configuration.slices.served(&service.name);
        let served = served.ok_or(NotAnnounced::NoEndpoint)?;
        if service.local && served.nodes.is_empty() {
            return Err(NotAnnounced::EndpointsWithoutNode);
        }
    }
    advertisements
        .iter()
        .filter(|(index, _)| selected[*index].0)
        .map(|(_, it)| it.interfaces.clone())
        .reduce(|mut interfaces, more| {
            interfaces.add(&more);
            interfaces
        })
        .ok_or_else(|| NotAnnounced::NodeNotSelected {
            node: node.name.to_string(),
            advertisements: names(advertisements),
        })
}

/// The nodes to which endpoints bind a Service. `None` if they bind it to no node: then [`alike`]
/// says why, and a Service that shares the address is not held back.
fn served_by(service: &Service, configuration: &Configuration<'_>) -> Option<BTreeSet<String>> {
    if !service.local || !configuration.terms.needs_endpoints {
        return None;
    }
    let served = configuration.slices.served(&service.name)?;
    Some(served.nodes.clone()).filter(|nodes| !nodes.is_empty())
}

fn names(advertisements: &[(usize, &Advertisement)]) -> Vec<ObjectName> {
    let names = advertisements.iter().map(|(_, it)| it.name.clone());
    names.collect()
}

/// The pools by address, each with the advertisements that cover it and their places in the order.
struct AdvertisedPools<'a>(BTreeMap<IpAddr, (AddressRange, AdvertisedPool<'a>)>);

#[derive(Clone)]
struct AdvertisedPool<'a> {
    pool: &'a Pool,
    advertisements: Vec<(usize, &'a Advertisement)>,
}

impl<'a> AdvertisedPools<'a> {
    fn new(configuration: &Configuration<'a>) -> Self {
        let mut ranges = BTreeMap::new();
        for &pool in &configuration.pools {
            let all = configuration.advertisements.iter().copied().enumerate();
            let advertised = AdvertisedPool {
                pool,
                advertisements: all.filter(|(_, it)| it.covers(pool)).collect(),
            };
            for &range in pool.addresses() {
                ranges.insert(range.first(), (range, advertised.clone()));
            }
        }
        Self(ranges)
    }

    /// The advertisements of this address of the Service.
    fn advertisements(
        &self,
        address: IpAddr,
        service: &Service,
    ) -> Result<Vec<(usize, &'a Advertisement)>, NotAnnounced> {
        if !is_unicast(address) {
            return Err(NotAnnounced::NotUnicast);
        }
        let AdvertisedPool {
            pool,
            advertisements,
        } = self.holding(address).ok_or(NotAnnounced::NoPool)?;
        if advertisements.is_empty() {
            return Err(NotAnnounced::NoAdvertisement {
                pool: pool.name().clone(),
            });
        }
        let selecting = |(_, it): &&(usize, &Advertisement)| it.selects_service(&service.labels);
        let of_service: Vec<_> = advertisements.iter().filter(selecting).copied().collect();
        if of_service.is_empty() {
            return Err(NotAnnounced::ServiceNotSelected {
                advertisements: names(advertisements),
            });
        }
        Ok(of_service)
    }

    /// How much the node is preferred for this address of the Service, by the advertisements that
    /// select both.
    fn preference(
        &self,
        address: IpAddr,
        service: &Service,
        configuration: &Configuration<'_>,
    ) -> u32 {
        let Outlook::Fit(outlook) = &configuration.outlook else {
            return 0;
        };
        let advertisements = self.advertisements(address, service).unwrap_or_default();
        let of = |(index, _): &(usize, _)| outlook[*index];
        let selecting = advertisements
            .iter()
            .map(of)
            .filter(|(selects, _)| *selects);
        selecting.map(|(_, weight)| weight).sum()
    }

    fn holding(&self, address: IpAddr) -> Option<&AdvertisedPool<'a>> {
        let (_, (range, pool)) = self.0.range(..=address).next_back()?;
        (address <= range.last()).then_some(pool)
    }
}

fn is_unicast(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_broadcast)
}

fn class_mismatch(service: Option<&str>, ours: Option<&str>) -> String {
    match (service, ours) {
        (Some(service), Some(ours)) => {
            format!("the loadBalancerClass is {service:?}, and this speaker serves {ours:?}")
        }
        (Some(service), None) => {
            format!(
                "the loadBalancerClass is {service:?}, and this speaker serves Services without one"
            )
        }
        (None, ours) => {
            let ours = ours.unwrap_or_default();
            format!("the Service has no loadBalancerClass, and this speaker serves {ours:?}")
        }
    }
}

fn list(advertisements: &[ObjectName]) -> String {
    let names: Vec<_> = advertisements.iter().map(ToString::to_string).collect();
    format!("L2Advertisement {}", names.join(", "))
}
