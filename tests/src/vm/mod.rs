//! What must be true on every kernel that is supported. It is run in virtual machines that have
//! nothing else: no test harness, and few programs.

mod agent;
mod bond;
mod ipvs;
mod release;
mod scene;
mod verdicts;
mod vlan;

use std::panic::catch_unwind;

use anyhow::Result;

pub use self::release::Release;
use crate::{lab::Lab, program::Program};

/// Something that must be true.
#[derive(Debug)]
pub struct Check {
    /// What it is about.
    pub name: &'static str,
    /// The first kernel on which it is.
    pub since: Release,
    subject: Subject,
}

/// What a check looks at, and the function that panics or fails where the check does not hold.
#[derive(Debug)]
enum Subject {
    /// The loaded program.
    Program(fn(&mut Program)),
    /// Agents in a lab.
    Lab(fn(&Lab) -> Result<()>),
}

impl Check {
    /// Whether it is true. Standard error tells why it is not, and what processes of the lab said.
    pub fn holds(&self) -> bool {
        let held = catch_unwind(|| match self.subject {
            Subject::Program(rule) => verdicts::holds(rule),
            Subject::Lab(holds) => {
                let lab = Lab::new().expect("a virtual machine has all that a lab takes");
                if let Err(error) = holds(&lab) {
                    panic!("{error:?}");
                }
            }
        });
        held.is_ok()
    }
}

/// The oldest kernel that is supported.
const ALL: Release = Release(5, 10);

/// The driver vmxnet3 runs XDP programs.
const VMXNET3_XDP: Release = Release(6, 6);

/// Programs on a bond run in its members' drivers.
const BOND_XDP: Release = Release(5, 15);

/// The two ends of an 802.3ad bond come up in a virtual machine. Under its clock, Linux 6.1 never
/// gets that far, with no agent there.
const LACP: Release = Release(6, 6);

/// All checks, the quickest first.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    verdicts::RULES.iter().chain(AGENTS)
}

const AGENTS: &[Check] = &[
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
    check("bond of veth, balance-xor, generic", ALL, bond::xor_generic),
    check(
        "bond of veth, balance-xor, native",
        BOND_XDP,
        bond::xor_native,
    ),
    check("bond of veth, 802.3ad, generic", LACP, bond::lacp_generic),
    check("bond of veth, 802.3ad, native", LACP, bond::lacp_native),
    check("IPVS without strictARP", ALL, ipvs::one_node_answers),
];

const fn check(name: &'static str, since: Release, holds: fn(&Lab) -> Result<()>) -> Check {
    Check {
        name,
        since,
        subject: Subject::Lab(holds),
    }
}
