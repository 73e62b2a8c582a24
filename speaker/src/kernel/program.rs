//! The XDP program in the kernel.

use std::{io, path::Path};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::Map,
    programs::{
        ProgramError, ProgramFd, Xdp, XdpMode as AyaMode,
        links::{FdLink, LinkError},
        xdp::XdpError,
    },
};
use speaker_core::link::XdpMode;
use thiserror::Error;

use super::{
    is_not_permitted,
    log::{self, Log},
    object::{self, Build},
    pins::MAPS,
};

/// The program's name, in the object and in the kernel.
const NAME: &str = "speaker";

/// Why the program is not in the kernel.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The binary contains none.
    #[error(
        "this build of speaker has no eBPF program, because the BPF toolchain was missing when it \
         was built: run `cargo xtask setup`, and build it again"
    )]
    NotBuilt,
    /// The kernel refuses although the process has the capabilities.
    #[error(
        "the kernel does not let this process load eBPF programs, although it has the capabilities: \
         they do not count in a user namespace (rootless containers), under a seccomp profile that \
         blocks bpf(2), or under kernel lockdown"
    )]
    NotPermitted {
        /// What it refused first.
        #[source]
        source: Box<EbpfError>,
    },
    /// The kernel's verifier rejects the program: a bug in it.
    #[error("the kernel's verifier rejects the program ({error}); its log ends with:\n{log}")]
    Refused {
        /// The kernel's error.
        error: io::Error,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// Anything else.
    #[error("cannot load the program or its maps into the kernel")]
    Failed {
        /// What aya says.
        #[source]
        source: Box<EbpfError>,
    },
    /// The records of the traced build cannot be read.
    #[error("cannot read the log of the eBPF program")]
    Log(#[from] aya_log::Error),
    /// There is nobody to read them.
    #[error("cannot start the thread that reads the log of the eBPF program")]
    LogReader(#[source] io::Error),
}

/// Why the kernel does not attach the program.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The program is refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The BPF link is refused.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl Refusal {
    /// The kernel's error number, if there is one.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Program(ProgramError::XdpError(XdpError::NetlinkError(error))) => {
                error.raw_os_error()
            }
            Self::Program(ProgramError::SyscallError(error))
            | Self::Link(LinkError::SyscallError(error)) => error.io_error.raw_os_error(),
            Self::Program(_) | Self::Link(_) => None,
        }
    }
}

/// The loaded program, with its pinned maps.
pub(super) struct Program {
    build: Build,
    ebpf: Ebpf,
    id: u32,
    _log: Option<Log>,
}

impl Program {
    /// Loads it with the maps pinned in this directory, which are created if they are missing.
    pub(super) fn load(build: Build, maps: &Path) -> Result<Self, LoadError> {
        let object = build.object()?;
        let mut ebpf = match load(build, object, maps) {
            // Kernels without multi-buffer XDP do not know its flag.
            Err(EbpfError::ProgramError(ProgramError::LoadError { io_error, .. }))
                if io_error.raw_os_error() == Some(libc::EINVAL) =>
            {
                load(build, object::without_fragments(object).as_slice(), maps)
            }
            loaded => loaded,
        }
        .map_err(LoadError::from)?;
        let id = xdp(&mut ebpf)
            .info()
            .map_err(|error| LoadError::from(EbpfError::from(error)))?
            .id();
        let log = match build {
            Build::Normal => None,
            Build::Traced(_) => Some(Log::read(&mut ebpf)?),
        };
        Ok(Self {
            build,
            ebpf,
            id,
            _log: log,
        })
    }

    pub(super) fn build(&self) -> Build {
        self.build
    }

    /// The kernel's id of it.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn fd(&mut self) -> Result<&ProgramFd, ProgramError> {
        xdp(&mut self.ebpf).fd()
    }

    /// Attaches it to an interface without a program. It stays attached as long as the link is open
    /// or pinned.
    pub(super) fn attach(&mut self, ifindex: u32, mode: XdpMode) -> Result<FdLink, Refusal> {
        let mode = match mode {
            XdpMode::Native => AyaMode::Driver,
            XdpMode::Generic => AyaMode::Skb,
            XdpMode::Offloaded => AyaMode::Hardware,
        };
        let xdp = xdp(&mut self.ebpf);
        let id = xdp.attach_to_if_index(ifindex, mode)?;
        // An attachment that is not a BPF link would be dropped here, and so detached.
        Ok(FdLink::try_from(xdp.take_link(id)?)?)
    }

    /// Replaces the program of this link atomically. It stays attached as long as the link is pinned.
    pub(super) fn take_over(&mut self, link: FdLink) -> Result<(), Refusal> {
        let xdp = xdp(&mut self.ebpf);
        let id = xdp.attach_to_link(link.try_into()?)?;
        Ok(xdp.take_link(id).map(drop)?)
    }

    /// Its pinned maps, by name.
    pub(super) fn maps(&self) -> impl Iterator<Item = (&'static str, &Map)> {
        let map = |name| {
            self.ebpf
                .map(name)
                .expect("a test looks for all maps in both objects")
        };
        MAPS.into_iter().map(move |name| (name, map(name)))
    }
}

fn load(build: Build, object: &[u8], maps: &Path) -> Result<Ebpf, EbpfError> {
    let mut loader = EbpfLoader::new();
    // The program touches none of the kernel's own structures.
    loader.btf(None);
    for name in MAPS {
        loader.map_pin_path(name, maps.join(name));
    }
    let level;
    if let Build::Traced(at) = build {
        level = log::number(at);
        loader.override_global(aya_log::LEVEL, &level, true);
    }
    let mut ebpf = loader.load(object)?;
    xdp(&mut ebpf).load()?;
    Ok(ebpf)
}

fn xdp(ebpf: &mut Ebpf) -> &mut Xdp {
    ebpf.program_mut(NAME)
        .and_then(|program| program.try_into().ok())
        .expect("a test looks for an XDP program of this name in both objects")
}

impl From<EbpfError> for LoadError {
    fn from(error: EbpfError) -> Self {
        const LINES: usize = 20;
        match error {
            EbpfError::ProgramError(ProgramError::LoadError {
                io_error,
                verifier_log,
            }) if io_error.raw_os_error() != Some(libc::EPERM) => {
                let log = verifier_log.to_string();
                let lines: Vec<&str> = log.lines().collect();
                Self::Refused {
                    error: io_error,
                    log: lines[lines.len().saturating_sub(LINES)..].join("\n"),
                }
            }
            error if is_not_permitted(&error) => Self::NotPermitted {
                source: Box::new(error),
            },
            error => Self::Failed {
                source: Box::new(error),
            },
        }
    }
}
