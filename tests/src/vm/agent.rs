//! The agent in the lab, with independent clients.

use anyhow::{Result, ensure};

use super::scene::{PATIENCE, Scene, VETH, VIRTIO, VMXNET3, Wire};
use crate::{agent::Mode, lab::Lab};

const VIPS: [&str; 2] = ["10.0.0.240", "fd00::240"];

pub(super) fn veth_generic(lab: &Lab) -> Result<()> {
    let scene = Scene::on_veth(lab)?;
    scene.serve("web", &VIPS)?;
    let _agent = scene.agent(Mode::Generic, &[VETH.node])?;
    is_answered(&scene, Mode::Generic, VETH)
}

/// Without its agent, the kernel keeps answering, and the next agent adopts what it finds.
pub(super) fn veth_native_killed(lab: &Lab) -> Result<()> {
    let scene = Scene::on_veth(lab)?;
    scene.node.eth0.port.enable_native_xdp()?;
    scene.serve("web", &VIPS)?;
    let mut agent = scene.agent(Mode::Native, &[VETH.node])?;
    is_answered(&scene, Mode::Native, VETH)?;
    agent.kill()?;
    let groups = scene.node.ip("-6 maddr show dev eth0")?;
    ensure!(
        groups.contains("ff02::1:ff00:240"),
        "the group went with the agent: {groups}"
    );
    scene.is_answered(VIPS[0], VETH)?;
    let agent = scene.agent(Mode::Native, &[VETH.node])?;
    agent.wait_for_line("maps of an earlier run", PATIENCE)?;
    is_answered(&scene, Mode::Native, VETH)
}

pub(super) fn virtio_generic(lab: &Lab) -> Result<()> {
    on_cards(lab, Mode::Generic, VIRTIO)
}

pub(super) fn virtio_native(lab: &Lab) -> Result<()> {
    on_cards(lab, Mode::Native, VIRTIO)
}

pub(super) fn vmxnet3_native(lab: &Lab) -> Result<()> {
    on_cards(lab, Mode::Native, VMXNET3)
}

fn on_cards(lab: &Lab, mode: Mode, wire: Wire) -> Result<()> {
    let scene = Scene::on_cards(lab, wire)?;
    scene.serve("web", &VIPS)?;
    let _agent = scene.agent(mode, &[wire.node])?;
    is_answered(&scene, mode, wire)
}

fn is_answered(scene: &Scene, mode: Mode, wire: Wire) -> Result<()> {
    scene.runs_on(wire.node, mode, &VIPS)?;
    for vip in VIPS {
        scene.is_answered(vip, wire)?;
    }
    Ok(())
}
