//! Neighbor Discovery (RFC 4861 §7, RFC 4862 §5.4).

use network_types::ip::Ipv6Hdr;

use super::{
    Addresses, Answer, Asked, Decision, MAX_OPTION_UNITS, Protocol, Reason, Tables, addressed,
    owned,
};
use crate::{
    frame::Frame,
    layout::{VipKeyV6, Vlan},
    wire::{
        Mac,
        checksum::Sum,
        is_group,
        nd::{
            ADVERTISEMENT, ADVERTISEMENT_LENGTH, ALL_NODES, ALL_NODES_MAC, FLAG_OVERRIDE,
            FLAG_SOLICITED, HOP_LIMIT, LinkLayerOption, Message, NEXT_HEADER, OPTION_SOURCE,
            OPTION_TARGET, SOLICITATION, UNSPECIFIED, advertisement, is_multicast,
            is_solicited_node,
        },
    },
};

/// Where an IPv6 header has its next header and hop limit.
const NEXT_HEADER_AT: usize = 6;

#[inline(always)]
pub(super) fn decide(
    frame: &impl Frame,
    payload: usize,
    vlan: Vlan,
    tables: &impl Tables,
) -> Decision {
    let Some([next_header, _]) = frame.load::<[u8; 2]>(payload + NEXT_HEADER_AT) else {
        return Decision::Pass;
    };
    let at = payload + Ipv6Hdr::LEN;
    if next_header != NEXT_HEADER {
        return if hides_nd(frame, next_header, at) {
            Decision::Reject(Reason::NdExtension)
        } else {
            Decision::Pass
        };
    }
    match frame.load::<[u8; 2]>(at) {
        Some([SOLICITATION | ADVERTISEMENT, _]) => {
            judge(frame, payload, vlan, tables).unwrap_or_else(Decision::Reject)
        }
        _ => Decision::Pass,
    }
}

/// Whether the first extension header is followed by a solicitation or advertisement. Longer
/// chains are not followed.
#[inline(always)]
fn hides_nd(frame: &impl Frame, next_header: u8, at: usize) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    if !matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
        return false;
    }
    let Some([NEXT_HEADER, length]) = frame.load::<[u8; 2]>(at) else {
        return false;
    };
    // RFC 8200 §4.3: in units of eight bytes, not counting the first; §4.5: a fragment header has
    // no length.
    let more = if next_header == FRAGMENT { 0 } else { length };
    let behind = at + 8 + 8 * usize::from(more);
    matches!(
        frame.load::<[u8; 2]>(behind),
        Some([SOLICITATION | ADVERTISEMENT, _])
    )
}

#[inline(always)]
fn judge(
    frame: &impl Frame,
    payload: usize,
    vlan: Vlan,
    tables: &impl Tables,
) -> Result<Decision, Reason> {
    let at = payload + Ipv6Hdr::LEN;
    let ip: Ipv6Hdr = frame.load(payload).ok_or(Reason::NdLength)?;
    let message: Message = frame.load(at).ok_or(Reason::NdLength)?;

    // RFC 4861 §7.1.1 and §7.1.2, the parts that cost nothing.
    if ip.hop_limit != HOP_LIMIT {
        return Err(Reason::NdHopLimit);
    }
    if message.code != 0 {
        return Err(Reason::NdCode);
    }
    let length = u16::from_be_bytes(ip.payload_len);
    let Some(options) = length.checked_sub(size_of::<Message>() as u16) else {
        return Err(Reason::NdLength);
    };
    if is_multicast(&message.target) {
        return Err(Reason::NdTarget);
    }
    let (link, addresses) = addressed(frame, tables, |to, link| is_group(to) || *to == link.mac)?;
    let vip = tables.vip_v6(&VipKeyV6 {
        address: message.target,
        port: link.port,
        vlan,
    });

    let received = Received {
        sum: Sum::icmpv6(&ip.src_addr, &ip.dst_addr, length)
            .add(&message.head())
            .add(&message.target),
        options_at: at + size_of::<Message>(),
        options,
    };

    if message.kind == ADVERTISEMENT {
        let Some(slot) = owned(vip) else {
            return Ok(Decision::Pass);
        };
        let mac = received
            .link_layer(frame, OPTION_TARGET)?
            .unwrap_or(addresses.source);
        return Ok(if mac == link.mac {
            Decision::Pass
        } else {
            Decision::Claimed { slot }
        });
    }

    let slot = match Asked::of(vip, tables) {
        Asked::NotOurs => return Ok(Decision::Pass),
        Asked::Silence(decision) => return Ok(decision),
        Asked::Answer { slot } => slot,
    };
    let link_layer = received.link_layer(frame, OPTION_SOURCE)?;
    let probe = ip.src_addr == UNSPECIFIED;
    // RFC 4861 §7.1.1: an unspecified source has no link-layer address, and asks a
    // solicited-node group.
    if is_multicast(&ip.src_addr)
        || probe && (link_layer.is_some() || !is_solicited_node(&ip.dst_addr))
    {
        return Err(Reason::NdSource);
    }
    // Only a host that holds the address itself asks for it from it.
    if ip.src_addr == message.target && addresses.source != link.mac {
        return Ok(Decision::Claimed { slot });
    }
    Ok(Decision::Answer(Answer {
        slot,
        mac: link.mac,
        probe,
        sender_differs: link_layer.is_some_and(|mac| mac != addresses.source),
        protocol: Protocol::Nd,
        payload,
    }))
}

/// A message whose options and checksum are still to be read.
struct Received {
    /// Over everything before the options.
    sum: Sum,
    options_at: usize,
    /// In bytes.
    options: u16,
}

impl Received {
    /// The link-layer address in an option of this kind, once the options and the checksum have
    /// been found right.
    #[inline(always)]
    fn link_layer(&self, frame: &impl Frame, wanted: u8) -> Result<Option<Mac>, Reason> {
        if !self.options.is_multiple_of(8) {
            return Err(Reason::NdOption);
        }
        let units = self.options / 8;
        if units > MAX_OPTION_UNITS {
            return Err(Reason::NdTooLong);
        }
        let mut sum = self.sum;
        let mut found = None;
        // Units until the next option begins.
        let mut left = 0;
        for unit in 0..MAX_OPTION_UNITS {
            if unit == units {
                break;
            }
            let bytes: [u8; 8] = frame
                .load(self.options_at + 8 * usize::from(unit))
                .ok_or(Reason::NdLength)?;
            sum = sum.add(&bytes);
            if left == 0 {
                let [kind, length, mac @ ..] = bytes;
                if length == 0 || kind == wanted && length != 1 {
                    return Err(Reason::NdOption);
                }
                if kind == wanted {
                    found = Some(mac);
                }
                left = length;
            }
            left -= 1;
        }
        if left != 0 {
            return Err(Reason::NdOption);
        }
        if sum.finish() != [0; 2] {
            return Err(Reason::NdChecksum);
        }
        Ok(found)
    }
}

/// RFC 4861 §7.2.4: the advertisement names the VIP's MAC, overrides what the asker holds, and
/// goes to all nodes where the asker has no address yet. The source is the VIP.
#[inline(always)]
pub(super) fn write(frame: &mut impl Frame, answer: &Answer) -> Option<()> {
    let at = answer.payload + Ipv6Hdr::LEN;
    let addresses = Addresses::load(frame)?.reply(answer.mac);
    let asker = frame.load::<Ipv6Hdr>(answer.payload)?.src_addr;
    let target = frame.load::<Message>(at)?.target;

    let (to, to_mac, flags) = if answer.probe {
        (ALL_NODES, ALL_NODES_MAC, FLAG_OVERRIDE)
    } else {
        (asker, addresses.destination, FLAG_SOLICITED | FLAG_OVERRIDE)
    };
    let (message, option) = advertisement(&target, &to, &target, answer.mac, flags);

    frame.resize(at + usize::from(ADVERTISEMENT_LENGTH))?;
    Addresses {
        destination: to_mac,
        ..addresses
    }
    .store(frame)?;
    frame.store(
        answer.payload,
        Ipv6Hdr {
            vcf: [0x60, 0, 0, 0],
            payload_len: ADVERTISEMENT_LENGTH.to_be_bytes(),
            next_hdr: NEXT_HEADER,
            hop_limit: HOP_LIMIT,
            src_addr: target,
            dst_addr: to,
        },
    )?;
    frame.store(at, message)?;
    frame.store::<LinkLayerOption>(at + size_of::<Message>(), option)
}
