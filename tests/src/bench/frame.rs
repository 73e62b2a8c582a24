//! Nanoseconds per frame, by `BPF_PROG_TEST_RUN`.
//!
//! The program `fresh` writes a request over the frame before each run and hands over to the
//! program under test by a tail call. All figures include the cost of that and of the test run
//! itself, which is subtracted: a figure is a program's cost beyond the bare pass program.

use anyhow::Result;
use speaker_common::{
    layout::Action,
    probe::{self, Kind, Probe},
    testing::{Arp, Datagram, Ethernet, Host, Nd},
};

use super::{
    Limit, Row,
    stand::{Contender, NODE, PROBE_KEY, PROBE_PORT, PROBED, Stand, vip_v4, vip_v6},
};
use crate::program::action;

const CLIENT: Host = Host::number(2);
const STRANGER: Host = Host::number(3);

/// VIPs in a large table.
const MANY: u32 = 50_000;
/// The number of a VIP that is another node's.
const THEIRS: u32 = 60_000;
/// VIPs of a large table that are requested in turn: few enough to stay in the processor's cache,
/// as one VIP does, and enough for an average. How many others share a VIP's bucket is a matter of
/// luck.
const SOME: u32 = 16;
/// Requests for different VIPs, in no order.
const REQUESTS: u32 = 1 << 16;

/// What irrelevant frames may cost beyond the bare pass program.
const PASS: Option<Limit> = Some(Limit::Above(15.0));
const ARP_ANSWER: Option<Limit> = Some(Limit::Above(60.0));
const ND_ANSWER: Option<Limit> = Some(Limit::Above(120.0));
/// What a large table may cost, relative to one VIP.
const AS_ONE: Option<Limit> = Some(Limit::Times(1.1));

pub(super) fn run() -> Result<Vec<Row>> {
    let mut stand = Stand::new()?;
    stand.enter(0, Action::Answer)?;
    stand.enter(THEIRS, Action::Suppress)?;

    let mut rows = vec![
        bare(&mut stand, "the kernel's clock alone", &[arp(0)], "clock")?,
        bare(
            &mut stand,
            "a look-up of an IPv4 key alone",
            &[arp(0)],
            "lookup_v4",
        )?,
        bare(
            &mut stand,
            "a look-up of an IPv6 key alone",
            &[ns(0)],
            "lookup_v6",
        )?,
        passes(&mut stand, "pass: IPv4 TCP", tcp_v4())?,
        passes(&mut stand, "pass: IPv6 TCP", tcp_v6())?,
        passes(&mut stand, "pass: ARP for another host", foreign_arp())?,
        passes(&mut stand, "pass: NS for another host", foreign_ns())?,
        passes(&mut stand, "pass: IPv4 UDP", udp_v4())?,
        answers(&mut stand, "liveness probe answered", &[probe()], None)?,
        drops(&mut stand, "drop: ARP for another node's VIP", arp(THEIRS))?,
        drops(&mut stand, "drop: NS for another node's VIP", ns(THEIRS))?,
    ];
    let one_arp = answers(&mut stand, "ARP answer, 1 VIP", &[arp(0)], ARP_ANSWER)?;
    let one_ns = answers(&mut stand, "NS answer, 1 VIP", &[ns(0)], ND_ANSWER)?;

    for n in 0..MANY {
        stand.enter(n, Action::Answer)?;
    }
    rows.push(passes(
        &mut stand,
        "pass: ARP for another host, 50,000 VIPs",
        foreign_arp(),
    )?);
    let turns = |count| (0..count).map(|n: u32| n.wrapping_mul(40_503) % MANY);
    let some_arp: Vec<_> = turns(SOME).map(arp).collect();
    let some_ns: Vec<_> = turns(SOME).map(ns).collect();
    let many = [
        Row {
            baseline: Some(one_arp.value),
            ..answers(
                &mut stand,
                "ARP answer, 16 of 50,000 VIPs",
                &some_arp,
                AS_ONE,
            )?
        },
        Row {
            baseline: Some(one_ns.value),
            ..answers(&mut stand, "NS answer, 16 of 50,000 VIPs", &some_ns, AS_ONE)?
        },
    ];
    rows.extend([one_arp, one_ns]);
    rows.extend(many);
    // No limit: this measures the computer's memory, which any look-up in a table of this size
    // needs. The bare look-ups show how much of the time that is.
    let arps: Vec<_> = turns(REQUESTS).map(arp).collect();
    let case = "a look-up alone, 50,000 IPv4 keys in turn (memory)";
    rows.push(bare(&mut stand, case, &arps, "lookup_v4")?);
    let case = "ARP answer, 50,000 VIPs in turn (memory)";
    rows.push(answers(&mut stand, case, &arps, None)?);
    let solicitations: Vec<_> = turns(REQUESTS).map(ns).collect();
    let case = "a look-up alone, 50,000 IPv6 keys in turn (memory)";
    rows.push(bare(&mut stand, case, &solicitations, "lookup_v6")?);
    let case = "NS answer, 50,000 VIPs in turn (memory)";
    rows.push(answers(&mut stand, case, &solicitations, None)?);
    Ok(rows)
}

fn bare(stand: &mut Stand, case: &str, requests: &[Vec<u8>], program: &'static str) -> Result<Row> {
    let [value] = stand.time(requests, [(Contender::Bare(program), action::PASS)])?;
    Ok(row(case, value, 0.0, None))
}

fn passes(stand: &mut Stand, case: &str, frame: Vec<u8>) -> Result<Row> {
    let [value] = stand.time(&[frame], [(Contender::Speaker, action::PASS)])?;
    Ok(row(case, value, 0.0, PASS))
}

fn drops(stand: &mut Stand, case: &str, frame: Vec<u8>) -> Result<Row> {
    let [value] = stand.time(&[frame], [(Contender::Speaker, action::DROP)])?;
    Ok(row(case, value, 0.0, None))
}

fn answers(
    stand: &mut Stand,
    case: &str,
    requests: &[Vec<u8>],
    limit: Option<Limit>,
) -> Result<Row> {
    let contenders = [
        (Contender::Bare("swap"), action::TX),
        (Contender::Speaker, action::TX),
    ];
    let [swap, speaker] = stand.time(requests, contenders)?;
    Ok(row(case, speaker, swap, limit))
}

fn row(case: &str, value: f64, baseline: f64, limit: Option<Limit>) -> Row {
    Row {
        case: case.to_owned(),
        value,
        unit: "ns",
        baseline: Some(baseline),
        limit,
    }
}

fn arp(n: u32) -> Vec<u8> {
    Arp::request(&CLIENT, vip_v4(n)).bytes()
}

fn ns(n: u32) -> Vec<u8> {
    Nd::solicitation(&CLIENT, vip_v6(n)).bytes()
}

fn foreign_arp() -> Vec<u8> {
    Arp::request(&CLIENT, STRANGER.v4).bytes()
}

fn foreign_ns() -> Vec<u8> {
    Nd::solicitation(&CLIENT, STRANGER.v6).bytes()
}

fn tcp_v4() -> Vec<u8> {
    let mut packet = [0; 40];
    (packet[0], packet[9]) = (0x45, 6);
    Ethernet::new(NODE.mac, CLIENT.mac).frame(0x0800, &packet)
}

/// The length of a probe, to another port.
fn udp_v4() -> Vec<u8> {
    const DISCARD: u16 = 9;
    Datagram::v4(&CLIENT, &NODE, [DISCARD; 2], &[0; probe::LENGTH]).bytes()
}

fn probe() -> Vec<u8> {
    let request = Probe {
        kind: Kind::Request,
        flags: 0,
        watcher: PROBED + 1,
        target: PROBED,
        sequence: 1,
        life: 1,
        time_ns: 0,
        agent_age_ms: 0,
        agent_left_ms: 0,
    };
    let ports = [PROBE_PORT; 2];
    Datagram::v4(&CLIENT, &NODE, ports, &request.seal(&PROBE_KEY)).bytes()
}

fn tcp_v6() -> Vec<u8> {
    let mut packet = [0; 60];
    (packet[0], packet[6]) = (0x60, 6);
    Ethernet::new(NODE.mac, CLIENT.mac).frame(0x86dd, &packet)
}
