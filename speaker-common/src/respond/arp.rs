//! ARP (RFC 826, RFC 5227).

use super::{Asked, Reason, Records, Tables, Verdict, answer, claimed, ethernet::Arrival, silence};
use crate::{
    frame::Frame,
    layout::{Action, EventKind, FilterBit, VipKeyV4, Vlan},
    wire::{
        BROADCAST,
        arp::{HEAD_REPLY, HEAD_REQUEST},
        words::{Arp, Station, Stations},
    },
};

const REQUEST: u64 = u64::from_ne_bytes(HEAD_REQUEST);
const REPLY: u64 = u64::from_ne_bytes(HEAD_REPLY);
const UNSPECIFIED: u32 = 0;

#[inline(always)]
pub(super) fn handle(
    frame: &mut impl Frame,
    payload: usize,
    vlan: Vlan,
    node: &(impl Tables + Records),
) -> Result<Verdict, Reason> {
    let arp: Arp = frame.load(payload).ok_or(Reason::ArpTruncated)?;
    let request = arp.head == REQUEST;
    if !request && arp.head != REPLY {
        return Err(malformed(arp.head));
    }
    // An announcement is a request in form only (RFC 5227 §3). It needs no answer, and the node's
    // own kernel has to see it.
    let asks = request && arp.tpa != arp.spa && listed(node, arp.tpa);
    let claims = listed(node, arp.spa);
    if !asks && !claims {
        return Ok(Verdict::Pass);
    }

    let arrival = Arrival::of(frame, node, |to| to == Station::new(BROADCAST))?;
    let vip = |address: u32| {
        node.vip_v4(&VipKeyV4 {
            address: address.to_ne_bytes(),
            port: arrival.port,
            vlan,
        })
    };
    let mut asked = Asked::NotOurs;
    let mut slot = 0;
    if asks && let Some(vip) = vip(arp.tpa) {
        asked = Asked::of(vip, node);
        slot = vip.slot;
    }
    // Suppression comes before claims: whatever the sender claims, the node's own kernel must not
    // answer for a VIP of another node.
    match asked {
        Asked::Suppressed => return Ok(silence(frame, node, slot, EventKind::Suppressed)),
        Asked::Refused => return Ok(silence(frame, node, slot, EventKind::Refused)),
        Asked::NotOurs | Asked::Answer => {}
    }
    // RFC 5227 §2.4: the sender address is ours, but the hardware address is not.
    if claims
        && arp.sha != arrival.local
        && let Some(vip) = vip(arp.spa)
        && vip.action == Action::Answer
    {
        return Ok(claimed(frame, node));
    }
    if asked == Asked::NotOurs {
        return Ok(Verdict::Pass);
    }
    // The reply goes to the Ethernet source of the request, whatever sender the message names.
    if arp.sha != arrival.sender {
        node.count_reason(Reason::SenderDiffers);
    }
    // RFC 5227 §2.1.1: a probe has no sender address.
    let probe = arp.spa == UNSPECIFIED;
    Ok(answer(frame, node, slot, probe, |frame| {
        write(frame, payload, arrival)
    }))
}

#[inline(always)]
fn listed(tables: &impl Tables, address: u32) -> bool {
    tables.listed(FilterBit::v4(&address.to_ne_bytes()))
}

/// Why a message is neither a request nor a reply.
#[inline(always)]
fn malformed(head: u64) -> Reason {
    let [format @ .., _, _] = head.to_ne_bytes();
    let [expected @ .., _, _] = HEAD_REQUEST;
    if format == expected {
        Reason::ArpOperation
    } else {
        Reason::ArpFormat
    }
}

/// RFC 826, "Packet Reception": swap the hardware and protocol fields, and send the packet back.
#[inline(always)]
fn write(frame: &mut impl Frame, payload: usize, arrival: Arrival) -> Option<()> {
    let Arrival { local, sender, .. } = arrival;
    let request: Arp = frame.load(payload)?;
    let stations = Stations {
        destination: sender,
        source: local,
    };
    frame.store(0, stations)?;
    frame.store(
        payload,
        Arp {
            head: REPLY,
            sha: local,
            spa: request.tpa,
            tha: request.sha,
            tpa: request.spa,
        },
    )
}
