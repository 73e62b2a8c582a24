//! ARP (RFC 826, RFC 5227).

use network_types::arp::ArpHdr;

use super::{Addresses, Answer, Asked, Decision, Protocol, Reason, Tables, addressed, owned};
use crate::{
    frame::Frame,
    layout::{VipKeyV4, Vlan},
    wire::{
        BROADCAST,
        arp::{HARDWARE_ETHERNET, PROTOCOL_IPV4, REPLY, REQUEST},
    },
};

const UNSPECIFIED: [u8; 4] = [0; 4];

#[inline(always)]
pub(super) fn decide(
    frame: &impl Frame,
    payload: usize,
    vlan: Vlan,
    tables: &impl Tables,
) -> Decision {
    let Some(arp) = frame.load::<ArpHdr>(payload) else {
        return Decision::Reject(Reason::ArpTruncated);
    };
    if (arp.htype, arp.ptype, arp.hlen, arp.plen) != (HARDWARE_ETHERNET, PROTOCOL_IPV4, 6, 4) {
        return Decision::Reject(Reason::ArpFormat);
    }
    let request = arp.oper == REQUEST;
    if !request && arp.oper != REPLY {
        return Decision::Reject(Reason::ArpOperation);
    }
    let (link, addresses) = match addressed(frame, tables, |to, link| {
        *to == BROADCAST || *to == link.mac
    }) {
        Ok(addressed) => addressed,
        Err(reason) => return Decision::Reject(reason),
    };
    let vip = |address| {
        tables.vip_v4(&VipKeyV4 {
            address,
            port: link.port,
            vlan,
        })
    };

    // The silence comes before the claim: whatever the sender says of itself, the node's own
    // kernel must not answer it for a VIP that is another node's.
    let asked = if request {
        Asked::of(vip(arp.tpa), tables)
    } else {
        Asked::NotOurs
    };
    if let Asked::Silence(decision) = asked {
        return decision;
    }
    // RFC 5227 §2.4: a sender address that is ours, with a hardware address that is not.
    if arp.sha != link.mac
        && let Some(slot) = owned(vip(arp.spa))
    {
        return Decision::Claimed { slot };
    }
    match asked {
        Asked::Answer { slot } => Decision::Answer(Answer {
            slot,
            mac: link.mac,
            // RFC 5227 §2.1.1: a probe has no sender address.
            probe: arp.spa == UNSPECIFIED,
            sender_differs: arp.sha != addresses.source,
            protocol: Protocol::Arp,
            payload,
        }),
        Asked::NotOurs | Asked::Silence(_) => Decision::Pass,
    }
}

/// RFC 826, "Packet Reception": swap the hardware and protocol fields, and send the packet back.
#[inline(always)]
pub(super) fn write(frame: &mut impl Frame, answer: &Answer) -> Option<()> {
    let request = frame.load::<ArpHdr>(answer.payload)?;
    let addresses = Addresses::load(frame)?;
    addresses.reply(answer.mac).store(frame)?;
    frame.store(
        answer.payload,
        ArpHdr {
            oper: REPLY,
            sha: answer.mac,
            spa: request.tpa,
            tha: request.sha,
            tpa: request.spa,
            ..request
        },
    )
}
