//! Liveness probes: UDP datagrams to the port of probes.
//!
//! Every UDP packet of the node gets here, so the checks that are cheap and exclude most come
//! first. A probe is answered whatever the node owns and whatever the state of its lease, for which
//! it asks.

use zerocopy::transmute;

use super::{Reason, Records, Tables, Verdict, ethernet::Arrival};
use crate::{
    frame::Frame,
    probe::{Judgement, LENGTH},
    wire::{
        UDP,
        checksum::Sum,
        words::{Ipv4, Ipv6, Stations, Udp},
    },
};

/// The length of the datagram in bytes.
const DATAGRAM: u16 = (size_of::<Udp>() + LENGTH) as u16;
/// Time to live and hop limit of a reply (RFC 1340).
const TTL: u8 = 64;

#[inline(always)]
pub(super) fn handle_v4(
    frame: &mut impl Frame,
    payload: usize,
    node: &(impl Tables + Records),
) -> Verdict {
    const TOTAL: [u8; 2] = (size_of::<Ipv4>() as u16 + DATAGRAM).to_be_bytes();
    /// All bits but the flag "do not fragment".
    const FRAGMENT: u16 = 0xbfff;
    const DO_NOT_FRAGMENT: u8 = 0x40;
    /// Version 4, and a header of five words without options.
    const VERSION: u8 = 0x45;
    /// The type of service without the two ECN bits (RFC 3168 §5).
    const SERVICE: u8 = 0xfc;

    match frame.load::<[u8; 10]>(payload) {
        Some([.., UDP]) => {}
        _ => return Verdict::Pass,
    }
    let Some(ip) = frame.load::<Ipv4>(payload) else {
        return Verdict::Pass;
    };
    let [version, service, l0, l1, _, _, f0, f1, ..] = ip.head;
    if version != VERSION
        || [l0, l1] != TOTAL
        || u16::from_be_bytes([f0, f1]) & FRAGMENT != 0
        || (Sum::of(&ip.head) + address(ip.source) + address(ip.destination)).finish() != [0; 2]
    {
        return Verdict::Pass;
    }
    let parties = address(ip.source) + address(ip.destination);
    handle(frame, payload + size_of::<Ipv4>(), node, parties, |frame| {
        let [t0, t1] = TOTAL;
        let head = |[c0, c1]: [u8; 2]| {
            let service = service & SERVICE;
            [
                VERSION,
                service,
                t0,
                t1,
                0,
                0,
                DO_NOT_FRAGMENT,
                0,
                TTL,
                UDP,
                c0,
                c1,
            ]
        };
        let checksum = (Sum::of(&head([0; 2])) + parties).finish();
        frame.store(
            payload,
            Ipv4 {
                head: head(checksum),
                source: ip.destination,
                destination: ip.source,
            },
        )
    })
}

#[inline(always)]
pub(super) fn handle_v6(
    frame: &mut impl Frame,
    payload: usize,
    node: &(impl Tables + Records),
) -> Verdict {
    let Some(ip) = frame.load::<Ipv6>(payload) else {
        return Verdict::Pass;
    };
    let [class, flow, _, _, l0, l1, ..] = ip.head;
    if class >> 4 != 6 || u16::from_be_bytes([l0, l1]) != DATAGRAM {
        return Verdict::Pass;
    }
    let parties = ip.source.sum() + ip.destination.sum();
    handle(frame, payload + size_of::<Ipv6>(), node, parties, |frame| {
        frame.store(
            payload,
            Ipv6 {
                // The traffic class without the ECN bits, and no flow label.
                head: [class, flow & 0xc0, 0, 0, l0, l1, UDP, TTL],
                source: ip.destination,
                destination: ip.source,
            },
        )
    })
}

/// The part that both families share. `at` is the offset of the UDP header, `parties` the sum over
/// the addresses, and `turn` writes the reply's IP header.
///
/// The request's UDP checksum is not verified: on a virtual link it may be incomplete, left to
/// hardware that does not exist. The keyed tag protects the payload, and the addresses only receive
/// the reply.
#[inline(always)]
fn handle<F: Frame>(
    frame: &mut F,
    at: usize,
    node: &(impl Tables + Records),
    parties: Sum,
    turn: impl FnOnce(&mut F) -> Option<()>,
) -> Verdict {
    let Some(udp) = frame.load::<Udp>(at) else {
        return Verdict::Pass;
    };
    if udp.length != DATAGRAM.to_be() {
        return Verdict::Pass;
    }
    let port = node.probe_port();
    if port == 0 || udp.destination != port.to_be() {
        return Verdict::Pass;
    }
    let Ok(arrival) = Arrival::of(frame, node, |_| false) else {
        return Verdict::Pass;
    };
    let at_payload = at + size_of::<Udp>();
    match node.judge(frame, at_payload) {
        None | Some(Judgement::Passed) => return Verdict::Pass,
        Some(Judgement::Foreign) => {
            node.count_reason(Reason::ProbeForeign);
            return Verdict::Pass;
        }
        Some(Judgement::Renewed) => {
            node.count_reason(Reason::ProbeRenewed);
            return Verdict::Drop;
        }
        Some(Judgement::Answered) => {}
    }
    let stations = Stations {
        destination: arrival.sender,
        source: arrival.local,
    };
    // None of this can fail: all of it has been read.
    let written = frame
        .store(0, stations)
        .and_then(|()| turn(frame))
        .and_then(|()| {
            let mut reply = Udp {
                source: udp.destination,
                destination: udp.source,
                length: udp.length,
                checksum: 0,
            };
            let header: [u8; size_of::<Udp>()] = transmute!(reply);
            let sum = Sum::udp(DATAGRAM) + parties + Sum::of(&header);
            reply.checksum = checksum(sum + payload_sum(frame, at_payload)?);
            frame.store(at, reply)
        });
    if written.is_none() {
        return Verdict::Drop;
    }
    node.count_reason(Reason::ProbeAnswered);
    Verdict::Transmit
}

#[inline(always)]
fn payload_sum(frame: &impl Frame, at: usize) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut read = 0;
    while read < LENGTH {
        let bytes: [u8; 8] = frame.load(at + read)?;
        sum = sum + Sum::of(&bytes);
        read += bytes.len();
    }
    Some(sum)
}

/// RFC 768: a checksum of zero is sent as all ones, because zero means that there is no checksum.
#[inline(always)]
fn checksum(sum: Sum) -> u16 {
    match u16::from_ne_bytes(sum.finish()) {
        0 => u16::MAX,
        checksum => checksum,
    }
}

#[inline(always)]
fn address(address: u32) -> Sum {
    Sum::of(&address.to_ne_bytes())
}
