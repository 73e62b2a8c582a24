//! ARP (RFC 826, RFC 5227).

use network_types::arp::ArpHdr;

use super::{
    Asked, Reason, Records, Tables, Verdict, answer, claimed,
    ethernet::{Addresses, addressed},
    silence,
};
use crate::{
    frame::Frame,
    layout::{Action, EventKind, FilterBit, VipKeyV4, Vlan},
    wire::{
        BROADCAST, Mac,
        arp::{HARDWARE_ETHERNET, PROTOCOL_IPV4, REPLY, REQUEST},
    },
};

const UNSPECIFIED: [u8; 4] = [0; 4];

#[inline(always)]
pub(super) fn handle(
    frame: &mut impl Frame,
    payload: usize,
    vlan: Vlan,
    node: &(impl Tables + Records),
) -> Result<Verdict, Reason> {
    let arp: ArpHdr = frame.load(payload).ok_or(Reason::ArpTruncated)?;
    if (arp.htype, arp.ptype, arp.hlen, arp.plen) != (HARDWARE_ETHERNET, PROTOCOL_IPV4, 6, 4) {
        return Err(Reason::ArpFormat);
    }
    let request = arp.oper == REQUEST;
    if !request && arp.oper != REPLY {
        return Err(Reason::ArpOperation);
    }
    // An announcement is a request in form only (RFC 5227 §3): it asks nothing, and the node's
    // own kernel needs it.
    let asks = request && arp.tpa != arp.spa && node.listed(FilterBit::v4(&arp.tpa));
    let claims = node.listed(FilterBit::v4(&arp.spa));
    if !asks && !claims {
        return Ok(Verdict::Pass);
    }

    let (link, addresses) = addressed(frame, node, |to, link| *to == BROADCAST || *to == link.mac)?;
    let vip = |address| {
        node.vip_v4(&VipKeyV4 {
            address,
            port: link.port,
            vlan,
        })
    };
    let mut asked = Asked::NotOurs;
    let mut slot = 0;
    if asks && let Some(vip) = vip(arp.tpa) {
        asked = Asked::of(vip, node);
        slot = vip.slot;
    }
    // The silence comes before the claim: whatever the sender says of itself, the node's own
    // kernel must not answer it for a VIP that is another node's.
    match asked {
        Asked::Suppressed => return Ok(silence(frame, node, slot, EventKind::Suppressed)),
        Asked::Refused => return Ok(silence(frame, node, slot, EventKind::Refused)),
        Asked::NotOurs | Asked::Answer => {}
    }
    // RFC 5227 §2.4: a sender address that is ours, with a hardware address that is not.
    if claims
        && arp.sha != link.mac
        && let Some(vip) = vip(arp.spa)
        && vip.action == Action::Answer
    {
        return Ok(claimed(frame, node));
    }
    if asked == Asked::NotOurs {
        return Ok(Verdict::Pass);
    }
    // The reply goes back to where the request came from, whatever the message says of its
    // sender.
    if arp.sha != addresses.source {
        node.count_reason(Reason::SenderDiffers);
    }
    // RFC 5227 §2.1.1: a probe has no sender address.
    let probe = arp.spa == UNSPECIFIED;
    Ok(answer(frame, node, slot, probe, |frame| {
        write(frame, payload, link.mac)
    }))
}

/// RFC 826, "Packet Reception": swap the hardware and protocol fields, and send the packet back.
#[inline(always)]
fn write(frame: &mut impl Frame, payload: usize, mac: Mac) -> Option<()> {
    let request: ArpHdr = frame.load(payload)?;
    Addresses::load(frame)?.reply(mac).store(frame)?;
    frame.store(
        payload,
        ArpHdr {
            oper: REPLY,
            sha: mac,
            spa: request.tpa,
            tha: request.sha,
            tpa: request.spa,
            ..request
        },
    )
}
