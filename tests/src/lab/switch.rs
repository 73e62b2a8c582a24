//! The switch: one bridge per LAN, in its own namespace, and the cables to it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};
use nix::{libc, net::if_::if_nametoindex};
use rtnetlink::{
    LinkBridge, LinkMessageBuilder, LinkUnspec,
    packet_route::link::{BridgeStpState, InfoData, InfoKind, InfoVeth},
};

use super::{
    Missing,
    namespace::{Namespace, wait_for_file},
    netlink,
    port::Port,
};

/// Bridges that learn, and forward from the start: no spanning tree, no delay, and no snooping
/// unless requested. The switch itself is silent: it has no addresses, and no IPv6.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) namespace: Namespace,
    snoops: AtomicBool,
    /// How many interfaces have been plugged into each LAN.
    lans: Mutex<BTreeMap<u8, u8>>,
}

/// An interface of a host, plugged into a LAN of the switch. Dropping it pulls the plug out.
#[derive(Debug)]
pub struct Link {
    /// Its name in the host.
    pub name: String,
    /// 02:00:00:00:LAN:N, where N counts the interfaces in that LAN from 1.
    pub mac: [u8; 6],
    /// 10.0.LAN.N, in a /24.
    pub ipv4: Ipv4Addr,
    /// fd00:0:0:LAN::N, in a /64.
    pub ipv6: Ipv6Addr,
    /// In fe80::/64, with the interface identifier made from the MAC (RFC 4291, appendix A).
    pub link_local: Ipv6Addr,
    /// The other end of the cable.
    pub port: Port,
}

impl Switch {
    pub(super) fn new() -> Result<Self> {
        let namespace = Namespace::new("switch")?;
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        for tables in ["iptables", "ip6tables", "arptables"] {
            // The setting exists only if the kernel can filter on bridges.
            let _ = namespace.sysctl(&format!("net.bridge.bridge-nf-call-{tables}"), "0");
        }
        Ok(Self {
            namespace,
            snoops: AtomicBool::new(false),
            lans: Mutex::default(),
        })
    }

    /// Enables snooping in LANs created from now on.
    pub(super) fn snoop(&self) {
        self.snoops.store(true, Ordering::Relaxed);
    }

    /// Gives a host an interface with addresses, up and plugged into a LAN.
    pub(super) fn plug(self: &Arc<Self>, host: &Namespace, name: &str, lan: u8) -> Result<Link> {
        let number = self.next_in(lan)?;
        let mac = [2, 0, 0, 0, lan, number];
        let ipv4 = Ipv4Addr::new(10, 0, lan, number);
        let ipv6 = Ipv6Addr::new(0xfd00, 0, 0, lan.into(), 0, 0, 0, number.into());
        let port = format!("lan{lan}port{number}");
        host.run(|| -> Result<()> {
            self.add_cable(name, mac, &port)?;
            let index = if_nametoindex(name)?;
            netlink::add_address(index, IpAddr::V4(ipv4), 24)?;
            netlink::add_address(index, IpAddr::V6(ipv6), 64)?;
            Ok(())
        })
        .with_context(|| format!("making {name}"))?;
        let port = Port::new(Arc::clone(self), port, lan)
            .with_context(|| format!("plugging {name} into the switch"))?;
        let link_local = link_local(mac);
        host.run(|| wait_until_usable(name, link_local))?;
        Ok(Link {
            name: name.to_owned(),
            mac,
            ipv4,
            ipv6,
            link_local,
            port,
        })
    }

    /// Whether the kernel knows this kind of device.
    pub(super) fn knows(&self, kind: &str) -> bool {
        let probe = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind.into())
            .name("probe")
            .build();
        self.namespace.run(|| match netlink::add_link(probe) {
            Ok(()) => {
                let probe = LinkUnspec::new_with_name("probe").build();
                netlink::delete_link(probe).is_ok()
            }
            // Any other error comes from a kind that exists but lacks a parent, a peer, …
            Err(error) => error.raw_os_error() != Some(libc::EOPNOTSUPP),
        })
    }

    /// The number of the next interface in a LAN, which is created with its first.
    fn next_in(&self, lan: u8) -> Result<u8> {
        self.make_lan(lan)?;
        let mut lans = self.lans.lock().unwrap_or_else(PoisonError::into_inner);
        let number = lans.entry(lan).or_default();
        *number = number
            .checked_add(1)
            .with_context(|| format!("LAN {lan} is full: it has 255 interfaces"))?;
        Ok(*number)
    }

    /// Creates a LAN, if there is none with that number.
    pub(super) fn make_lan(&self, lan: u8) -> Result<()> {
        let mut lans = self.lans.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Vacant(vacant) = lans.entry(lan) else {
            return Ok(());
        };
        let name = bridge(lan);
        let bridge = LinkBridge::new(&name)
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0);
        let snoops = self.snoops.load(Ordering::Relaxed);
        let bridge = match snoops {
            true => with_short_memory(bridge.mcast_snooping(true)),
            false => bridge.mcast_snooping(false),
        };
        self.namespace
            .run(|| netlink::add_link(bridge.up().build()))
            .map_err(|error| missing("bridge", error))?;
        if snoops {
            self.ask_for_members(&name)?;
        }
        vacant.insert(0);
        Ok(())
    }

    /// Makes a bridge query group members: from an address, and only after its intervals are set,
    /// since it floods everything until the first interval is over.
    fn ask_for_members(&self, bridge: &str) -> Result<()> {
        for (setting, value) in [("accept_dad", "0"), ("disable_ipv6", "0")] {
            let setting = format!("net.ipv6.conf.{bridge}.{setting}");
            self.namespace.sysctl(&setting, value)?;
        }
        let querier = format!("/sys/class/net/{bridge}/bridge/multicast_querier");
        self.namespace
            .run(|| fs::write(&querier, "1"))
            .with_context(|| format!("writing {querier}"))
    }

    /// Makes a pair of interfaces: one here, in the calling thread's network namespace, and the
    /// port in the switch.
    fn add_cable(&self, name: &str, mac: [u8; 6], port: &str) -> Result<()> {
        let port = LinkMessageBuilder::<LinkUnspec>::new()
            .name(port)
            .setns_by_fd(self.namespace.as_fd().as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(port)))
            .name(name)
            .address(mac.to_vec())
            .up()
            .build();
        netlink::add_link(pair).map_err(|error| missing("veth", error))
    }
}

/// Waits for what the kernel does asynchronously after an interface has gained carrier.
fn wait_until_usable(interface: &str, link_local: Ipv6Addr) -> Result<()> {
    netlink::wait_until_up(interface)?;
    let bits = format!("{:032x}", link_local.to_bits());
    wait_for_file("/proc/thread-self/net/if_inet6", |addresses| {
        addresses.contains(&bits)
    })
}

/// Queries group members every second, and forgets those that have not reported for three.
fn with_short_memory(bridge: LinkMessageBuilder<LinkBridge>) -> LinkMessageBuilder<LinkBridge> {
    /// The kernel counts hundredths of a second.
    const SECOND: u64 = 100;
    bridge
        .mcast_startup_query_interval(SECOND)
        .mcast_query_interval(SECOND)
        .mcast_query_response_interval(SECOND / 2)
        .mcast_membership_interval(3 * SECOND)
}

/// The name of a LAN's bridge.
pub(super) fn bridge(lan: u8) -> String {
    format!("lan{lan}")
}

/// Distinguishes a device kind that the kernel lacks from other failures.
fn missing(kind: &str, error: std::io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => Missing::device(kind).into(),
        _ => anyhow::Error::new(error).context(format!("making a {kind} device")),
    }
}

fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    const UNIVERSAL: u8 = 2;
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ UNIVERSAL,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}
