//! What must be true on every kernel that is supported. It is run in virtual machines that have
//! nothing but it: no test harness, and few programs.

mod namespace;
mod responder;
mod verdicts;
mod wire;

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
            "verdict on a frame of somebody else",
            verdicts::somebody_else,
        ),
        ("answers over veth, generic", wire::veth_generic),
        ("answers over veth, native", wire::veth_native),
        ("answers over virtio_net, generic", wire::virtio_generic),
        ("answers over virtio_net, native", wire::virtio_native),
    ]
}
