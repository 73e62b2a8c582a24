//! Neighbor Discovery (RFC 4861 §7, RFC 4862 §5.4), and other IPv6 packets.

use super::{
    Asked, MAX_EXTENSIONS, MAX_OPTION_UNITS, Reason, Records, Tables, Verdict, answer, claimed,
    ethernet::Arrival, probe, silence,
};
use crate::{
    frame::Frame,
    layout::{Action, EventKind, FilterBit, VipKeyV6, Vlan},
    wire::{
        UDP,
        checksum::Sum,
        nd::{
            ADVERTISEMENT, ADVERTISEMENT_LENGTH, ALL_NODES_MAC, FLAG_OVERRIDE, FLAG_SOLICITED,
            HOP_LIMIT, NEXT_HEADER, OPTION_SOURCE, OPTION_TARGET, SOLICITATION,
        },
        words::{Ipv6, Ipv6Address, NdMessage, NdOption, NdPacket, Station, Stations},
    },
};

const HEADER: usize = size_of::<Ipv6>();
const MESSAGE: usize = size_of::<NdMessage>();
const PACKET: usize = size_of::<NdPacket>();

#[inline(always)]
pub(super) fn handle(
    frame: &mut impl Frame,
    payload: usize,
    vlan: Vlan,
    node: &(impl Tables + Records),
) -> Result<Verdict, Reason> {
    let Some([.., next_header, _]) = frame.load::<[u8; 8]>(payload) else {
        return Ok(Verdict::Pass);
    };
    let at = payload + HEADER;
    if next_header != NEXT_HEADER {
        return if next_header == UDP {
            Ok(probe::handle_v6(frame, payload, node))
        } else if hides_nd(frame, next_header, at) {
            Err(Reason::NdExtension)
        } else {
            Ok(Verdict::Pass)
        };
    }
    match frame.load::<[u8; 2]>(at) {
        Some([SOLICITATION | ADVERTISEMENT, _]) => handle_message(frame, payload, vlan, node),
        _ => Ok(Verdict::Pass),
    }
}

/// Whether a solicitation or advertisement follows after extension headers.
#[inline(always)]
fn hides_nd(frame: &impl Frame, mut next_header: u8, mut at: usize) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            return false;
        }
        let Some([next, length, offset @ ..]) = frame.load::<[u8; 4]>(at) else {
            return false;
        };
        at += 8;
        // RFC 8200 §4.5: a fragment header has no length, and a header follows it only if its
        // offset, all but the last three bits, is zero. §4.3: other headers have a length in units
        // of eight bytes, not counting the first.
        if next_header == FRAGMENT {
            if u16::from_be_bytes(offset) & !0b111 != 0 {
                return false;
            }
        } else {
            at += 8 * usize::from(length);
        }
        if next == NEXT_HEADER {
            return matches!(
                frame.load::<[u8; 2]>(at),
                Some([SOLICITATION | ADVERTISEMENT, _])
            );
        }
        next_header = next;
    }
    false
}

#[inline(always)]
fn handle_message(
    frame: &mut impl Frame,
    payload: usize,
    vlan: Vlan,
    node: &(impl Tables + Records),
) -> Result<Verdict, Reason> {
    let NdPacket { ip, message } = frame.load(payload).ok_or(Reason::NdLength)?;
    let target = message.target;
    if !node.listed(FilterBit::v6(&target.bytes())) {
        return Ok(Verdict::Pass);
    }

    // RFC 8200 §3, and RFC 4861 §7.1.1 and §7.1.2: the cheap checks.
    let [class, _, _, _, l0, l1, _, hop_limit] = ip.head;
    let [kind, code, ..] = message.head;
    if class >> 4 != 6 {
        return Err(Reason::NdVersion);
    }
    if hop_limit != HOP_LIMIT {
        return Err(Reason::NdHopLimit);
    }
    if code != 0 {
        return Err(Reason::NdCode);
    }
    let Some(options) = u16::from_be_bytes([l0, l1]).checked_sub(MESSAGE as u16) else {
        return Err(Reason::NdLength);
    };
    if target.is_multicast() {
        return Err(Reason::NdTarget);
    }
    let arrival = Arrival::of(frame, node, Station::is_group)?;
    let Some(vip) = node.vip_v6(&VipKeyV6 {
        address: target.bytes(),
        port: arrival.port,
        vlan,
    }) else {
        return Ok(Verdict::Pass);
    };

    let solicits = kind == SOLICITATION;
    let slot = vip.slot;
    let asked = if solicits {
        Asked::of(vip, node)
    } else if vip.action == Action::Answer {
        Asked::Answer
    } else {
        Asked::NotOurs
    };
    match asked {
        Asked::NotOurs => return Ok(Verdict::Pass),
        Asked::Suppressed => return Ok(silence(frame, node, slot, EventKind::Suppressed)),
        Asked::Refused => return Ok(silence(frame, node, slot, EventKind::Refused)),
        Asked::Answer => {}
    }
    let received = Received::load(frame, payload, options)?;
    let wanted = if solicits {
        OPTION_SOURCE
    } else {
        OPTION_TARGET
    };
    let link_layer = received.link_layer(frame, wanted)?;
    if !solicits {
        return Ok(if link_layer.unwrap_or(arrival.sender) == arrival.local {
            Verdict::Pass
        } else {
            claimed(frame, node)
        });
    }
    let probe = received.source == Ipv6Address::UNSPECIFIED;
    // RFC 4861 §7.1.1: with an unspecified source there is no source link-layer address option, and
    // the destination is a solicited-node group.
    if received.source.is_multicast()
        || probe && (link_layer.is_some() || !received.destination.is_solicited_node())
    {
        return Err(Reason::NdSource);
    }
    // Only a host that has the address itself sends from it.
    if received.source == received.target && arrival.sender != arrival.local {
        return Ok(claimed(frame, node));
    }
    if link_layer.is_some_and(|station| station != arrival.sender) {
        node.count_reason(Reason::SenderDiffers);
    }
    let parties = received.source.sum() + received.target.sum() + received.target.sum();
    Ok(answer(frame, node, slot, probe, |frame| {
        write(frame, payload, arrival, probe, parties)
    }))
}

/// A message whose options and checksum are yet to be read.
struct Received {
    source: Ipv6Address,
    destination: Ipv6Address,
    target: Ipv6Address,
    /// The checksum over everything before the options.
    sum: Sum,
    options_at: usize,
    /// The length of the options in bytes.
    options: u16,
}

impl Received {
    #[inline(always)]
    fn load(frame: &impl Frame, payload: usize, options: u16) -> Result<Self, Reason> {
        // Unreachable: it has been read before.
        let NdPacket { ip, message } = frame.load(payload).ok_or(Reason::NdLength)?;
        let Ipv6 {
            source,
            destination,
            ..
        } = ip;
        let pseudo_header =
            Sum::icmpv6(MESSAGE as u16 + options) + source.sum() + destination.sum();
        Ok(Self {
            source,
            destination,
            target: message.target,
            sum: pseudo_header + Sum::of(&message.head) + message.target.sum(),
            options_at: payload + PACKET,
            options,
        })
    }

    /// The link-layer address in an option of this kind, after a check of the options and the
    /// checksum.
    #[inline(always)]
    fn link_layer(&self, frame: &impl Frame, wanted: u8) -> Result<Option<Station>, Reason> {
        if !self.options.is_multiple_of(8) {
            return Err(Reason::NdOption);
        }
        let units = self.options / 8;
        if units > MAX_OPTION_UNITS {
            return Err(Reason::NdTooLong);
        }
        let mut sum = self.sum;
        let mut found = None;
        // The number of units until the next option.
        let mut left = 0;
        for unit in 0..MAX_OPTION_UNITS {
            if unit == units {
                break;
            }
            let option: NdOption = frame
                .load(self.options_at + 8 * usize::from(unit))
                .ok_or(Reason::NdLength)?;
            sum = sum + Sum::of(&[option.kind, option.length, 0, 0]) + option.station.sum();
            if left == 0 {
                let NdOption {
                    kind,
                    length,
                    station,
                } = option;
                if length == 0 || kind == wanted && length != 1 {
                    return Err(Reason::NdOption);
                }
                if kind == wanted {
                    found = Some(station);
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

/// RFC 4861 §7.2.4: the advertisement contains the VIP's MAC and overrides the asker's entry. If
/// the asker has no address yet, it goes to all nodes. Its source is the VIP.
///
/// `parties` is the sum over the reply's source and target and the asker's address, as verified in
/// the request.
#[inline(always)]
fn write(
    frame: &mut impl Frame,
    payload: usize,
    arrival: Arrival,
    probe: bool,
    parties: Sum,
) -> Option<()> {
    frame.resize(payload + HEADER + usize::from(ADVERTISEMENT_LENGTH))?;
    let NdPacket { ip, message } = frame.load(payload)?;
    let (station, destination, sum, flags) = if probe {
        let everyone = Ipv6Address::ALL_NODES;
        let sum = parties + everyone.sum();
        (Station::new(ALL_NODES_MAC), everyone, sum, FLAG_OVERRIDE)
    } else {
        let flags = FLAG_SOLICITED | FLAG_OVERRIDE;
        (arrival.sender, ip.source, parties, flags)
    };
    let head = [ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    let checksum = (Sum::icmpv6(ADVERTISEMENT_LENGTH)
        + sum
        + Sum::of(&head)
        + Sum::of(&[OPTION_TARGET, 1, 0, 0])
        + arrival.local.sum())
    .finish();
    let [c0, c1] = checksum;
    let [l0, l1] = ADVERTISEMENT_LENGTH.to_be_bytes();

    let stations = Stations {
        destination: station,
        source: arrival.local,
    };
    frame.store(0, stations)?;
    frame.store(
        payload,
        NdPacket {
            ip: Ipv6 {
                head: [0x60, 0, 0, 0, l0, l1, NEXT_HEADER, HOP_LIMIT],
                source: message.target,
                destination,
            },
            message: NdMessage {
                head: [ADVERTISEMENT, 0, c0, c1, flags, 0, 0, 0],
                target: message.target,
            },
        },
    )?;
    frame.store(
        payload + PACKET,
        NdOption {
            kind: OPTION_TARGET,
            length: 1,
            station: arrival.local,
        },
    )
}
