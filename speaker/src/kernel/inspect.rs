//! Reading the pins, for `speaker status` while no agent runs.

use std::{
    io,
    path::{Path, PathBuf},
};

use aya::programs::links::{FdLink, LinkError};
use speaker_common::layout::LAYOUT_VERSION;
use speaker_core::link::XdpMode;
use thiserror::Error;

use super::{
    bpffs, is_not_permitted,
    maps::Maps,
    pins::{PinError, Pins, open_link},
    typed::MapsError,
};
use crate::netlink;

/// What an agent has left in the kernel on this node.
pub struct Inspect {
    pins: Pins,
    maps: Maps,
}

/// An interface with a pinned attachment of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedLink {
    /// The interface.
    pub ifindex: u32,
    /// The kernel's id of the program.
    pub program: u32,
    /// The interface's name, and where the program runs; `None` if the program was detached, or the
    /// interface is gone or in another network namespace.
    pub interface: Option<(String, XdpMode)>,
}

/// Why there is nothing to read.
#[derive(Debug, Error)]
pub enum InspectError {
    /// No agent has left anything.
    #[error(
        "nothing is pinned under {path}: no agent has run on this node since it booted, or \
         `speaker detach` has removed its pins"
    )]
    NoPins {
        /// Where pins would be.
        path: PathBuf,
    },
    /// A different version created the pins.
    #[error(
        "the pins under {path} have another layout ({found}) than this version of speaker reads \
         (v{LAYOUT_VERSION}): use the version that created them"
    )]
    OtherLayout {
        /// Where the pins are.
        path: PathBuf,
        /// The layouts found there.
        found: String,
    },
    /// Only root may read.
    #[error("only root may read what is pinned under {path}: run this with `sudo`")]
    NotPermitted {
        /// Where pins would be.
        path: PathBuf,
    },
    /// The pins cannot be listed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The maps cannot be opened.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// An attachment cannot be opened.
    #[error("cannot open the attachment to {}", netlink::name(*ifindex))]
    Link {
        /// The interface.
        ifindex: u32,
        /// What the kernel said.
        #[source]
        source: LinkError,
    },
    /// The kernel does not describe an interface.
    #[error("cannot ask the kernel about {}", netlink::name(*ifindex))]
    Unknown {
        /// Which one.
        ifindex: u32,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl Inspect {
    /// Opens the pins below this BPF file system.
    pub fn open(bpffs: &Path) -> Result<Self, InspectError> {
        let pins = Pins::under(bpffs);
        let path = pins.root().to_owned();
        let layouts = match bpffs::is_bpffs(bpffs) {
            Ok(Some(true)) => pins.layouts().map_err(InspectError::from),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(PinError::from(error).into()),
        };
        let layouts = match layouts {
            Err(error) if is_not_permitted(&error) => {
                return Err(InspectError::NotPermitted { path });
            }
            layouts => layouts?,
        };
        if layouts.is_empty() {
            return Err(InspectError::NoPins { path });
        }
        if !pins.maps().exists() {
            return Err(InspectError::OtherLayout {
                path,
                found: layouts.join(", "),
            });
        }
        let maps = Maps::open(&pins.maps()).map_err(|error| {
            let error = error.into();
            if is_not_permitted(&error) {
                return InspectError::NotPermitted { path };
            }
            error
        })?;
        Ok(Self { pins, maps })
    }

    /// The maps.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// Where the program is attached.
    pub fn attached(&self) -> Result<Vec<AttachedLink>, InspectError> {
        let mut attached = Vec::new();
        for ifindex in self.pins.linked()? {
            let failed = |source| InspectError::Link { ifindex, source };
            let Some(pinned) = open_link(&self.pins.link(ifindex)).map_err(failed)? else {
                continue;
            };
            let program = FdLink::from(pinned).info().map_err(failed)?.program_id();
            let interface = netlink::link(ifindex)
                .map_err(|source| InspectError::Unknown { ifindex, source })?
                .and_then(|link| {
                    let xdp = link.xdp.filter(|xdp| xdp.program == program)?;
                    Some((link.name, xdp.mode))
                });
            attached.push(AttachedLink {
                ifindex,
                program,
                interface,
            });
        }
        Ok(attached)
    }
}
