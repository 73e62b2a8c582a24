//! VIPs of a VLAN: answered in it and nowhere else.

use anyhow::Result;

use super::scene::{PATIENCE, Scene, VETH, VIRTIO, VMXNET3, Wire};
use crate::{agent::Mode, lab::Lab, manifest, wait::wait_until};

/// Of the untagged network.
const UNTAGGED: [&str; 2] = ["10.0.0.240", "fd00::240"];

/// Of VLAN 100. They share no group with the untagged ones.
const TAGGED: [&str; 2] = ["10.0.100.241", "fd00:100::241"];

/// The ends of a wire, in VLAN 100.
macro_rules! vlan_of {
    ($wire:literal, $client:literal) => {
        Wire {
            node: concat!($wire, ".100"),
            client: concat!($client, ".100"),
        }
    };
}

/// veth passes a tag as metadata, where the program does not see it: the program runs on the VLAN
/// device.
pub(super) fn veth(lab: &Lab) -> Result<()> {
    let vlan = vlan_of!("eth0", "eth0");
    let scene = Scene::on_veth(lab)?;
    scene.add_vlan(VETH)?;
    scene.serve("web", &TAGGED)?;
    let _agent = scene.agent(Mode::Generic, &[VETH.node, vlan.node])?;
    scene.runs_on(vlan.node, Mode::Generic, &TAGGED)?;
    scene.leaves_alone(VETH.node)?;
    for vip in TAGGED {
        scene.is_answered(vip, vlan)?;
        scene.is_not_answered(vip, VETH.client)?;
    }

    // For the same reason, VIPs of the untagged network are refused.
    let pool = manifest::pool("all", &["10.0.0.0/8", "fd00::/8"]);
    let advertisement = manifest::advertisement("all", &["all"], &[VETH.node]);
    scene
        .manifests
        .write("pools.yaml", &(pool + &advertisement))?;
    wait_until("it is refused", PATIENCE, || {
        let status = scene.status()?;
        Ok(status.contains("hides VLAN tags from the program and carries eth0.100"))
    })
}

pub(super) fn virtio_native(lab: &Lab) -> Result<()> {
    on_cards(lab, VIRTIO, vlan_of!("virtio0", "virtio1"))
}

/// This card strips tags, until the agent stops it.
pub(super) fn vmxnet3_native(lab: &Lab) -> Result<()> {
    on_cards(lab, VMXNET3, vlan_of!("vmxnet0", "virtio1"))
}

/// One program on the card serves both networks.
fn on_cards(lab: &Lab, wire: Wire, vlan: Wire) -> Result<()> {
    let scene = Scene::on_cards(lab, wire)?;
    scene.add_vlan(wire)?;
    scene.serve("vlan", &TAGGED)?;
    let _agent = scene.agent(Mode::Native, &[wire.node, vlan.node])?;
    for vip in TAGGED {
        scene.is_answered(vip, vlan)?;
    }
    // The untagged network is added later, when the VLAN device may have a program already.
    scene.serve("web", &UNTAGGED)?;
    let all = [UNTAGGED, TAGGED].concat();
    let on_card = || scene.runs_on(wire.node, Mode::Native, &all);
    wait_until("the card to have it", PATIENCE, || Ok(on_card().is_ok()))?;
    on_card()?;
    for (vips, inside, outside) in [(UNTAGGED, wire, vlan), (TAGGED, vlan, wire)] {
        for vip in vips {
            scene.is_answered(vip, inside)?;
            scene.is_not_answered(vip, outside.client)?;
        }
    }
    Ok(())
}
