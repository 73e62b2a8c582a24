//! Clients of all kinds resolve a VIP, keep it, and do not take it.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use smoltcp::wire::ArpOperation;
use speaker_tests::{
    agent::{Mode, Node},
    lab::{Capture, Host, Lab},
    message::{self, ALL_NODES, ALL_NODES_MAC, Flags, Mac, Message},
};

use crate::{
    SOON, VIP_V4, VIP_V6, VIPS, in_each_mode, neighbor, send_to,
    smoltcp_stack::{self, Stack},
    wait_for, wait_until,
};

in_each_mode! {
    linux_resolves_a_vip_and_is_answered_by_unicast,
    linux_keeps_a_vip_reachable_by_unicast_probes,
    a_unicast_solicitation_without_link_layer_address_is_answered,
    linux_does_not_take_an_ipv6_vip_that_it_probes_for,
    arping_and_ndisc6_find_a_vip,
    arping_finds_that_an_ipv4_vip_is_taken,
    smoltcp_resolves_a_vip_and_is_answered_from_behind_it,
    tshark_finds_no_fault_with_any_reply,
}

fn linux_resolves_a_vip_and_is_answered_by_unicast(lab: &Lab, mode: Mode) -> Result<()> {
    let node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    let wire = client.capture("eth0")?;
    for vip in VIPS {
        send_to(&client, vip)?;
        let known = || Ok(neighbor(&client, vip)?.filter(|(state, _)| state == "REACHABLE"));
        let (_, mac) = wait_for("a reachable neighbor", known)?;
        assert_eq!(mac, message::text(node.host.eth0.mac));
    }

    let (ours, its) = (node.host.eth0.mac, client.eth0.mac);
    let replies: Vec<_> = wire
        .frames()
        .iter()
        .filter(|frame| !frame.sent && frame.destination() == its)
        .filter_map(Message::of)
        .collect();
    let expected = [
        Message::Arp {
            operation: ArpOperation::Reply,
            sender: (VIP_V4, ours),
            target: (client.eth0.ipv4, its),
        },
        Message::Advertisement {
            source: VIP_V6,
            destination: client.eth0.ipv6,
            flags: Flags::SOLICITED | Flags::OVERRIDE,
            target: VIP_V6,
            mac: Some(ours),
        },
    ];
    assert_eq!(replies, expected);
    Ok(())
}

/// Neighbor unreachability detection (RFC 4861 §7.3), and the same in Linux for ARP: a long-lived
/// connection probes the neighbor directly.
fn linux_keeps_a_vip_reachable_by_unicast_probes(lab: &Lab, mode: Mode) -> Result<()> {
    let node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    serve_pings(&node)?;
    for family in ["ipv4", "ipv6"] {
        let setting = |name: &str, value: &str| {
            client.sysctl(&format!("net.{family}.neigh.eth0.{name}"), value)
        };
        setting("base_reachable_time_ms", "200")?;
        setting("delay_first_probe_time", "0")?;
    }

    let wire = client.capture("eth0")?;
    let end = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < end {
        for vip in VIPS {
            // An error would be an interruption of the connection.
            client.ping(vip, SOON)?;
        }
        thread::sleep(Duration::from_millis(20));
    }

    for vip in VIPS {
        let requests = requests_for(&wire, vip);
        let (unicast, multicast): (Vec<Mac>, Vec<Mac>) = requests
            .iter()
            .partition(|destination| **destination == node.host.eth0.mac);
        assert_eq!(multicast.len(), 1, "{vip} was lost, and looked for again");
        assert!(unicast.len() >= 3, "{vip}: {} probes", unicast.len());
        let counted: u64 = node.vip(vip)?.counts.iter().map(|it| it.answered).sum();
        assert_eq!(
            counted,
            requests.len() as u64,
            "who else answers for {vip}?"
        );
        let (state, _) = neighbor(&client, vip)?.expect("it was there all along");
        assert!(
            ["REACHABLE", "STALE", "DELAY"].contains(&&*state),
            "{state}"
        );
    }
    Ok(())
}

/// From routers that omit the option where RFC 4861 §4.3 allows it.
fn a_unicast_solicitation_without_link_layer_address_is_answered(
    lab: &Lab,
    mode: Mode,
) -> Result<()> {
    let node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    let (ours, its) = (node.host.eth0.mac, client.eth0.mac);
    let socket = client.raw("eth0")?;
    let probe = Message::Solicitation {
        source: client.eth0.ipv6,
        destination: VIP_V6,
        target: VIP_V6,
        mac: None,
    };
    socket.send(&probe.frame(its, ours))?;

    let reply = socket.receive_matching(SOON, |frame| frame.destination() == its)?;
    let expected = Message::Advertisement {
        source: VIP_V6,
        destination: client.eth0.ipv6,
        flags: Flags::SOLICITED | Flags::OVERRIDE,
        target: VIP_V6,
        mac: Some(ours),
    };
    assert_eq!(Message::of(&reply), Some(expected));
    Ok(())
}

/// RFC 4862 §5.4.
fn linux_does_not_take_an_ipv6_vip_that_it_probes_for(lab: &Lab, mode: Mode) -> Result<()> {
    let node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    client.sysctl("net.ipv6.conf.eth0.accept_dad", "1")?;
    client.sysctl("net.ipv6.conf.eth0.router_solicitation_delay", "0")?;
    let wire = client.capture("eth0")?;
    client.ip(&format!("address add {VIP_V6}/64 dev eth0"))?;

    wait_for("a failed address", || {
        let addresses = client.ip("-6 address show dev eth0")?;
        let failed = |line: &&str| line.contains("fd00::240/64") && line.contains("dadfailed");
        Ok(addresses.lines().find(failed).map(drop))
    })?;
    let expected = Message::Advertisement {
        source: VIP_V6,
        destination: ALL_NODES,
        flags: Flags::OVERRIDE,
        target: VIP_V6,
        mac: Some(node.host.eth0.mac),
    };
    let told = wire.wait_for(|frame| Message::of(frame) == Some(expected), SOON)?;
    assert_eq!(told.destination(), ALL_NODES_MAC);
    Ok(())
}

fn arping_and_ndisc6_find_a_vip(lab: &Lab, mode: Mode) -> Result<()> {
    let node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    let mac = message::text(node.host.eth0.mac);

    let arping = ["-f", "-w", "5", "-I", "eth0", &VIP_V4.to_string()];
    let said = client.command("arping").args(arping).run()?;
    let found = format!("Unicast reply from {VIP_V4} [{mac}]");
    assert!(said.contains(&found), "{said}");

    let ndisc6 = ["-1", "-r", "5", &VIP_V6.to_string(), "eth0"];
    let said = client.command("ndisc6").args(ndisc6).run()?;
    let found = format!("Target link-layer address: {mac}");
    assert!(said.contains(&found), "{said}");
    Ok(())
}

/// RFC 5227 §2.1.1.
fn arping_finds_that_an_ipv4_vip_is_taken(lab: &Lab, mode: Mode) -> Result<()> {
    let _node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    let detect = |address: &str| {
        let arguments = ["-D", "-c", "1", "-w", "1", "-I", "eth0", address];
        client.command("arping").args(arguments).output()
    };
    let taken = detect(&VIP_V4.to_string())?;
    assert_eq!(taken.status.code(), Some(1), "{taken:?}");
    assert!(taken.stdout.contains("Received 1 response"), "{taken:?}");
    let free = detect("10.0.0.241")?;
    assert_eq!(free.status.code(), Some(0), "{free:?}");
    Ok(())
}

fn smoltcp_resolves_a_vip_and_is_answered_from_behind_it(lab: &Lab, mode: Mode) -> Result<()> {
    let node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    serve_pings(&node)?;
    let wire = client.capture("eth0")?;
    // Like other hosts, it answers a solicitation from a link-local address from its own.
    for (vip, own) in [
        (VIPS[0], &["10.0.0.99/24"][..]),
        (VIPS[1], &["fd00::99/64", "fe80::99/64"]),
    ] {
        Stack::new(&client, own)?.ping(vip, SOON)?;
        let answers: u64 = node.vip(vip)?.counts.iter().map(|it| it.answered).sum();
        assert_eq!(answers, 1, "{vip}: the program answers, and once");
    }
    let frames = wire.frames();
    let mut echoes = frames.iter().filter(|frame| {
        frame.source() == smoltcp_stack::MAC && frame.destination() == node.host.eth0.mac
    });
    assert!(echoes.next().is_some(), "whom did it ping? {frames:?}");
    Ok(())
}

/// Its decoder checks lengths, checksums, duplicate addresses, and much more.
fn tshark_finds_no_fault_with_any_reply(lab: &Lab, mode: Mode) -> Result<()> {
    let mut node = Node::new(lab, "node-a", mode)?;
    let client = lab.host("client")?;
    let wire = client.capture("eth0")?;
    node.serve("web", &VIPS)?;
    node.start()?;
    let (ours, its) = (node.host.eth0.mac, client.eth0.mac);
    for vip in VIPS {
        send_to(&client, vip)?;
        wait_for("a neighbor", || neighbor(&client, vip))?;
    }
    let socket = client.raw("eth0")?;
    let duplicate_address_detection = Message::Solicitation {
        source: "::".parse()?,
        destination: message::solicited_node(VIP_V6),
        target: VIP_V6,
        mac: None,
    };
    let group = message::group_mac(message::solicited_node(VIP_V6));
    socket.send(&duplicate_address_detection.frame(its, group))?;
    let probe = Message::arp_request(([0; 4].into(), its), VIP_V4);
    socket.send(&probe.frame(its, message::BROADCAST))?;
    // Padded, as on links that are not virtual.
    let mut padded = Message::arp_request((client.eth0.ipv4, its), VIP_V4).frame(its, ours);
    padded.resize(60, 0);
    socket.send(&padded)?;

    // Answers to two datagrams, three raw requests; announcements: ARP in two forms, and NA.
    const REPLIES: usize = 5 + 3;
    wait_for("all replies", || {
        let from_node = wire
            .frames()
            .iter()
            .filter(|it| it.source() == ours)
            .count();
        Ok((from_node >= REPLIES).then_some(()))
    })?;

    let file = tempfile::NamedTempFile::new()?;
    wire.save(file.path())?;
    let from_node = format!("eth.src == {}", message::text(ours));
    let all = tshark(&client, file.path(), &from_node)?;
    assert!(all.len() >= REPLIES, "{all:#?}");
    let faults =
        "_ws.malformed || _ws.expert.severity >= \"Warning\" || icmpv6.checksum.status != 1";
    let faulty = tshark(&client, file.path(), &format!("{from_node} && ({faults})"))?;
    assert!(faulty.is_empty(), "{faulty:#?}");
    let good = "icmpv6.type == 136 && icmpv6.checksum.status == 1";
    let good = tshark(&client, file.path(), &format!("{from_node} && {good}"))?;
    assert!(good.len() >= 3, "{all:#?}");
    Ok(())
}

/// The frames of a file that match a display filter, one line each.
fn tshark(host: &Host, file: &std::path::Path, filter: &str) -> Result<Vec<String>> {
    let output = host
        .command("tshark")
        .arg("-r")
        .arg(file)
        .args(["-Y", filter])
        .limit(Duration::from_secs(30))
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(output.stdout.lines().map(str::to_owned).collect())
}

/// Makes the node answer echo requests to the VIPs, as if there were a Service behind them.
fn serve_pings(node: &Node) -> Result<()> {
    node.host.ip(&format!("address add {VIP_V4}/32 dev lo"))?;
    node.host.ip(&format!("address add {VIP_V6}/128 dev lo"))?;
    // The kernel adds it first and routes to it a moment later.
    wait_until("the VIP has a route", || {
        let routes = node.host.ip("-6 route show table local")?;
        Ok(routes.contains(&VIP_V6.to_string()))
    })
}

/// The Ethernet destinations of the requests for a VIP that a host has sent.
fn requests_for(wire: &Capture, vip: IpAddr) -> Vec<Mac> {
    let is_request = |message: Message| match message {
        Message::Arp {
            operation: ArpOperation::Request,
            target,
            ..
        } => IpAddr::V4(target.0) == vip,
        Message::Solicitation { target, .. } => IpAddr::V6(target) == vip,
        _ => false,
    };
    let frames = wire.frames().into_iter();
    frames
        .filter(|frame| frame.sent && Message::of(frame).is_some_and(is_request))
        .map(|frame| frame.destination())
        .collect()
}
