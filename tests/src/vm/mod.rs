//! What must be true on every kernel that is supported. It is run in virtual machines that have
//! nothing but it: no test harness, few programs, and a tenth of the speed.

mod agent;
mod verdicts;

use anyhow::Result;

/// Something that must be true.
pub type Check = fn() -> Result<()>;

/// All checks, by name.
pub const fn checks() -> &'static [(&'static str, Check)] {
    &[
        ("verdict on an ARP request", verdicts::arp_request),
        (
            "verdict on a Neighbor Solicitation",
            verdicts::neighbor_solicitation,
        ),
        (
            "verdict on duplicate address detection",
            verdicts::duplicate_detection,
        ),
        (
            "verdict on a frame of somebody else",
            verdicts::somebody_else,
        ),
        ("agent on veth, generic", agent::veth_generic),
        (
            "agent on veth, native, killed and started again",
            agent::veth_native_killed,
        ),
        ("agent on virtio_net, generic", agent::virtio_generic),
        ("agent on virtio_net, native", agent::virtio_native),
    ]
}
