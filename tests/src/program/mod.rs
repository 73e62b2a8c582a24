//! The loaded program, for tests and benchmarks: its maps by their names, and
//! `BPF_PROG_TEST_RUN`.

mod maps;
pub mod object;

pub use maps::Maps;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, TestRun as _, TestRunOptions,
    programs::{ProgramInfo, Xdp},
};

/// The interface that the frames of a test run come in on: the loopback of the network namespace.
pub const TEST_RUN_IFINDEX: u32 = 1;

/// What a run of the program left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The action, as `enum xdp_action` numbers it.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// The program with maps of its own, pinned nowhere and gone when dropped.
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

    /// The program itself.
    pub fn xdp(&self) -> &Xdp {
        xdp(&self.ebpf, "speaker").expect("it was found when it was loaded")
    }

    /// What the kernel says of it.
    pub fn info(&self) -> Result<ProgramInfo> {
        Ok(self.xdp().info()?)
    }

    /// Runs it on a frame of at least 14 bytes.
    pub fn run(&self, frame: &[u8]) -> Result<Outcome> {
        run(self.xdp(), frame)
    }
}

/// Loads an object and all programs in it.
pub fn load(object: &str) -> Result<Ebpf> {
    let mut ebpf = Ebpf::load(&object::bytes(object)?)
        .with_context(|| format!("cannot load the object `{object}` (are you root?)"))?;
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

/// Runs a program once on a frame of at least 14 bytes.
pub fn run(program: &Xdp, frame: &[u8]) -> Result<Outcome> {
    // The longest reply is a tagged advertisement to a shorter solicitation.
    const GROWTH: usize = 64;
    let mut out = vec![0; frame.len() + GROWTH];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })
        .with_context(|| format!("a test run on {} bytes", frame.len()))?;
    out.truncate(result.data_size_out as usize);
    Ok(Outcome {
        action: result.return_value,
        frame: out,
    })
}
