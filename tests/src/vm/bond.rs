//! VIPs on a bond: answered once, with its MAC, through whichever member there is.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::scene::{PATIENCE, Scene, VETH, Wire, give_addresses, mac, take_card};
use crate::{
    agent::Mode,
    lab::{Capture, Lab},
    message::{BROADCAST, Message, text},
    wait::wait_until,
};

const VIPS: [&str; 2] = ["10.0.0.240", "fd00::240"];

/// Of VLAN 100.
const TAGGED: [&str; 2] = ["10.0.100.240", "fd00:100::240"];

/// Broadcasts after a take-over: both forms of ARP at four times.
const ANNOUNCEMENTS: usize = 8;

/// The plug of the member that it sends through is pulled.
pub(super) fn veth(lab: &Lab) -> Result<()> {
    let scene = Scene::on_veth(lab)?;
    let second = scene.node.extra_link("eth1", 0)?;
    bond(&scene, ["eth0", "eth1"])?;
    let wire = Wire {
        node: "bond0",
        ..VETH
    };
    scene.serve("web", &VIPS)?;
    let seen = scene.client.capture(wire.client)?;
    let _agent = scene.agent(Mode::Generic, &[wire.node])?;
    scene.runs_on(wire.node, Mode::Generic, &VIPS)?;
    are_answered(&scene, &VIPS, wire)?;

    let announced = || announcements(&scene, &seen, VIPS[0], wire);
    wait_until("the take-over is announced", PATIENCE, || {
        Ok(announced()? >= ANNOUNCEMENTS)
    })?;
    scene.node.eth0.port.unplug()?;
    wait_until("the fail-over is announced", PATIENCE, || {
        Ok(announced()? > ANNOUNCEMENTS)
    })?;
    are_answered(&scene, &VIPS, wire)?;

    second.port.unplug()?;
    wait_until("no member is left", PATIENCE, || {
        Ok(scene.status()?.contains("no carrier"))
    })?;
    scene.is_not_answered(VIPS[0], wire.client)?;
    scene.node.eth0.port.plug()?;
    are_answered(&scene, &VIPS, wire)
}

/// In the members' drivers, which take VLAN tags off until the agent tells them to leave them. Linux
/// ignores what the member receives that stands by, and so must the program.
pub(super) fn vmxnet3_native(lab: &Lab) -> Result<()> {
    let wire = Wire {
        node: "bond0",
        client: "virtio0",
    };
    let vlan = Wire {
        node: "bond0.100",
        client: "virtio0.100",
    };
    let scene = Scene::on_veth(lab)?;
    for host in [&scene.node, &scene.client] {
        host.ip("link set eth0 down")?;
    }
    let members = ["vmxnet0", "vmxnet1"];
    for member in members {
        take_card(&scene.node, member)?;
    }
    bond(&scene, members)?;
    take_card(&scene.client, wire.client)?;
    scene.client.ip(&format!("link set {} up", wire.client))?;
    give_addresses(&scene.client, wire.client, "10.0.0", "fd00:", 2)?;
    scene.add_vlan(wire)?;
    scene.serve("web", &VIPS)?;
    scene.serve("vlan", &TAGGED)?;
    let _agent = scene.agent(Mode::Native, &[wire.node, vlan.node])?;
    scene.runs_on(wire.node, Mode::Native, &[VIPS, TAGGED].concat())?;
    for (vips, inside, outside) in [(VIPS, wire, vlan), (TAGGED, vlan, wire)] {
        are_answered(&scene, &vips, inside)?;
        for vip in vips {
            scene.is_not_answered(vip, outside.client)?;
        }
    }
    scene.node.ip("link set vmxnet0 down")?;
    are_answered(&scene, &VIPS, wire)?;
    are_answered(&scene, &TAGGED, vlan)
}

/// Makes a bond of two interfaces of the node, of which the first is the one that it sends through.
fn bond(scene: &Scene, members: [&str; 2]) -> Result<()> {
    let node = &scene.node;
    node.ip("link add bond0 type bond mode active-backup miimon 100")?;
    for member in members {
        node.ip(&format!("address flush dev {member}"))?;
        node.ip(&format!("link set {member} down"))?;
        node.ip(&format!("link set {member} master bond0"))?;
    }
    node.ip("link set bond0 up")?;
    give_addresses(node, "bond0", "10.0.0", "fd00:", 1)?;
    let [first, _] = members;
    let sends = format!("active_slave {first}");
    wait_until("the bond sends", PATIENCE, || {
        Ok(node.ip("-details link show bond0")?.contains(&sends))
    })
}

/// Both VIPs are answered, once each.
fn are_answered(scene: &Scene, vips: &[&str], wire: Wire) -> Result<()> {
    vips.iter().try_for_each(|vip| scene.is_answered(vip, wire))
}

/// How many frames told everybody that a VIP is at the node.
fn announcements(scene: &Scene, seen: &Capture, vip: &str, wire: Wire) -> Result<usize> {
    let vip: IpAddr = vip.parse().context("a VIP")?;
    let mac = mac(&scene.node, wire.node)?;
    let frames = seen.frames();
    let announced = frames.iter().filter(|frame| {
        let says = |message: Message| message.says(vip, frame.source());
        frame.destination() == BROADCAST
            && text(frame.source()) == mac
            && Message::of(frame).is_some_and(says)
    });
    Ok(announced.count())
}
