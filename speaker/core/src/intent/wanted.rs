//! What a node is to announce, and why not the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    AddressRange, Advertisement, Group, Interfaces, Node, ObjectName, Pool, Service, group::Groups,
};

/// What the configuration asks of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The VIPs that it may own.
    pub vips: BTreeMap<IpAddr, WantedVip>,
    /// What it may not, by Service and in the order of its addresses.
    pub refused: Vec<Refusal>,
}

/// A VIP that a node may own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedVip {
    /// The Services that it stands for.
    pub services: BTreeSet<ObjectName>,
    /// Where it is announced.
    pub interfaces: Interfaces,
    /// The VIPs that it must sit together with.
    pub group: Group,
    /// The first address of the group's first Service by name: what the order of candidates is a
    /// hash of.
    pub first_ip: IpAddr,
}

/// A Service, or one of its addresses, that a node may not announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The Service.
    pub service: ObjectName,
    /// The address; none where the reason holds for the whole Service.
    pub address: Option<IpAddr>,
    /// Why, and what to do about it.
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
    #[error("the Service has no address yet")]
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
}

/// All that decides.
pub(super) struct Configuration<'a> {
    pub(super) class: Option<&'a str>,
    pub(super) services: &'a BTreeMap<ObjectName, Service>,
    pub(super) pools: Vec<&'a Pool>,
    pub(super) advertisements: Vec<&'a Advertisement>,
    pub(super) node: &'a Node,
}

pub(super) fn compute(configuration: &Configuration<'_>) -> Wanted {
    let pools = AdvertisedPools::new(configuration);
    let mut groups = Groups::default();
    let mut wanted = Wanted::default();
    for service in configuration.services.values() {
        let mut refuse = |address, reason| {
            wanted.refused.push(Refusal {
                service: service.name.clone(),
                address,
                reason,
            });
        };
        if service.class.as_deref() != configuration.class {
            refuse(
                None,
                NotAnnounced::ClassMismatch {
                    service: service.class.clone(),
                    ours: configuration.class.map(str::to_owned),
                },
            );
            continue;
        }
        if service.addresses.is_empty() {
            refuse(None, NotAnnounced::NoAddress);
        }
        // Whether or not this node announces them, so that all nodes form the same groups.
        groups.join(&service.addresses);
        for &address in &service.addresses {
            match pools.interfaces(address, service, configuration.node) {
                Err(reason) => refuse(Some(address), reason),
                Ok(interfaces) => match wanted.vips.get_mut(&address) {
                    Some(vip) => {
                        vip.services.insert(service.name.clone());
                        vip.interfaces.add(&interfaces);
                    }
                    None => {
                        let vip = WantedVip {
                            services: BTreeSet::from([service.name.clone()]),
                            interfaces,
                            group: Group(address),
                            first_ip: address,
                        };
                        wanted.vips.insert(address, vip);
                    }
                },
            }
        }
    }
    let mut firsts = BTreeMap::new();
    for service in configuration.services.values() {
        if service.class.as_deref() == configuration.class
            && let Some(&first) = service.addresses.first()
        {
            firsts.entry(groups.group(first)).or_insert(first);
        }
    }
    for (&address, vip) in &mut wanted.vips {
        vip.group = groups.group(address);
        vip.first_ip = firsts.get(&vip.group).copied().unwrap_or(address);
    }
    wanted
}

/// The pools by address, each with the advertisements that cover it.
struct AdvertisedPools<'a>(BTreeMap<IpAddr, (AddressRange, AdvertisedPool<'a>)>);

#[derive(Clone)]
struct AdvertisedPool<'a> {
    pool: &'a Pool,
    advertisements: Vec<&'a Advertisement>,
}

impl<'a> AdvertisedPools<'a> {
    fn new(configuration: &Configuration<'a>) -> Self {
        let mut ranges = BTreeMap::new();
        for &pool in &configuration.pools {
            let covering = configuration
                .advertisements
                .iter()
                .filter(|it| it.covers(pool));
            let advertised = AdvertisedPool {
                pool,
                advertisements: covering.copied().collect(),
            };
            for &range in pool.addresses() {
                ranges.insert(range.first(), (range, advertised.clone()));
            }
        }
        Self(ranges)
    }

    /// Where the node announces this address of the Service.
    fn interfaces(
        &self,
        address: IpAddr,
        service: &Service,
        node: &Node,
    ) -> Result<Interfaces, NotAnnounced> {
        if !is_unicast(address) {
            return Err(NotAnnounced::NotUnicast);
        }
        let AdvertisedPool {
            pool,
            advertisements,
        } = self.holding(address).ok_or(NotAnnounced::NoPool)?;
        let names = |advertisements: &[&Advertisement]| {
            advertisements.iter().map(|it| it.name.clone()).collect()
        };
        if advertisements.is_empty() {
            return Err(NotAnnounced::NoAdvertisement {
                pool: pool.name().clone(),
            });
        }
        let of_service: Vec<_> = advertisements
            .iter()
            .copied()
            .filter(|it| it.selects_service(&service.labels))
            .collect();
        if of_service.is_empty() {
            return Err(NotAnnounced::ServiceNotSelected {
                advertisements: names(advertisements),
            });
        }
        of_service
            .iter()
            .filter(|it| it.selects_node(&node.labels))
            .map(|it| it.interfaces.clone())
            .reduce(|mut interfaces, more| {
                interfaces.add(&more);
                interfaces
            })
            .ok_or_else(|| NotAnnounced::NodeNotSelected {
                node: node.name.clone(),
                advertisements: names(&of_service),
            })
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
                "the loadBalancerClass is {service:?}, and this speaker serves Services without"
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
