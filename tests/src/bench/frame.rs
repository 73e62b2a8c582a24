//! Nanoseconds per frame, by `BPF_PROG_TEST_RUN`.
//!
//! The program `fresh` writes a request over the frame before each run and hands over to the
//! program under test by a tail call. What it and the test run itself cost is in all figures
//! alike, and is taken off: a figure is what a program costs beyond the bare pass program.

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    maps::{Array, MapData, ProgramArray},
    programs::Xdp,
};
use speaker_common::{
    layout::{Action, Lease, Link, Vip, VipKeyV4, VipKeyV6, Vlan},
    testing::{Arp, Ethernet, Host, Nd},
};

use super::{Limit, Row, median};
use crate::program::{self, Program, TEST_RUN_IFINDEX, object};

/// Frames in one timed run.
const REPEAT: u32 = 2_000;
/// Timed runs of each program; the median counts.
const ROUNDS: usize = 101;
/// Bytes of a frame; shorter ones are padded.
const FRAME_BYTES: usize = 86;
/// Frames that `fresh` can take turns with.
const REQUESTS_MAX: usize = 65_536;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

const NODE: Host = Host::number(1);
const CLIENT: Host = Host::number(2);
const STRANGER: Host = Host::number(3);

const FEW: u32 = 1;
const MANY: u32 = 50_000;
/// The last entries that the tables hold belong to another node.
const SUPPRESSED: u32 = 60_000;
const PORT: u32 = 7;

type Request = [u64; FRAME_BYTES.div_ceil(8)];

pub(super) fn run() -> Result<Vec<Row>> {
    let mut bench = Bench::new()?;
    let mut rows = Vec::new();
    bench.fill(FEW)?;
    let tcp = |ether_type, version| {
        Ethernet::new(NODE.mac, CLIENT.mac).frame(ether_type, &ip_tcp(version))
    };
    let limit = |most| Some(Limit::Above(most));
    rows.push(bench.case("pass: IPv4 TCP", &[tcp(0x0800, 4)], XDP_PASS, limit(15.0))?);
    rows.push(bench.case("pass: IPv6 TCP", &[tcp(0x86dd, 6)], XDP_PASS, limit(15.0))?);
    let foreign = Arp::request(&CLIENT, STRANGER.v4).bytes();
    rows.push(bench.case(
        "pass: ARP for another host",
        std::slice::from_ref(&foreign),
        XDP_PASS,
        limit(15.0),
    )?);
    let foreign6 = Nd::solicitation(&CLIENT, STRANGER.v6).bytes();
    rows.push(bench.case("pass: NS for another host", &[foreign6], XDP_PASS, None)?);
    let arp = |n| Arp::request(&CLIENT, vip_v4(n)).bytes();
    let ns = |n| Nd::solicitation(&CLIENT, vip_v6(n)).bytes();
    rows.push(bench.case("suppressed ARP", &[arp(SUPPRESSED)], XDP_DROP, None)?);
    rows.push(bench.case("suppressed NS", &[ns(SUPPRESSED)], XDP_DROP, None)?);
    let one_arp = bench.case("ARP answer, 1 VIP", &[arp(0)], XDP_TX, limit(60.0))?;
    let one_ns = bench.case("NS answer, 1 VIP", &[ns(0)], XDP_TX, limit(120.0))?;
    let (arp_ns, ns_ns) = (one_arp.value, one_ns.value);
    rows.extend([one_arp, one_ns]);
    bench.fill(MANY)?;
    rows.push(bench.case(
        "pass: ARP for another host, 50,000 VIPs",
        &[foreign],
        XDP_PASS,
        limit(15.0),
    )?);
    for (name, frame, one) in [
        ("ARP answer", arp(MANY / 2), arp_ns),
        ("NS answer", ns(MANY / 2), ns_ns),
    ] {
        let mut row = bench.case(
            &format!("{name}, 50,000 VIPs, one asked for"),
            &[frame],
            XDP_TX,
            Some(Limit::Times(1.1)),
        )?;
        row.baseline = Some(one);
        rows.push(row);
    }
    let order: Vec<u32> = (0..REQUESTS_MAX as u32)
        .map(|n| n.wrapping_mul(40_503) % MANY)
        .collect();
    let all: Vec<_> = order.iter().map(|n| arp(*n)).collect();
    rows.push(bench.case("ARP answer, 50,000 VIPs, all asked for", &all, XDP_TX, None)?);
    let all: Vec<_> = order.iter().map(|n| ns(*n)).collect();
    rows.push(bench.case("NS answer, 50,000 VIPs, all asked for", &all, XDP_TX, None)?);
    Ok(rows)
}

fn vip_v4(n: u32) -> [u8; 4] {
    (0x0a00_0000 + n).to_be_bytes()
}
fn vip_v6(n: u32) -> [u8; 16] {
    ((0xfd00_u128 << 112) + u128::from(n)).to_be_bytes()
}
fn ip_tcp(version: u8) -> Vec<u8> {
    let mut packet = vec![0; 60];
    packet[0] = version << 4 | 5;
    packet[if version == 4 { 9 } else { 6 }] = 6;
    packet
}

struct Bench {
    program: Program,
    yardstick: Ebpf,
    requests: Array<MapData, Request>,
    turn: Array<MapData, [u32; 2]>,
    under_test: ProgramArray<MapData>,
}

impl Bench {
    fn new() -> Result<Self> {
        let mut program = Program::load(object::SPEAKER)?;
        let mut yardstick = program::load(object::YARDSTICK)?;
        let mut map = |name| yardstick.take_map(name).context("yardstick map");
        let requests = Array::try_from(map("requests")?)?;
        let turn = Array::try_from(map("turn")?)?;
        let under_test = ProgramArray::try_from(map("under_test")?)?;
        program
            .maps
            .set_link(TEST_RUN_IFINDEX, Some(Link::new(NODE.mac, PORT)))?;
        program.maps.set_lease(Lease {
            agent_deadline_ns: u64::MAX,
        })?;
        Ok(Self {
            program,
            yardstick,
            requests,
            turn,
            under_test,
        })
    }

    fn fill(&mut self, owned: u32) -> Result<()> {
        let vlan = Vlan::default();
        for (n, action) in (0..owned)
            .map(|n| (n, Action::Answer))
            .chain([(SUPPRESSED, Action::Suppress)])
        {
            let vip = Some(Vip::new(action, n));
            self.program.maps.set_vip_v4(
                VipKeyV4 {
                    address: vip_v4(n),
                    port: PORT,
                    vlan,
                },
                vip,
            )?;
            self.program.maps.set_vip_v6(
                VipKeyV6 {
                    address: vip_v6(n),
                    port: PORT,
                    vlan,
                },
                vip,
            )?;
        }
        Ok(())
    }

    fn case(
        &mut self,
        case: &str,
        frames: &[Vec<u8>],
        action: u32,
        limit: Option<Limit>,
    ) -> Result<Row> {
        ensure!(frames.len().is_power_of_two());
        if let Ok(only) = std::env::var("CASE")
            && !only.split(';').any(|o| o == case)
        {
            return Ok(Row {
                case: case.to_owned(),
                value: 0.0,
                unit: "ns",
                baseline: None,
                limit: None,
            });
        }
        for (index, frame) in frames.iter().enumerate() {
            let mut padded = [0; size_of::<Request>()];
            padded[..frame.len()].copy_from_slice(frame);
            let mut request = Request::default();
            for (word, bytes) in request.iter_mut().zip(padded.chunks_exact(8)) {
                *word = u64::from_ne_bytes(bytes.try_into()?);
            }
            self.requests.set(index as u32, request, 0)?;
        }
        self.turn.set(0, [0, frames.len() as u32 - 1], 0)?;
        let base = if action == XDP_TX { "swap" } else { "pass" };
        let base_action = if action == XDP_TX { XDP_TX } else { XDP_PASS };
        let mut times = [const { Vec::new() }; 3];
        let mut mins = [f64::MAX; 3];
        for _ in 0..ROUNDS {
            let nothing = self.time("pass", XDP_PASS)?;
            let bare = self.time(base, base_action)?;
            let ours = self.time("speaker", action)?;
            for (m, v) in mins.iter_mut().zip([nothing, bare, ours]) {
                *m = m.min(v);
            }
            times[0].push(nothing);
            times[1].push(bare - nothing);
            times[2].push(ours - nothing);
        }
        eprintln!(
            "{case}: wrapper {} bare {} ours {}",
            median(&mut times[0]),
            median(&mut times[1]),
            median(&mut times[2])
        );
        eprintln!("answered {:?}", self.program.maps.counters(0)?);
        Ok(Row {
            case: case.to_owned(),
            value: median(&mut times[2]),
            unit: "ns",
            baseline: Some(median(&mut times[1])),
            limit,
        })
    }

    fn time(&mut self, name: &str, action: u32) -> Result<f64> {
        let under_test = if name == "speaker" {
            self.program.xdp()?
        } else {
            program::xdp(&self.yardstick, name)?
        };
        self.under_test.set(0, under_test.fd()?, 0)?;
        let fresh: &Xdp = program::xdp(&self.yardstick, "fresh")?;
        let frame = [0; FRAME_BYTES];
        let result = fresh.test_run(TestRunOptions {
            data_in: Some(&frame),
            repeat: REPEAT,
            ..TestRunOptions::default()
        })?;
        ensure!(
            result.return_value == action,
            "{name} returned {}",
            result.return_value
        );
        Ok(result.duration.as_nanos() as f64)
    }
}
