//! Kinds of links that VIPs are answered on, other than cards and VLANs.

use std::{fs, net::IpAddr, thread};

use anyhow::{Context as _, Result};
use speaker_tests::{
    agent::{Mode, Node},
    lab::{self, Host},
    message::{Mac, Message},
};

use crate::{MEANWHILE, VIPS, answer, groups::is_member, wait_until};

/// In networks of the macvlan only; they share no group with those of `eth0`.
const ABOVE: [&str; 2] = ["10.0.100.241", "fd00:100::241"];

fn above() -> [IpAddr; 2] {
    ABOVE.map(|vip| vip.parse().expect("it is written down here"))
}

/// Its frames are the ports' too.
#[test]
fn a_vip_on_a_bridge_is_answered_once() {
    lab::test(|lab| {
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        let host = &node.host;
        host.ip("link add br0 type bridge forward_delay 0")?;
        host.ip("address flush dev eth0")?;
        host.ip("link set eth0 master br0")?;
        host.ip("link set br0 up")?;
        host.ip("address add 10.0.0.1/24 dev br0")?;
        host.ip("address add fd00::1/64 dev br0 nodad")?;
        node.serve("web", &VIPS)?;
        node.start()?;
        let mac = mac(&node.host, "br0")?;
        for vip in VIPS {
            let place = &node.vip(vip)?.places[0];
            assert_eq!((&*place.link, &*place.state), ("br0", "answering"));
        }
        are_answered_once(&client, &VIPS, mac)
    });
}

#[test]
fn vips_on_a_macvlan_and_its_parent_are_answered_separately() {
    lab::test(|lab| {
        lab.needs("macvlan")?;
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        node.host
            .ip("link add link eth0 name mv0 type macvlan mode bridge")?;
        node.host.ip("link set mv0 up")?;
        for (host, link, number) in [(&node.host, "mv0", 1), (&client, "eth0", 2)] {
            host.ip(&format!("address add 10.0.100.{number}/24 dev {link}"))?;
            host.ip(&format!(
                "address add fd00:100::{number}/64 dev {link} nodad"
            ))?;
        }
        node.serve("above", &above())?;
        node.start()?;
        let own = mac(&node.host, "mv0")?;
        are_answered_once(&client, &above(), own)?;

        // The program on the macvlan makes way for the one on the card, and its groups stay.
        node.serve("web", &VIPS)?;
        for vip in VIPS.into_iter().chain(above()) {
            wait_until("it is answered", || {
                Ok(node.state(vip).is_ok_and(|state| state == "answering"))
            })?;
        }
        are_answered_once(&client, &VIPS, node.host.eth0.mac)?;
        are_answered_once(&client, &above(), own)?;
        assert!(is_member(&node.host, "eth0")?);
        let groups = node.host.ip("-6 maddr show dev mv0")?;
        assert!(groups.contains("ff02::1:ff00:241"), "{groups}");
        Ok(())
    });
}

/// Asks for each VIP once, and waits for more than one answer.
fn are_answered_once(client: &Host, vips: &[IpAddr], by: Mac) -> Result<()> {
    for &vip in vips {
        let seen = client.capture("eth0")?;
        assert_eq!(answer(client, &client.eth0, vip)?, Some(by), "{vip}");
        thread::sleep(MEANWHILE);
        let frames = seen.frames();
        let answers = frames.iter().filter(|frame| {
            let is_answer = Message::of(frame).is_some_and(|it| it.says(vip, frame.source()));
            // Announcements are to all.
            is_answer && !frame.sent && frame.destination() == client.eth0.mac
        });
        assert_eq!(answers.count(), 1, "{vip}");
    }
    Ok(())
}

fn mac(host: &Host, link: &str) -> Result<Mac> {
    let text = host.run(|| fs::read_to_string(format!("/sys/class/net/{link}/address")))?;
    let bytes = text
        .trim()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("a MAC has six bytes")
}
