//! Hosts and a switch on one machine, for tests, the demo and benchmarks.
//!
//! A [`Lab`] is a switch and the [`Host`]s plugged into it: Linux namespaces, joined by veth pairs
//! and bridges. Nothing of it has a name outside the process that created it. It disappears when it
//! is dropped, and when the process ends in any way: panic, ctrl-C or kill -9 leave no process,
//! namespace, interface, mount, pin or file behind. Any number of labs can exist at the same time.
//!
//! ```no_run
//! # use std::time::Duration;
//! speaker_tests::lab::test(|lab| {
//!     let node = lab.host("node-a")?;
//!     let client = lab.host("client")?;
//!     let wire = client.eth0.port.capture()?;
//!
//!     client.ping(node.eth0.ipv4, Duration::from_secs(1))?;
//!     wire.wait_for(|frame| frame.ether_type() == 0x0806, Duration::from_secs(1))?;
//!
//!     node.eth0.port.cut()?;
//!     assert!(client.ping(node.eth0.ipv4, Duration::from_millis(200)).is_err());
//!     Ok(())
//! });
//! ```
//!
//! It needs root and a kernel (5.10 or later) with veth, bridges, packet sockets and BPF; for lossy
//! cables also the `clsact` queueing discipline and BPF classifiers (modules `sch_ingress` and
//! `cls_bpf`). It needs no programs except those that a test runs.
//!
//! Frames between hosts are as the kernel makes them on veth: TCP and UDP checksums, and the
//! segmentation of large TCP packets, are left to a network card that does not exist. ARP, ND and
//! ICMP are complete. The kernel queues `net.core.netdev_max_backlog` frames per processor, 1000 by
//! default, for all hosts of all labs together: a flood in one can lose frames of another.

mod bpf;
mod capture;
mod frame;
mod host;
mod in_ci;
mod init;
mod journal;
mod namespace;
mod netlink;
mod packet;
mod ping;
mod port;
mod process;
mod relay;
mod skip;
mod skipped;
mod switch;
mod timestamps;

use std::{sync::Arc, thread};

use anyhow::Result;

pub use self::{
    capture::Capture,
    frame::{Frame, Tag},
    host::{Host, speaker_program},
    packet::RawSocket,
    port::{Direction, Port},
    process::{Command, Output, Process},
    skip::{Missing, conclude, skip},
    switch::Link,
};
use self::{journal::Journal, switch::Switch};

/// A switch, for hosts to be plugged into.
#[derive(Debug)]
pub struct Lab {
    switch: Arc<Switch>,
    journal: Journal,
}

impl Lab {
    /// Creates a lab without hosts. If the machine cannot have one, the error is [`Missing`].
    pub fn new() -> Result<Self> {
        let switch = Switch::new()?;
        timestamps::enable(&switch.namespace)?;
        Ok(Self {
            switch: Arc::new(switch),
            journal: Journal::new(),
        })
    }

    /// Adds a host, with an interface `eth0` in LAN 0. The first has 10.0.0.1, the second 10.0.0.2.
    pub fn host(&self, name: &str) -> Result<Host> {
        Host::new(name, Arc::clone(&self.switch), self.journal.clone())
    }

    /// Enables MLD snooping, in LANs that have no host yet: the switch delivers IPv6 multicast only
    /// to members. It queries them itself every second, and forgets them after three.
    pub fn snoop(&self) {
        self.switch.snoop();
    }

    /// Whether the kernel knows a kind of network device, by the name that `ip link add … type`
    /// takes: "vlan", "bond", "macvlan".
    pub fn has(&self, kind: &str) -> bool {
        self.switch.knows(kind)
    }

    /// Requires a kind of network device: if it is missing, the error skips a [`test`].
    pub fn needs(&self, kind: &str) -> Result<(), Missing> {
        match self.has(kind) {
            true => Ok(()),
            false => Err(Missing::device(kind)),
        }
    }
}

impl Drop for Lab {
    /// Prints the processes' output if a test is failing.
    fn drop(&mut self) {
        if thread::panicking() {
            eprint!("{}", self.journal);
        }
    }
}

/// Runs a test in its own lab. An error fails it, except [`Missing`], which skips it loudly; a
/// failing test prints the output of the lab's processes.
///
/// # Panics
///
/// If the test fails.
pub fn test(body: impl FnOnce(&Lab) -> Result<()>) {
    let outcome = Lab::new().and_then(|lab| {
        let outcome = body(&lab);
        // Here, while the lab still exists to print its processes' output.
        if let Err(error) = &outcome
            && error.downcast_ref::<Missing>().is_none()
        {
            panic!("{error:?}");
        }
        outcome
    });
    conclude(outcome);
}
