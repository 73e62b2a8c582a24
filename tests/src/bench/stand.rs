//! Runs programs on fresh requests, in turns, and times them.

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    maps::{Array, HashMap, MapData, ProgramArray},
};
use speaker_common::{
    layout::{Action, Link, Probes, Vip, VipKeyV4, VipKeyV6, Vlan},
    probe::Key,
    respond::Reason,
    testing::{Host, alone_until},
};

use zerocopy::transmute;

use super::median;
use crate::program::{self, Program, TEST_RUN_IFINDEX, action, object};

/// Frames in one timed run.
const REPEAT: u32 = 5_000;
/// Turns of each program; the quieter half counts.
const ROUNDS: usize = 42;
/// Bytes of a frame; shorter ones are padded to one of these.
const SHORT_BYTES: usize = 86;
const LONG_BYTES: usize = 110;
/// Counter slots that VIPs use.
const SLOTS: u32 = 1 << 16;

pub(super) const NODE: Host = Host::number(1);
const PORT: u32 = 7;

/// The node's number in probes.
pub(super) const PROBED: u64 = 1;
pub(super) const PROBE_PORT: u16 = 7_947;
pub(super) const PROBE_KEY: Key = Key([1, 2]);

type Request = [u64; LONG_BYTES.div_ceil(8)];

/// A program that is timed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Contender {
    /// One of the yardstick object.
    Bare(&'static str),
    /// The program that ships.
    Speaker,
}

/// The loaded program with its tables, and its yardsticks.
pub(super) struct Stand {
    program: Program,
    yardstick: Ebpf,
    requests: Array<MapData, Request>,
    turn: Array<MapData, [u64; 2]>,
    under_test: ProgramArray<MapData>,
    table_v4: HashMap<MapData, [u8; size_of::<VipKeyV4>()], [u8; size_of::<Vip>()]>,
    table_v6: HashMap<MapData, [u8; size_of::<VipKeyV6>()], [u8; size_of::<Vip>()]>,
    frame_bytes: usize,
}

impl Stand {
    pub(super) fn new() -> Result<Self> {
        let mut program = Program::load(object::SPEAKER)?;
        let link = Link::new(NODE.mac, PORT);
        program.maps.set_link(TEST_RUN_IFINDEX, Some(link))?;
        program.maps.set_lease(alone_until(u64::MAX))?;
        let probes = Probes::new(PROBED, PROBE_PORT, &[PROBE_KEY]);
        program.maps.set_probes(probes.context("one key fits")?)?;
        let mut yardstick = program::load(object::YARDSTICK)?;
        let mut map = |name| {
            yardstick
                .take_map(name)
                .with_context(|| format!("the yardstick has no map `{name}`"))
        };
        Ok(Self {
            requests: map("requests")?.try_into()?,
            turn: map("turn")?.try_into()?,
            under_test: map("under_test")?.try_into()?,
            table_v4: map("table_v4")?.try_into()?,
            table_v6: map("table_v6")?.try_into()?,
            program,
            yardstick,
            frame_bytes: SHORT_BYTES,
        })
    }

    /// Enters VIP number `n` of both families, for the program and for bare look-ups.
    pub(super) fn enter(&mut self, n: u32, action: Action) -> Result<()> {
        let vip = Vip::new(action, n);
        let vlan = Vlan::default();
        let v4 = |port| VipKeyV4 {
            address: vip_v4(n),
            port,
            vlan,
        };
        let v6 = |port| VipKeyV6 {
            address: vip_v6(n),
            port,
            vlan,
        };
        self.program.maps.set_vip_v4(v4(PORT), Some(vip))?;
        self.program.maps.set_vip_v6(v6(PORT), Some(vip))?;
        let value: [u8; size_of::<Vip>()] = transmute!(vip);
        let key: [u8; size_of::<VipKeyV4>()] = transmute!(v4(0));
        self.table_v4.insert(key, value, 0)?;
        let key: [u8; size_of::<VipKeyV6>()] = transmute!(v6(0));
        self.table_v6.insert(key, value, 0)?;
        Ok(())
    }

    /// The nanoseconds that each contender takes for a frame beyond those of the bare pass program.
    /// The requests, a power of two in number, take turns; each contender must return its action
    /// for all of them.
    pub(super) fn time<const N: usize>(
        &mut self,
        requests: &[Vec<u8>],
        contenders: [(Contender, u32); N],
    ) -> Result<[f64; N]> {
        self.set_requests(requests)?;
        let before = self.handled()?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let pass = self.run(Contender::Bare("pass"), action::PASS)?;
            let mut times = [0.0; N];
            for (time, (contender, action)) in times.iter_mut().zip(contenders) {
                *time = self.run(contender, action)? - pass;
            }
            rounds.push((pass, times));
        }
        self.ensure_handled(&contenders, before)?;
        // If the pass program was slow, the machine was busy with something else.
        rounds.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        rounds.truncate(ROUNDS / 2);
        Ok(std::array::from_fn(|contender| {
            let mut times: Vec<_> = rounds.iter().map(|(_, times)| times[contender]).collect();
            median(&mut times)
        }))
    }

    fn set_requests(&mut self, requests: &[Vec<u8>]) -> Result<()> {
        ensure!(
            requests.len().is_power_of_two(),
            "{} requests cannot take turns: give a power of two",
            requests.len()
        );
        let longest = requests.iter().map(Vec::len).max();
        self.frame_bytes = if longest <= Some(SHORT_BYTES) {
            SHORT_BYTES
        } else {
            LONG_BYTES
        };
        for (index, frame) in (0..).zip(requests) {
            let mut padded = frame.clone();
            padded.resize(size_of::<Request>(), 0);
            let (words, _) = padded.as_chunks();
            let mut request = Request::default();
            for (to, from) in request.iter_mut().zip(words) {
                *to = u64::from_ne_bytes(*from);
            }
            self.requests.set(index, request, 0)?;
        }
        let mask = u64::try_from(requests.len() - 1)?;
        Ok(self.turn.set(0, [0, mask], 0)?)
    }

    fn run(&mut self, contender: Contender, action: u32) -> Result<f64> {
        let program = match contender {
            Contender::Bare(name) => program::xdp(&self.yardstick, name)?,
            Contender::Speaker => self.program.xdp()?,
        };
        self.under_test.set(0, program.fd()?, 0)?;
        let result = program::xdp(&self.yardstick, "fresh")?.test_run(TestRunOptions {
            data_in: Some(&[0; LONG_BYTES][..self.frame_bytes]),
            repeat: REPEAT,
            ..TestRunOptions::default()
        })?;
        let returned = result.return_value;
        ensure!(
            returned == action,
            "{contender:?} came to action {returned}"
        );
        // The kernel's own clock, around the runs alone.
        Ok(result.duration.as_nanos() as f64)
    }

    /// Every timed answer or drop must have been counted.
    fn ensure_handled(&self, contenders: &[(Contender, u32)], before: Handled) -> Result<()> {
        let after = self.handled()?;
        let mut expected = before;
        for (contender, action) in contenders {
            let frames = ROUNDS as u64 * u64::from(REPEAT);
            match (contender, *action) {
                (Contender::Speaker, action::TX) => expected.answered += frames,
                (Contender::Speaker, action::DROP) => expected.suppressed += frames,
                _ => {}
            }
        }
        ensure!(
            after == expected,
            "{after:?} were handled, not {expected:?}"
        );
        Ok(())
    }

    fn handled(&self) -> Result<Handled> {
        let mut sum = Handled::default();
        for slot in 0..SLOTS {
            let counters = self.program.maps.counters(slot)?;
            sum.answered += counters.answered;
            sum.suppressed += counters.suppressed;
        }
        sum.answered += self.program.maps.reason(Reason::ProbeAnswered)?;
        Ok(sum)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Handled {
    answered: u64,
    suppressed: u64,
}

pub(super) fn vip_v4(n: u32) -> [u8; 4] {
    (0x0a00_0000 + n).to_be_bytes()
}

pub(super) fn vip_v6(n: u32) -> [u8; 16] {
    ((0xfd00_u128 << 112) + u128::from(n)).to_be_bytes()
}
