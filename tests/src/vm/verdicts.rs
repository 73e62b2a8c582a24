//! The loaded program and the host's function, on the same frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use speaker_common::{
    frame::Bytes,
    layout::{Action, Link, Vip, VipKeyV4, VipKeyV6},
    lease::Standing,
    respond::{self, Decision, Tables},
    wire::{Mac, checksum::Sum},
};

use super::responder;

/// `XDP_PASS` and `XDP_TX` of the kernel's `enum xdp_action`.
const PASS: u32 = 2;
const TX: u32 = 3;

/// Where frames of a test run come in: the loopback interface.
const IFINDEX: u32 = 1;

const NODE_MAC: Mac = [0x02, 0, 0, 0, 0, 0x01];
const CLIENT_MAC: Mac = [0x02, 0, 0, 0, 0, 0x02];
const CLIENT_V4: [u8; 4] = [192, 0, 2, 2];
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const VIP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

/// A node that answers for both VIPs.
struct Node;

impl Tables for Node {
    fn link(&self) -> Option<Link> {
        Some(Link::new(NODE_MAC, IFINDEX))
    }

    fn vip_v4(&self, key: &VipKeyV4) -> Option<Vip> {
        (key.address == VIP_V4.octets()).then_some(Vip::new(Action::Answer, 0))
    }

    fn vip_v6(&self, key: &VipKeyV6) -> Option<Vip> {
        (key.address == VIP_V6.octets()).then_some(Vip::new(Action::Answer, 1))
    }

    fn standing(&self) -> Standing {
        Standing::Valid
    }
}

pub(super) fn arp_request() -> Result<()> {
    agree(&arp_for(VIP_V4), TX)
}

pub(super) fn neighbor_solicitation() -> Result<()> {
    agree(&solicitation(), TX)
}

pub(super) fn somebody_else() -> Result<()> {
    agree(&arp_for(Ipv4Addr::new(192, 0, 2, 11)), PASS)
}

/// The program does to a frame what the function does, and that is `action`.
fn agree(frame: &[u8], action: u32) -> Result<()> {
    let kernel = responder::with(|responder| {
        responder.answer(IFINDEX, NODE_MAC, &[IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)])?;
        responder.judge(frame)
    })?;

    let mut bytes = Bytes::<128>::new(frame).expect("the frame is short");
    let decision = respond::decide(&bytes, &Node);
    let host = match decision {
        Decision::Answer(answer) => {
            respond::write(&mut bytes, &answer).expect("there is room");
            TX
        }
        _ => PASS,
    };
    ensure!(host == action, "the host's function decides {decision:?}");
    ensure!(
        kernel == (host, bytes.as_slice().to_vec()),
        "the program's verdict is {kernel:02x?}, the host's {:02x?}",
        (host, bytes.as_slice())
    );
    Ok(())
}

/// RFC 826, from the client to all.
fn arp_for(vip: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend([0xff; 6]);
    frame.extend(CLIENT_MAC);
    frame.extend([0x08, 0x06]);
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(CLIENT_MAC);
    frame.extend(CLIENT_V4);
    frame.extend([0; 6]);
    frame.extend(vip.octets());
    frame
}

/// RFC 4861 §4.3, with the client's link-layer address.
fn solicitation() -> Vec<u8> {
    let [.., x, y, z] = VIP_V6.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(x),
        u16::from_be_bytes([y, z]),
    );
    let mut message = [0; 32];
    message[0] = 135;
    message[8..24].copy_from_slice(&VIP_V6.octets());
    message[24..26].copy_from_slice(&[1, 1]);
    message[26..].copy_from_slice(&CLIENT_MAC);
    let sum = Sum::icmpv6(&CLIENT_V6.octets(), &group.octets(), 32).add(&message);
    message[2..4].copy_from_slice(&sum.finish());

    let mut frame = Vec::new();
    frame.extend([0x33, 0x33, 0xff, x, y, z]);
    frame.extend(CLIENT_MAC);
    frame.extend([0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend(CLIENT_V6.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}
