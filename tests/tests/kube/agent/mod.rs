//! Agents that follow a cluster.

mod advertisements;
mod faults;
mod nodes;
mod services;
mod traffic;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 240));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x240));
