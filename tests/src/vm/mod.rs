//! What must be true on every kernel that is supported. It is run in virtual machines that have
//! nothing but it: no test harness, few programs, and a tenth of the speed.

mod agent;
mod bond;
mod release;
mod scene;
mod verdicts;
mod vlan;

use std::panic::catch_unwind;

use anyhow::Result;

pub use self::release::Release;
use crate::lab::Lab;

/// Something that must be true.
#[derive(Debug)]
pub struct Check {
    /// What it is about.
    pub name: &'static str,
    /// The first kernel on which it is.
    pub since: Release,
    holds: fn(&Lab) -> Result<()>,
}

impl Check {
    /// Whether it is true. Standard error tells why it is not, and what processes of the lab said.
    pub fn holds(&self) -> bool {
        let held = catch_unwind(|| {
            let lab = Lab::new().expect("a virtual machine has all that a lab takes");
            if let Err(error) = (self.holds)(&lab) {
                panic!("{error:?}");
            }
        });
        held.is_ok()
    }
}

/// The oldest kernel that is supported.
const ALL: Release = Release(5, 10);

/// The driver vmxnet3 runs XDP programs; those of bonds run in their members' since 5.15.
const VMXNET3_XDP: Release = Release(6, 6);

/// All checks.
pub const CHECKS: &[Check] = &[
    check("verdict on an ARP request", ALL, verdicts::arp_request),
    check(
        "verdict on a Neighbor Solicitation",
        ALL,
        verdicts::neighbor_solicitation,
    ),
    check(
        "verdict on duplicate address detection",
        ALL,
        verdicts::duplicate_detection,
    ),
    check(
        "verdict on a frame of somebody else",
        ALL,
        verdicts::somebody_else,
    ),
    check("agent on veth, generic", ALL, agent::veth_generic),
    check(
        "agent on veth, native, killed and started again",
        ALL,
        agent::veth_native_killed,
    ),
    check("agent on virtio_net, generic", ALL, agent::virtio_generic),
    check("agent on virtio_net, native", ALL, agent::virtio_native),
    check(
        "agent on vmxnet3, native",
        VMXNET3_XDP,
        agent::vmxnet3_native,
    ),
    check("VLAN on veth, generic", ALL, vlan::veth),
    check("VLAN on virtio_net, native", ALL, vlan::virtio_native),
    check("VLAN on vmxnet3, native", VMXNET3_XDP, vlan::vmxnet3_native),
    check("bond of veth, generic", ALL, bond::veth),
    check(
        "bond of vmxnet3, with a VLAN, native",
        VMXNET3_XDP,
        bond::vmxnet3_native,
    ),
];

const fn check(name: &'static str, since: Release, holds: fn(&Lab) -> Result<()>) -> Check {
    Check { name, since, holds }
}
