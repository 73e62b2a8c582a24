//! Solicited-node groups of IPv6 VIPs: the kernel is a member as long as it answers.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::Result;
use speaker_tests::{
    agent::{Mode, Node},
    lab::{self, Frame, Host},
    message,
};

use crate::{VIP_V4, VIP_V6, VIPS, answer, wait_until};

/// The switch forgets members that have not reported for three seconds.
const FORGOTTEN: Duration = Duration::from_secs(4);

#[test]
fn a_vip_is_solicited_behind_a_snooping_switch_while_the_agent_is_away() {
    lab::test(|lab| {
        lab.snoop();
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let client = lab.host("client")?;
        let vip = IpAddr::V6(VIP_V6);
        let mac = Some(node.host.eth0.mac);
        let wire = node.host.eth0.port.capture()?;

        // This one announces its return.
        node.stop()?;
        thread::sleep(FORGOTTEN);
        assert!(is_member(&node.host, "eth0")?);
        assert_eq!(answer(&client, &client.eth0, vip)?, mac);
        let nobodys = "fd00::777".parse()?;
        assert_eq!(answer(&client, &client.eth0, IpAddr::V6(nobodys))?, None);
        let to_nobody = message::group_mac(message::solicited_node(nobodys));
        let stray = wire.frames().iter().any(|it| it.destination() == to_nobody);
        assert!(
            !stray,
            "the switch does not snoop: this test proves nothing"
        );

        node.start()?;
        node.agent().kill()?;
        assert!(is_member(&node.host, "eth0")?);
        node.start()?;
        thread::sleep(FORGOTTEN);
        assert_eq!(answer(&client, &client.eth0, vip)?, mac);
        let done = wire.frames().iter().filter(|it| leaves(it)).count();
        assert_eq!(done, 0, "a group was left that is still wanted");

        node.serve("web", &[VIP_V4.into()])?;
        wait_until("the group of a VIP that is gone to be left", || {
            Ok(!is_member(&node.host, "eth0")?)
        })?;
        wire.wait_for(leaves, FORGOTTEN)?;
        Ok(())
    });
}

#[test]
fn detaching_leaves_the_groups() {
    lab::test(|lab| {
        let mut node = Node::serving(lab, Mode::Generic, &VIPS)?;
        node.stop()?;
        assert!(is_member(&node.host, "eth0")?);
        let said = node.speaker("detach")?.run()?;
        assert!(said.contains("left 1 IPv6 group\n"), "{said}");
        assert!(!is_member(&node.host, "eth0")?);
        Ok(())
    });
}

#[test]
fn groups_dropped_by_the_kernel_are_rejoined() {
    lab::test(|lab| {
        let node = Node::serving(lab, Mode::Generic, &VIPS)?;
        let host = &node.host;
        let is_joined_again = |after: &str| {
            let what = format!("the group to be joined again after {after}");
            wait_until(&what, || is_member(host, "eth0"))
        };
        let small_mtu = ("mtu 1279", "mtu 1500");
        for (takes, gives) in [("down", "up"), small_mtu] {
            host.ip(&format!("link set eth0 {takes}"))?;
            assert!(!is_member(host, "eth0")?, "{takes}");
            host.ip(&format!("link set eth0 {gives}"))?;
            is_joined_again(gives)?;
        }
        let switch_ipv6 = |setting| host.sysctl("net.ipv6.conf.eth0.disable_ipv6", setting);
        switch_ipv6("1")?;
        switch_ipv6("0")?;
        is_joined_again("IPv6 is back")?;

        // While the kernel still checks that the link-local address is unique.
        host.sysctl("net.ipv6.conf.default.accept_dad", "1")?;
        host.ip(&format!("link set eth0 {}", small_mtu.0))?;
        host.ip(&format!("link set eth0 {}", small_mtu.1))?;
        is_joined_again(small_mtu.1)?;
        switch_ipv6("1")?;
        switch_ipv6("0")?;
        is_joined_again("IPv6 is back soon")
    });
}

/// Whether the kernel is in the group of the IPv6 VIP.
pub(crate) fn is_member(host: &Host, link: &str) -> Result<bool> {
    let groups = host.ip(&format!("-6 maddr show dev {link}"))?;
    Ok(groups.contains(&message::solicited_node(VIP_V6).to_string()))
}

/// Whether this is an MLD Done (RFC 2710 §3.1) for the group of the IPv6 VIP, after the options
/// that such messages have.
fn leaves(frame: &Frame) -> bool {
    const TYPE: usize = 40 + 8;
    const DONE: u8 = 132;
    let group = message::solicited_node(VIP_V6).octets();
    let message = frame.payload().get(TYPE..).unwrap_or_default();
    frame.ether_type() == 0x86dd
        && message.first() == Some(&DONE)
        && message.get(8..24) == Some(&group)
}
