//! What the agent announces: when, in which form, and with which effect.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::ensure;
use smoltcp::wire::ArpOperation;
use speaker_tests::{
    agent::{Mode, Node},
    lab::{self, Capture, Frame},
    message::{self, ALL_NODES, ALL_NODES_MAC, BROADCAST, Flags, Mac, Message},
};

use crate::{MEANWHILE, VIP_V4, VIP_V6, VIPS, neighbor, send_to, wait_for, wait_until};

/// From the first one on, in milliseconds.
const SCHEDULE: [u64; 4] = [0, 1_100, 2_200, 7_200];

/// How much later than planned on a busy machine: an agent that is delayed for longer than this
/// loses its lease.
const LATE: Duration = Duration::from_secs(2);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(600);

#[test]
fn a_take_over_is_announced_four_times_in_all_forms() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Native)?;
        let client = lab.host("client")?;
        let wire = client.eth0.port.capture()?;
        node.serve("web", &VIPS)?;
        node.start()?;
        node.wait_until_announced(&VIPS)?;
        thread::sleep(MEANWHILE);

        for expected in announcements(node.host.eth0.mac) {
            let times = times(&wire, &expected, SystemTime::UNIX_EPOCH);
            assert_eq!(times.len(), SCHEDULE.len(), "{expected:?}: {times:?}");
            for (time, due) in times.iter().zip(SCHEDULE.map(Duration::from_millis)) {
                let after = time.duration_since(times[0])?;
                // No earlier, because Linux may ignore what arrives within a second.
                let early = Duration::from_millis(20);
                assert!((due..due + LATE).contains(&(after + early)), "{times:?}");
            }
        }
        for frame in wire.frames() {
            let to_all = [BROADCAST, ALL_NODES_MAC].contains(&frame.destination());
            assert!(!is_announcement(&frame) || to_all, "{frame:?}");
        }
        let announced = node.vip(VIPS[0])?.places[0].announced;
        assert_eq!(announced, SCHEDULE.len() as u64);
        Ok(())
    });
}

/// It has the MAC of a host that had the address before.
#[test]
fn a_take_over_updates_a_linux_clients_entry() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        for vip in VIPS {
            let entry = format!("{vip} lladdr 02:00:00:00:00:77 dev eth0 nud reachable");
            client.ip(&format!("neigh replace {entry}"))?;
        }
        node.serve("web", &VIPS)?;
        node.start()?;
        for vip in VIPS {
            let ours = message::text(node.host.eth0.mac);
            wait_for("the new MAC", || {
                let known = neighbor(&client, vip)?;
                Ok(known.filter(|(_, mac)| *mac == ours))
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_replugged_link_is_announced_again() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let client = lab.host("client")?;
        let wire = client.eth0.port.capture()?;

        node.host.eth0.port.unplug()?;
        wait_until("the VIP has no carrier", || {
            Ok(node.state(VIPS[0])? == "no carrier")
        })?;
        let plugged = SystemTime::now();
        node.host.eth0.port.plug()?;
        for expected in announcements(node.host.eth0.mac) {
            // Twice: it is a burst, as after a take-over.
            wait_until("there are two announcements", || {
                Ok(times(&wire, &expected, plugged).len() == 2)
            })?;
        }
        assert_eq!(node.state(VIPS[0])?, "answering");
        assert!(node.log("no longer answering").is_empty(), "it never did");
        Ok(())
    });
}

#[test]
fn a_new_mac_of_the_link_is_answered_and_announced() {
    lab::test(|lab| {
        const NEW: Mac = [2, 0, 0, 0, 0, 0x55];
        let node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let client = lab.host("client")?;
        let wire = client.eth0.port.capture()?;
        let changed = SystemTime::now();
        node.host
            .ip(&format!("link set eth0 address {}", message::text(NEW)))?;
        for expected in announcements(NEW) {
            wait_for("an announcement of the new MAC", || {
                Ok(times(&wire, &expected, changed).pop())
            })?;
        }
        for vip in VIPS {
            let new = message::text(NEW);
            send_to(&client, vip)?;
            wait_for("a neighbor with the new MAC", || {
                let known = neighbor(&client, vip)?;
                Ok(known.filter(|(state, mac)| state == "REACHABLE" && *mac == new))
            })?;
        }
        Ok(())
    });
}

/// Refreshes keep switches from forgetting, without disturbing: an unnoticed restart is not
/// announced, and many VIPs are not refreshed at once.
#[test]
fn a_restart_in_time_announces_only_evenly_spread_refreshes() {
    lab::test(|lab| {
        const PERIOD: Duration = Duration::from_secs(6);
        let vips = (201..=210).map(|n| Ipv4Addr::new(10, 0, 0, n));
        let vips: Vec<_> = vips.map(IpAddr::V4).collect();
        let mut node = Node::serving(lab, Mode::Generic, &vips)?;
        node.wait_until_announced(&vips)?;
        node.stop()?;
        let wire = node.host.eth0.port.capture()?;
        node.start_with(["--refresh", "6s"])?;
        let started = SystemTime::now();
        thread::sleep(PERIOD + SLACK);

        let mut in_first_half = 0;
        for &vip in &vips {
            let times: Vec<_> = wire
                .frames()
                .iter()
                .filter(|frame| {
                    let message = Message::of(frame);
                    is_announcement(frame)
                        && message.is_some_and(|it| it.says(vip, node.host.eth0.mac))
                })
                .map(|frame| frame.at)
                .collect();
            // Once or twice, each time in two forms.
            assert!([2, 4].contains(&times.len()), "{vip}: {times:?}");
            let apart = times[times.len() - 1].duration_since(times[0])?;
            let periods = [Duration::ZERO, PERIOD];
            assert!(
                periods.iter().any(|it| it.abs_diff(apart) < SLACK),
                "{vip}: {times:?}"
            );
            // It may have arrived before this test noticed that the agent was ready.
            let after = times[0].duration_since(started).unwrap_or_default();
            in_first_half += usize::from(after < PERIOD / 2);
        }
        assert!((3..=7).contains(&in_first_half), "{in_first_half} of 10");
        Ok(())
    });
}

#[test]
fn without_refreshes_a_restart_in_time_is_silent() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        node.wait_until_announced(&VIPS)?;
        node.stop()?;
        let wire = node.host.eth0.port.capture()?;
        node.start_with(["--refresh", "0s"])?;
        thread::sleep(MEANWHILE);
        let announced: Vec<_> = wire.frames().into_iter().filter(is_announcement).collect();
        ensure!(announced.is_empty(), "{announced:?}");
        Ok(())
    });
}

/// The groups of IPv6 VIPs are reported on the link; otherwise, snooping switches would not forward
/// solicitations to it (RFC 4541, RFC 3810).
#[test]
fn the_groups_of_ipv6_vips_are_joined_and_left() {
    lab::test(|lab| {
        let node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let group = message::solicited_node(VIP_V6).to_string();
        let groups = || node.host.ip("-6 maddress show dev eth0");
        wait_until("it is joined", || Ok(groups()?.contains(&group)))?;
        node.serve("web", &VIPS[..1])?;
        wait_until("it is left", || Ok(!groups()?.contains(&group)))
    });
}

/// All forms in which the two VIPs are announced.
fn announcements(mac: Mac) -> [Message; 3] {
    [
        arp(ArpOperation::Request, VIP_V4, mac),
        arp(ArpOperation::Reply, VIP_V4, mac),
        Message::Advertisement {
            source: VIP_V6,
            destination: ALL_NODES,
            flags: Flags::OVERRIDE,
            target: VIP_V6,
            mac: Some(mac),
        },
    ]
}

/// An announcement (RFC 5227 §3), or a gratuitous reply (RFC 5944 §4.6).
fn arp(operation: ArpOperation, vip: Ipv4Addr, mac: Mac) -> Message {
    let target = match operation {
        ArpOperation::Reply => mac,
        _ => [0; 6],
    };
    Message::Arp {
        operation,
        sender: (vip, mac),
        target: (vip, target),
    }
}

fn is_announcement(frame: &Frame) -> bool {
    match Message::of(frame) {
        Some(Message::Arp { sender, target, .. }) => sender.0 == target.0,
        Some(Message::Advertisement { flags, .. }) => !flags.contains(Flags::SOLICITED),
        _ => false,
    }
}

/// When a message was seen, from a given time on.
fn times(wire: &Capture, message: &Message, from: SystemTime) -> Vec<SystemTime> {
    let frames = wire.frames().into_iter();
    frames
        .filter(|frame| frame.at >= from && Message::of(frame).as_ref() == Some(message))
        .map(|frame| frame.at)
        .collect()
}
