//! What must hold on every supported kernel. Run in virtual machines with no test harness and few
//! programs.

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
use crate::{
    lab::{Lab, Missing},
    program::Program,
};

/// Something that must hold.
#[derive(Debug)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// The first kernel on which it runs.
    pub since: Release,
    subject: Subject,
}

/// What a check tests, and the function that panics or fails if the check does not hold.
#[derive(Debug)]
enum Subject {
    /// The loaded program.
    Program(fn(&mut Program)),
    /// Agents in a lab.
    Lab(fn(&Lab) -> Result<()>),
}

/// The result of a check.
#[derive(Debug)]
pub enum Outcome {
    /// It holds.
    Held,
    /// It does not.
    Failed,
    /// The machine has no Kubernetes.
    LeftOut,
}

impl Check {
    /// Runs it. If it fails, standard error has the reason and the output of the lab's processes.
    pub fn run(&self) -> Outcome {
        let ran = catch_unwind(|| match self.subject {
            Subject::Program(rule) => {
                verdicts::holds(rule);
                Outcome::Held
            }
            Subject::Lab(holds) => {
                let lab = Lab::new().expect("a virtual machine has all that a lab takes");
                match holds(&lab) {
                    Ok(()) => Outcome::Held,
                    Err(error) if is_without_kubernetes(&error) => Outcome::LeftOut,
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        ran.unwrap_or(Outcome::Failed)
    }
}

fn is_without_kubernetes(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Missing::Kubernetes))
}

/// The oldest supported kernel.
const ALL: Release = Release(5, 10);

/// The driver vmxnet3 runs XDP programs.
const VMXNET3_XDP: Release = Release(6, 6);

/// Programs on a bond run in its members' drivers.
const BOND_XDP: Release = Release(5, 15);

/// The two ends of an 802.3ad bond come up in a virtual machine. Under its clock, Linux 6.1 never
/// gets that far, even without an agent.
const LACP: Release = Release(6, 6);

/// kube-proxy is the same on all kernels, and takes as long as everything else together: the newest
/// is enough.
const KUBE_PROXY: Release = Release(7, 0);

/// All checks, fastest first.
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
    check(
        "kube-proxy in IPVS mode, without strictARP",
        KUBE_PROXY,
        ipvs::one_node_answers,
    ),
];

const fn check(name: &'static str, since: Release, holds: fn(&Lab) -> Result<()>) -> Check {
    Check {
        name,
        since,
        subject: Subject::Lab(holds),
    }
}
