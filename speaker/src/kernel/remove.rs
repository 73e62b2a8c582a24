//! Removes everything from the kernel, for `speaker detach`.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    bpffs, is_not_permitted,
    lock::Lock,
    pins::{PinError, Pins},
};
use crate::{announce::Groups, netlink};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Interfaces that the program was attached to: index, and name if they still exist.
    pub links: Vec<(u32, Option<String>)>,
    /// Layouts of maps.
    pub layouts: Vec<String>,
    /// How many IPv6 groups were left.
    pub groups: usize,
}

/// Why not everything was removed.
#[derive(Debug, Error)]
pub enum RemoveError {
    /// Only root may.
    #[error("only root may remove what is pinned under {path}: run this with `sudo`")]
    NotPermitted {
        /// Where pins are, or would be.
        path: PathBuf,
    },
    /// Pins cannot be removed, for example because an agent runs. This cannot be overridden: the
    /// agent would keep renewing a lease that nothing reads, and reporting VIPs that nothing
    /// answers for.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The IPv6 groups cannot be left.
    #[error("cannot list the IPv6 groups that were joined")]
    Groups(#[source] io::Error),
}

/// Detaches the program from all interfaces, leaves all groups, and removes all maps of any
/// version. Does nothing if there is nothing to remove.
///
/// # Errors
///
/// While an agent runs.
pub fn detach_all(bpffs: &Path) -> Result<Removed, RemoveError> {
    let pins = Pins::under(bpffs);
    remove(&pins, bpffs).map_err(|error| {
        if is_not_permitted(&error) {
            return RemoveError::NotPermitted {
                path: pins.root().to_owned(),
            };
        }
        error
    })
}

fn remove(pins: &Pins, bpffs: &Path) -> Result<Removed, RemoveError> {
    let Some(_lock) = lock(pins, bpffs)? else {
        return Ok(Removed::default());
    };
    let mut removed = Removed::default();
    for ifindex in pins.linked()? {
        let name = netlink::link(ifindex).ok().flatten().map(|link| link.name);
        pins.unlink(ifindex)?;
        removed.links.push((ifindex, name));
    }
    let groups = Groups::open().and_then(|groups| groups.leave_all());
    removed.groups = groups.map_err(RemoveError::Groups)?;
    for layout in pins.layouts()? {
        pins.remove_layout(&layout)?;
        removed.layouts.push(layout);
    }
    pins.remove_directories()?;
    Ok(removed)
}

/// Locks the pins; `None` if there are none.
fn lock(pins: &Pins, bpffs: &Path) -> Result<Option<Lock>, PinError> {
    if bpffs::is_bpffs(bpffs)? != Some(true) || !pins.exists()? {
        return Ok(None);
    }
    Ok(Some(Lock::take(pins.root())?))
}
