//! The XDP program and its maps in the kernel.
//!
//! [`Kernel::open`] prepares program and maps, new or as an earlier run left them. The caller fills
//! the maps, then [attaches](Kernel::attach) link by link, and calls [`Kernel::finish_adoption`]
//! when all are done. Until then, each link keeps its earlier program and maps, so that answering
//! never pauses.
//!
//! [`Inspect`] reads the same maps while no agent runs, and [`detach_all`] removes everything.

mod attach;
mod bpffs;
mod clock;
mod events;
mod fit;
mod foreign;
mod inspect;
mod lease;
mod lock;
mod log;
mod mapped;
mod maps;
mod object;
mod pins;
mod preflight;
mod program;
mod remove;
mod sys;
mod typed;
mod wait;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::programs::links::FdLink;
use thiserror::Error;
use tracing::{Level, info, warn};

pub use self::{
    attach::{AttachError, Attached, ModeChoice},
    bpffs::BpffsError,
    clock::now,
    events::{EventError, Events},
    foreign::Foreign,
    inspect::{AttachedLink, Inspect, InspectError},
    lease::Lease,
    lock::LockError,
    log::LOG_TARGET,
    maps::Maps,
    pins::PinError,
    preflight::{Unmet, check},
    program::{LoadError, Refusal},
    remove::{RemoveError, Removed, detach_all},
    typed::MapsError,
};
use self::{
    foreign::Search,
    lock::Lock,
    object::Build,
    pins::{Layout, Pins, State, open_link},
    program::Program,
};
use crate::netlink;

/// The default BPF file system.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

/// The kernel's part of the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the BPF file system is, or will be mounted.
    pub bpffs: PathBuf,
    /// Loads the build of the program that logs, at this level and above.
    pub ebpf_log_level: Option<Level>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bpffs: DEFAULT_BPFFS.into(),
            ebpf_log_level: None,
        }
    }
}

/// The program and its maps, held by this node's only agent. Dropping it leaves everything attached
/// and pinned.
pub struct Kernel {
    bpffs: PathBuf,
    pins: Pins,
    layout: Layout,
    maps: Maps,
    program: Program,
    /// Held open as well as pinned, so that removing a pin detaches nothing.
    attached: BTreeMap<u32, OwnedFd>,
    /// Why removed pins cannot be restored, which is logged once.
    unpinned: Option<String>,
    /// Searches for the owners of programs on interfaces that this one needs.
    foreign: BTreeMap<u32, Search>,
    lock: Lock,
}

/// Why the agent cannot start.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The kernel or the process lacks something.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// Nothing can be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The program cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The maps cannot be opened.
    #[error(transparent)]
    Maps(#[from] MapsError),
}

/// Why the other build of the program does not run on any link.
#[derive(Debug, Error)]
pub enum SwapError {
    /// It would run with different maps.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// It cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An interface refuses it.
    #[error("cannot run the other build of the program on {}", netlink::name(*ifindex))]
    Refused {
        /// Which one.
        ifindex: u32,
        /// What the kernel says.
        #[source]
        source: Refusal,
    },
}

/// What was removed of an earlier run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Interfaces that this run did not attach to, or that are gone.
    pub links: Vec<u32>,
    /// Maps of other layouts.
    pub layouts: Vec<String>,
}

impl Kernel {
    /// Prepares the program and its maps.
    ///
    /// # Errors
    ///
    /// In the order in which a new user encounters them: a binary without the program, an old
    /// kernel, lack of privileges, no BPF file system, another agent on this node, a program that
    /// the kernel refuses. Each says what to do.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let build = Build::with_log_level(options.ebpf_log_level);
        let shapes = build.shapes()?;
        preflight::check()?;
        let pins = Pins::under(&options.bpffs);
        let lock = lock(&pins, &options.bpffs)?;
        let layout = pins.prepare(&shapes)?;
        let program = Program::load(build, &layout.directory).inspect_err(|_| {
            // The new maps are unused. If removing them fails, the next start does it.
            if layout.state == State::New {
                let _ = pins.discard(&layout);
            }
        })?;
        let mut maps = Maps::open(&layout.directory)?;
        maps.list_all()?;
        match layout.state {
            State::New | State::Staged => {
                info!("created new maps at {}", layout.directory.display())
            }
            State::Adopted => info!(
                "using the maps of an earlier run at {}",
                layout.directory.display()
            ),
        }
        Ok(Self {
            bpffs: options.bpffs.clone(),
            pins,
            layout,
            maps,
            program,
            attached: BTreeMap::new(),
            unpinned: None,
            foreign: BTreeMap::new(),
            lock,
        })
    }

    /// The maps, for reading.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// The maps, for reading and writing.
    pub fn maps_mut(&mut self) -> &mut Maps {
        &mut self.maps
    }

    /// The lease, to renew and to answer probes with.
    pub fn lease(&self) -> Result<Lease, MapsError> {
        Lease::open(&self.layout.directory)
    }

    /// The program's events. Runs on the current tokio runtime.
    pub fn events(&self) -> Result<Events, MapsError> {
        Events::open(&self.layout.directory)
    }

    /// The kernel's id of the program.
    pub fn program_id(&self) -> u32 {
        self.program.id()
    }

    /// The interfaces with a pinned program, of this run and of earlier ones.
    pub fn pinned(&self) -> Result<Vec<u32>, PinError> {
        self.pins.linked()
    }

    /// Removes what earlier runs left and this one does not use: attachments to interfaces that are
    /// gone or no longer wanted, and maps of other layouts.
    pub fn finish_adoption(&mut self) -> Result<Cleared, PinError> {
        let links: Vec<u32> = self
            .pins
            .linked()?
            .into_iter()
            .filter(|ifindex| !self.attached.contains_key(ifindex))
            .collect();
        for ifindex in &links {
            self.pins.unlink(*ifindex)?;
        }
        let layouts = self.pins.settle(&mut self.layout)?;
        Ok(Cleared { links, layouts })
    }

    /// Changes to the build of the program that logs at this level and above, or to the one that
    /// does not log, on all links, with the same maps and without a gap.
    pub fn set_ebpf_log_level(&mut self, level: Option<Level>) -> Result<(), SwapError> {
        let build = Build::with_log_level(level);
        if build == self.program.build() {
            return Ok(());
        }
        self.restore_pins()?;
        let mut next = Program::load(build, &self.layout.directory)?;
        for ifindex in self.attached.keys() {
            if let Err(source) = update(&self.pins, *ifindex, &mut next) {
                for (done, _) in self.attached.range(..ifindex) {
                    if let Err(error) = update(&self.pins, *done, &mut self.program) {
                        warn!(
                            "{} keeps the other build of the program: {error}",
                            netlink::name(*done)
                        );
                    }
                }
                return Err(SwapError::Refused {
                    ifindex: *ifindex,
                    source,
                });
            }
        }
        self.program = next;
        Ok(())
    }

    /// Restores pins that something else has removed. Without them, answering would stop when the
    /// agent ends. A failure is logged once.
    pub fn keep_pins(&mut self) {
        match self.restore_pins() {
            Ok(restored) => {
                let root = self.pins.root().display();
                if restored {
                    warn!("something else removed pins under {root}: restored them");
                }
                self.unpinned = None;
            }
            Err(error) => {
                let failure = format!("{:#}", anyhow::Error::from(error));
                if self.unpinned.as_ref() != Some(&failure) {
                    warn!(
                        "something else removed pins, so answering will stop when this agent ends: \
                         {failure}; trying again"
                    );
                }
                self.unpinned = Some(failure);
            }
        }
    }

    /// Pins everything that is not pinned. Returns whether anything was not.
    fn restore_pins(&mut self) -> Result<bool, PinError> {
        bpffs::ensure(&self.bpffs)?;
        if !self.lock.is_of(self.pins.root()) {
            self.lock = Lock::take(self.pins.root())?;
        }
        let mut restored = false;
        for (name, map) in self.program.maps() {
            restored |= self.layout.restore_map(name, map)?;
        }
        for (ifindex, link) in &self.attached {
            restored |= self.pins.restore_link(*ifindex, link.as_fd())?;
        }
        Ok(restored)
    }
}

/// Makes sure that there is a BPF file system, and locks its pins.
fn lock(pins: &Pins, bpffs: &Path) -> Result<Lock, PinError> {
    bpffs::ensure(bpffs)?;
    Ok(Lock::take(pins.root())?)
}

/// The process of the agent that runs on this node, if it is known: not across containers.
pub fn agent(bpffs: &Path) -> Option<u32> {
    lock::holder_of(Pins::under(bpffs).root())
}

/// Replaces the program on an attached interface.
fn update(pins: &Pins, ifindex: u32, program: &mut Program) -> Result<(), Refusal> {
    let Some(pinned) = open_link(&pins.link(ifindex))? else {
        return Ok(());
    };
    match program.take_over(FdLink::from(pinned)) {
        // The interface is gone, and netlink will say so.
        Err(error) if error.errno() == Some(libc::ENOLINK) => Ok(()),
        updated => updated,
    }
}

/// Whether the kernel's error behind this one is a lack of permission.
fn is_not_permitted(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::PermissionDenied;
        }
        cause = error.source();
    }
    false
}
