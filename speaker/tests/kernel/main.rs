//! The program in the kernel: loading, pinning, attaching, adopting and removing it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it is"
)]

#[path = "../common/mod.rs"]
mod common;

mod adoption;
mod answers;
mod attach;
mod client;
mod events;
mod lease;
mod maps;
mod remains;
mod skips;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use aya::{
    maps::{Array, IterableMap as _, MapData},
    programs::links::{FdLink, PinnedLink},
};
use client::Client;
use common::{cable, index};
use speaker::kernel::{Kernel, Maps, ModeChoice, Options};
use speaker_common::{
    layout::{Action, Counters, Link, Vip, Vlan},
    lease::AgentLease,
};
use speaker_core::plan::Entry;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const SLOT: u32 = 3;

fn options(bpffs: &Path) -> Options {
    Options {
        bpffs: bpffs.into(),
        ..Options::default()
    }
}

fn open(bpffs: &Path) -> Kernel {
    Kernel::open(&options(bpffs)).unwrap()
}

fn key(address: impl Into<IpAddr>, port: u32) -> Entry {
    Entry {
        address: address.into(),
        port,
        vlan: Vlan::default(),
    }
}

/// The lease of an agent that knows of no other, until its deadline.
fn alone_until(agent_deadline_ns: u64) -> AgentLease {
    AgentLease {
        life: 1,
        agent_deadline_ns,
        alone: 1,
        ..AgentLease::default()
    }
}

/// Writes what an agent writes: the VIP, the link, the lease.
fn fill(kernel: &mut Kernel, ifindex: u32) {
    let maps = kernel.maps_mut();
    maps.put_link(ifindex, &Link::new(MAC, ifindex)).unwrap();
    maps.put_vip(&key(VIP, ifindex), &Vip::new(Action::Answer, SLOT))
        .unwrap();
    let deadline = speaker::kernel::now() + 3_600_000_000_000;
    kernel.lease().unwrap().write(&alone_until(deadline));
}

/// An agent on the node's end of a new cable, and a client on the other.
fn agent(bpffs: &Path) -> (Kernel, u32, Client) {
    cable();
    let port = index("port");
    let mut kernel = open(bpffs);
    fill(&mut kernel, port);
    let attached = kernel.attach(port, ModeChoice::Auto).unwrap();
    assert!(!attached.adopted);
    (kernel, port, Client::on(index("peer")))
}

/// The counters of the VIP.
fn counted(maps: &Maps) -> Counters {
    *maps.counters(SLOT + 1).unwrap().last().unwrap()
}

fn link_pin(bpffs: &Path, ifindex: u32) -> PathBuf {
    bpffs.join(format!("speaker/links/{ifindex}"))
}

/// The kernel's ids of the pinned link and of its program.
fn pinned(bpffs: &Path, ifindex: u32) -> (u32, u32) {
    let link = PinnedLink::from_pin(link_pin(bpffs, ifindex)).unwrap();
    let info = FdLink::from(link).info().unwrap();
    (info.id(), info.program_id())
}

/// Replaces this map by one of a different size, as another version of the program may have.
fn replace_with_other_size(bpffs: &Path, map: &str) {
    let pin = bpffs.join("speaker/v2").join(map);
    let _ = std::fs::remove_file(&pin);
    let other: Array<MapData, [u8; 64]> = Array::create(1, 0).unwrap();
    other.map().pin(&pin).unwrap();
}
