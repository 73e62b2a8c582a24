//! The loaded program, for tests and benchmarks: its maps by their names, and
//! `BPF_PROG_TEST_RUN`.

mod maps;
pub mod object;
mod subject;

pub use maps::Maps;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    programs::{ProgramInfo, Xdp, XdpMode},
};
use nix::unistd::Uid;
use speaker_common::{respond::Verdict, testing::Outcome};

use crate::lab::{self, Missing};

/// The interface on which the frames of a test run arrive: the loopback of the network namespace.
pub const TEST_RUN_IFINDEX: u32 = 1;

/// Numbers of `enum xdp_action`.
pub mod action {
    /// The frame is dropped.
    pub const DROP: u32 = 1;
    /// The frame is passed to the kernel.
    pub const PASS: u32 = 2;
    /// The frame is sent back out.
    pub const TX: u32 = 3;
}

/// Runs a test on the loaded program of an object; without privilege, it is skipped loudly.
///
/// # Panics
///
/// If the test fails.
pub fn test(object: &str, body: impl FnOnce(&mut Program)) {
    lab::conclude(Program::load(object).map(|mut program| body(&mut program)));
}

/// The program with its own maps, not pinned, and gone when dropped.
pub struct Program {
    ebpf: Ebpf,
    /// Its maps.
    pub maps: Maps,
}

impl Program {
    /// Loads an object that holds the program, [`object::SPEAKER`] or [`object::TRACED`].
    pub fn load(object: &str) -> Result<Self> {
        let mut ebpf = load(object)?;
        let maps = Maps::take(&mut ebpf)?;
        Ok(Self { ebpf, maps })
    }

    /// Resets its maps for another wire rule: loading it again would take much longer.
    pub fn clear(&mut self) -> Result<()> {
        self.maps.set_link(TEST_RUN_IFINDEX, None)?;
        self.maps.clear()
    }

    /// The program itself.
    pub fn xdp(&self) -> Result<&Xdp> {
        xdp(&self.ebpf, "speaker")
    }

    /// The kernel's information about it.
    pub fn info(&self) -> Result<ProgramInfo> {
        Ok(self.xdp()?.info()?)
    }

    /// Runs it on a frame of at least 14 bytes.
    pub fn run(&self, frame: &[u8]) -> Result<Outcome> {
        // The longest growth is that of a solicitation without options.
        const GROWTH: usize = 64;
        let mut out = vec![0; frame.len() + GROWTH];
        let result = self
            .xdp()?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::default()
            })
            .with_context(|| format!("a test run on {} bytes", frame.len()))?;
        out.truncate(result.data_size_out as usize);
        let verdict = match result.return_value {
            action::DROP => Verdict::Drop,
            action::PASS => Verdict::Pass,
            action::TX => Verdict::Transmit,
            other => bail!("the program returned action {other}"),
        };
        Ok(Outcome {
            verdict,
            frame: out,
        })
    }
}

/// Loads an object and all programs in it, with support for fragmented frames if the kernel has it
/// (5.18 and later).
/// The error without privilege is [`Missing`].
pub fn load(object: &str) -> Result<Ebpf> {
    let bytes = object::bytes(object)?;
    load_bytes(&bytes)
        .or_else(|error| load_bytes(&object::without_fragments(bytes)).map_err(|_| error))
        .with_context(|| format!("cannot load the object `{object}`"))
        .map_err(|error| match Uid::effective().is_root() {
            true => error,
            false => error.context(Missing::Privilege),
        })
}

fn load_bytes(object: &[u8]) -> Result<Ebpf> {
    let mut ebpf = Ebpf::load(object)?;
    for (name, program) in ebpf.programs_mut() {
        let program: &mut Xdp = program.try_into()?;
        program
            .load()
            .with_context(|| format!("the kernel refuses the program `{name}`"))?;
    }
    Ok(ebpf)
}

/// A program of an object, by its name.
pub fn xdp<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    let program = ebpf
        .program(name)
        .with_context(|| format!("the object has no program `{name}`"))?;
    Ok(program.try_into()?)
}

/// Attaches a program of an object to an interface of this network namespace in native mode, for as
/// long as the result lives.
pub fn attach(object: &str, name: &str, interface: &str) -> Result<Ebpf> {
    let mut ebpf = load(object)?;
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program `{name}`"))?
        .try_into()?;
    program.attach(interface, XdpMode::Driver)?;
    Ok(ebpf)
}
