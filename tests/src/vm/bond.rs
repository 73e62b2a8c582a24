//! VIPs on a bond: answered once, with its MAC, through any members it uses.

use std::{net::IpAddr, os::fd::OwnedFd};

use anyhow::{Context as _, Result};

use super::scene::{PATIENCE, Scene, VETH, Wire, connect, give_addresses, mac, take_card};
use crate::{
    agent::Mode,
    lab::{Capture, Host, Lab},
    message::{BROADCAST, Message, text},
    wait::wait_until,
};

const VIPS: [&str; 2] = ["10.0.0.240", "fd00::240"];

/// Of VLAN 100.
const TAGGED: [&str; 2] = ["10.0.100.240", "fd00:100::240"];

/// Broadcasts after a take-over: both forms of ARP at four times.
const ANNOUNCEMENTS: usize = 8;

/// The lab's own wire, with a bond at the node's end.
const BOND: Wire = Wire {
    node: "bond0",
    ..VETH
};

/// The member that it sends through is unplugged.
pub(super) fn veth(lab: &Lab) -> Result<()> {
    let scene = Scene::on_veth(lab)?;
    let second = scene.node.extra_link("eth1", 0)?;
    active_backup(&scene, ["eth0", "eth1"])?;
    let wire = BOND;
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

/// In the members' drivers, which strip VLAN tags until the agent stops them. Linux ignores what
/// the standby member receives, and so must the program.
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
    active_backup(&scene, members)?;
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

pub(super) fn xor_generic(lab: &Lab) -> Result<()> {
    xor(lab, Mode::Generic)
}

pub(super) fn xor_native(lab: &Lab) -> Result<()> {
    xor(lab, Mode::Native)
}

pub(super) fn lacp_generic(lab: &Lab) -> Result<()> {
    lacp(lab, Mode::Generic)
}

pub(super) fn lacp_native(lab: &Lab) -> Result<()> {
    lacp(lab, Mode::Native)
}

/// Each member answers.
fn xor(lab: &Lab, mode: Mode) -> Result<()> {
    const XOR: &str = "mode balance-xor miimon 100";
    let scene = Scene::on_veth(lab)?;
    let _fabric = Fabric::new(lab, &scene, XOR, &[("lag0", &["m0", "m1"])])?;
    scene.serve("web", &VIPS)?;
    let _agent = scene.agent(mode, &[BOND.node])?;
    scene.runs_on(BOND.node, mode, &VIPS)?;
    are_answered(&scene, &VIPS, BOND)?;
    for member in ["m0", "m1"] {
        scene.node.ip(&format!("link set {member} down"))?;
        are_answered(&scene, &VIPS, BOND)?;
        scene.node.ip(&format!("link set {member} up"))?;
        are_in_use(&scene.node, &["m0", "m1"])?;
    }
    Ok(())
}

/// Two independent switches: with LACP, the node uses the links to one of them. Broadcasts come
/// from both.
fn lacp(lab: &Lab, mode: Mode) -> Result<()> {
    const LACP: &str = "mode 802.3ad miimon 100 lacp_rate fast";
    let scene = Scene::on_veth(lab)?;
    let lags: [(&str, &[&str]); 2] = [("lag0", &["m0", "m1"]), ("lag1", &["m2"])];
    let _fabric = Fabric::new(lab, &scene, LACP, &lags)?;
    are_in_use(&scene.node, &["m0", "m1"])?;
    scene.serve("web", &VIPS)?;
    let _agent = scene.agent(mode, &[BOND.node])?;
    scene.runs_on(BOND.node, mode, &VIPS)?;
    are_answered(&scene, &VIPS, BOND)?;
    for member in ["m0", "m1"] {
        scene.node.ip(&format!("link set {member} down"))?;
    }
    are_in_use(&scene.node, &["m2"])?;
    are_answered(&scene, &VIPS, BOND)
}

/// Between node and client: a bridge with link aggregation groups to the node.
struct Fabric {
    _host: Host,
    _programs: Vec<OwnedFd>,
}

impl Fabric {
    /// Creates both ends of the groups, with these names here and these members at the node.
    fn new(lab: &Lab, scene: &Scene, options: &str, lags: &[(&str, &[&str])]) -> Result<Self> {
        let (node, fabric) = (&scene.node, lab.host("fabric")?);
        node.ip("link set eth0 down")?;
        fabric.ip("link add br0 type bridge")?;
        fabric.ip("address flush dev eth0")?;
        fabric.ip("link set eth0 master br0")?;
        let mut programs = Vec::new();
        for (lag, members) in lags {
            let ports: Vec<String> = members.iter().map(|it| format!("to-{it}")).collect();
            for (member, port) in members.iter().zip(&ports) {
                connect((node, member), (&fabric, port))?;
                // Frames that a veth driver sends by XDP arrive only if the other end has a program
                // too.
                programs.push(fabric.occupy_xdp(port)?);
            }
            bond(&fabric, lag, options, &ports)?;
            fabric.ip(&format!("link set {lag} master br0"))?;
        }
        fabric.ip("link set br0 up")?;
        let members: Vec<&str> = lags
            .iter()
            .flat_map(|(_, members)| *members)
            .copied()
            .collect();
        bond(node, BOND.node, options, &members)?;
        give_addresses(node, BOND.node, "10.0.0", "fd00:", 1)?;
        Ok(Self {
            _host: fabric,
            _programs: programs,
        })
    }
}

/// Creates a bond of two interfaces of the node; it sends through the first.
fn active_backup(scene: &Scene, members: [&str; 2]) -> Result<()> {
    let node = &scene.node;
    bond(node, BOND.node, "mode active-backup miimon 100", &members)?;
    give_addresses(node, BOND.node, "10.0.0", "fd00:", 1)?;
    let [first, _] = members;
    are_in_use(node, &[first])
}

fn bond(host: &Host, name: &str, options: &str, members: &[impl AsRef<str>]) -> Result<()> {
    host.ip(&format!("link add {name} type bond {options}"))?;
    for member in members {
        let member = member.as_ref();
        host.ip(&format!("address flush dev {member}"))?;
        host.ip(&format!("link set {member} down"))?;
        host.ip(&format!("link set {member} master {name}"))?;
    }
    host.ip(&format!("link set {name} up"))?;
    Ok(())
}

/// Waits until the node's bond uses these members, and no other that is up.
fn are_in_use(node: &Host, members: &[&str]) -> Result<()> {
    let is_used =
        |line: &str| line.contains("state UP") && line.contains("bond_slave state ACTIVE");
    wait_until("the bond to use some members", PATIENCE, || {
        let shown = node.ip("-oneline -details link show master bond0")?;
        let used = shown.lines().filter(|line| is_used(line));
        let used: Vec<&str> = used.filter_map(name_of).collect();
        Ok(used == members)
    })
}

/// The interface that `ip -oneline link` shows in a line: `7: m0@if3: <BROADCAST,…`.
fn name_of(line: &str) -> Option<&str> {
    line.split([' ', ':', '@'])
        .filter(|it| !it.is_empty())
        .nth(1)
}

/// Both VIPs are answered, once each.
fn are_answered(scene: &Scene, vips: &[&str], wire: Wire) -> Result<()> {
    vips.iter().try_for_each(|vip| scene.is_answered(vip, wire))
}

/// How many frames announced to all that a VIP is at the node.
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
