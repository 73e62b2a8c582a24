//! A VIP is answered in its VLAN, and in no other.

use std::net::IpAddr;

use anyhow::Result;
use smoltcp::wire::ArpOperation;
use speaker_common::layout::LAYOUT_VERSION;
use speaker_tests::{
    agent::{Mode, Node},
    lab::{self, Frame, Host, Lab},
    manifest,
    message::{self, Message},
};

use crate::{MEANWHILE, VIP_V4, VIPS, answer, in_each_mode, wait_until};

in_each_mode! {
    an_untagged_vip_is_not_answered_behind_a_tag,
    a_vip_of_a_vlan_is_answered_behind_its_tag_alone,
}

fn an_untagged_vip_is_not_answered_behind_a_tag(lab: &Lab, mode: Mode) -> Result<()> {
    let node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    node.host.eth0.port.put_tags_inline()?;
    assert_eq!(replies(&node, &client, &[])?, [[0_u16; 0]]);
    // A priority without a VLAN (IEEE 802.1Q §9.6).
    assert_eq!(replies(&node, &client, &[0])?, [[0]]);
    for vlans in [&[100][..], &[4094], &[100, 200], &[0, 100]] {
        assert!(
            replies(&node, &client, vlans)?.is_empty(),
            "behind {vlans:?}"
        );
    }
    Ok(())
}

/// An agent makes such an entry for VLAN devices; here the map is written directly, for kernels
/// without them.
fn a_vip_of_a_vlan_is_answered_behind_its_tag_alone(lab: &Lab, mode: Mode) -> Result<()> {
    let node = Node::serving(lab, mode, &VIPS)?;
    let client = lab.host("client")?;
    node.host.eth0.port.put_tags_inline()?;
    let bpftool = |command: &str, vlans: [u16; 2]| {
        let map = format!("map {command} pinned /sys/fs/bpf/speaker/v{LAYOUT_VERSION}/vips_v4 key");
        let port: u32 = 2;
        let vlans = vlans.map(u16::to_ne_bytes);
        let key = [
            &VIP_V4.octets()[..],
            &port.to_ne_bytes(),
            vlans.as_flattened(),
        ]
        .concat();
        let key = key.iter().map(u8::to_string);
        let answers = "1 0 0 0 0 0 0 0";
        let value = match command {
            "update" => format!("value {answers}"),
            _ => String::new(),
        };
        let words = map.split(' ').map(str::to_owned).chain(key);
        let words = words.chain(value.split_whitespace().map(str::to_owned));
        node.host.command("bpftool").args(words).run()
    };
    bpftool("delete", [0, 0])?;
    for (entry, tags) in [([100, 0], &[100][..]), ([100, 5], &[5, 100])] {
        bpftool("update", entry)?;
        assert_eq!(replies(&node, &client, tags)?, [tags]);
        let others = [&[][..], &[0], &[5], &[100], &[101], &[5, 100], &[100, 5]];
        for others in others.into_iter().filter(|it| *it != tags) {
            let replies = replies(&node, &client, others)?;
            assert!(
                replies.is_empty(),
                "of {tags:?} behind {others:?}: {replies:?}"
            );
        }
        bpftool("delete", entry)?;
    }
    Ok(())
}

#[test]
fn a_vlan_device_answers_only_in_its_vlan() {
    lab::test(|lab| {
        lab.needs("vlan")?;
        let mut node = Node::new(lab, "node-a", Mode::Generic)?;
        let client = lab.host("client")?;
        let other = lab.host("other-client")?;
        for (host, number) in [(&node.host, 1), (&client, 2)] {
            host.ip("link add link eth0 name eth0.100 type vlan id 100")?;
            host.ip("link set eth0.100 up")?;
            host.ip(&format!("address add 10.0.100.{number}/24 dev eth0.100"))?;
        }
        let pool = manifest::pool("all", &["10.0.0.0/8"]);
        let advertisement = manifest::advertisement("all", &["all"], &["eth0.100"]);
        node.manifests
            .write("pools.yaml", &(pool.clone() + &advertisement))?;
        let vip: IpAddr = "10.0.100.240".parse()?;
        node.serve("web", &[vip])?;
        node.start()?;
        assert_eq!(node.state(vip)?, "answering");
        crate::send_to(&client, vip)?;
        wait_until("it is resolved in the VLAN", || {
            let known = client.ip(&format!("neigh show {vip} dev eth0.100"))?;
            Ok(known.contains("REACHABLE"))
        })?;
        assert_eq!(answer(&other, &other.eth0, vip)?, None);

        // The program cannot tell the frames of eth0 from those of its VLANs.
        let advertisement = manifest::advertisement("all", &["all"], &["eth0"]);
        node.manifests
            .write("pools.yaml", &(pool + &advertisement))?;
        wait_until("it is refused", || {
            Ok(node
                .state(vip)?
                .contains("hides VLAN tags from the program and carries eth0.100"))
        })
    });
}

/// Asks for the IPv4 VIP with these tags, and returns the tags of each answer.
fn replies(node: &Node, client: &Host, vlans: &[u16]) -> Result<Vec<Vec<u16>>> {
    let socket = client.raw("eth0")?;
    let its = client.eth0.mac;
    let request = Message::arp_request((client.eth0.ipv4, its), VIP_V4);
    socket.send(&request.tagged_frame(its, message::BROADCAST, vlans))?;
    let reply = Message::Arp {
        operation: ArpOperation::Reply,
        sender: (VIP_V4, node.host.eth0.mac),
        target: (client.eth0.ipv4, its),
    };
    let is_reply =
        |frame: &Frame| Message::read(frame.ether_type(), frame.payload()) == Some(reply);
    let mut tags = Vec::new();
    while let Ok(frame) = socket.receive_matching(MEANWHILE, is_reply) {
        tags.push(frame.tags().iter().map(|tag| tag.vlan).collect());
    }
    Ok(tags)
}
