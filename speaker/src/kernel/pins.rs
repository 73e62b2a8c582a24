//! The pins, which outlive the agent: `<bpffs>/speaker/v2/<map>` for the maps of layout version
//! 2, and `<bpffs>/speaker/links/<ifindex>` for the attachments, which outlive layouts. Beside an
//! attachment in generic mode, a symbolic link `native-refused/<ifindex>` says why it is in that
//! mode although native was requested; this is all the text that such a file system can hold.
//!
//! A BPF file system allows no dots in names.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
};

use aya::{
    maps::Map,
    pin,
    programs::links::{FdLink, LinkError, PinnedLink},
};
use speaker_common::layout::LAYOUT_VERSION;
use thiserror::Error;
use tracing::info;

use super::{
    bpffs::BpffsError,
    fit::{Fit, pinned_shape},
    lock::LockError,
    object::Shape,
    sys,
};

/// The pinned maps, by name.
pub(super) const MAPS: [&str; 12] = [
    "links", "filter", "vips_v4", "vips_v6", "counters", "reasons", "lease", "peers", "probes",
    "scratch", "tap", "events",
];

/// Why nothing can be pinned, or pins cannot be used.
#[derive(Debug, Error)]
pub enum PinError {
    /// There is no file system for them.
    #[error(transparent)]
    Bpffs(#[from] BpffsError),
    /// Another agent uses them.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// One of them cannot be created, moved or removed.
    #[error("cannot {action} {path}")]
    Refused {
        /// What the kernel does not do.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it says.
        #[source]
        source: io::Error,
    },
}

impl PinError {
    fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Refused {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// The directory of all pins.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

/// Where the maps of this run are, and what was found there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) directory: PathBuf,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing was there.
    New,
    /// The maps of an earlier run, which fit.
    Adopted,
    /// Some maps of an earlier run have other sizes. New ones, together with those that fit, are in
    /// a directory beside theirs until all links use them.
    Staged,
}

impl Pins {
    pub(super) fn under(bpffs: &Path) -> Self {
        Self {
            root: bpffs.join("speaker"),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the directory exists.
    pub(super) fn exists(&self) -> Result<bool, PinError> {
        self.root
            .try_exists()
            .map_err(PinError::new("look at", &self.root))
    }

    /// The directory of this layout version's maps.
    pub(super) fn maps(&self) -> PathBuf {
        self.root.join(format!("v{LAYOUT_VERSION}"))
    }

    /// The directory where new maps wait while older ones are still in use.
    fn staging(&self) -> PathBuf {
        self.root.join(format!("v{LAYOUT_VERSION}-new"))
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    fn refusals(&self) -> PathBuf {
        self.root.join("native-refused")
    }

    fn refusal(&self, ifindex: u32) -> PathBuf {
        self.refusals().join(ifindex.to_string())
    }

    /// Why native mode was refused when the interface's pinned attachment was made.
    pub(super) fn why_not_native(&self, ifindex: u32) -> Option<String> {
        let why = fs::read_link(self.refusal(ifindex)).ok()?;
        Some(why.to_string_lossy().into_owned())
    }

    /// Notes why native mode was refused, for as long as the attachment is pinned.
    pub(super) fn note_why_not_native(&self, ifindex: u32, why: &str) -> Result<(), PinError> {
        make_directory(&self.refusals())?;
        let path = self.refusal(ifindex);
        remove(&path)?;
        symlink(why, &path).map_err(PinError::new("create", &path))
    }

    /// The pin of the attachment to this interface.
    pub(super) fn link(&self, ifindex: u32) -> PathBuf {
        self.links().join(ifindex.to_string())
    }

    /// The interfaces that have a pin.
    pub(super) fn linked(&self) -> Result<Vec<u32>, PinError> {
        let mut found: Vec<u32> = names(&self.links())?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Decides where the maps of this run go, and cleans up after an interrupted run.
    pub(super) fn prepare(
        &self,
        wanted: &BTreeMap<&'static str, Shape>,
    ) -> Result<Layout, PinError> {
        make_directory(&self.links())?;
        let (maps, staging) = (self.maps(), self.staging());
        if staging.exists() && !maps.exists() {
            // Interrupted between the two steps of `settle`.
            rename(&staging, &maps)?;
        }
        let (directory, state) = match Fit::of(&maps, wanted) {
            Fit::Nothing => (maps, State::New),
            Fit::Fits => (maps, State::Adopted),
            Fit::Differs { map, how } => {
                info!("the pinned map {map} {how}: creating a new one beside it");
                if matches!(Fit::of(&staging, wanted), Fit::Differs { .. }) {
                    remove_tree(&staging)?;
                }
                (staging.clone(), State::Staged)
            }
        };
        if state != State::Staged {
            remove_tree(&staging)?;
        }
        make_directory(&directory)?;
        if state == State::Staged {
            share(&self.maps(), &directory, wanted)?;
        }
        Ok(Layout { directory, state })
    }

    /// Moves staged maps into place, and removes all other layouts. Returns the removed layouts, by
    /// the names of their directories.
    pub(super) fn settle(&self, layout: &mut Layout) -> Result<Vec<String>, PinError> {
        let mut removed = Vec::new();
        for name in self.layouts()? {
            let path = self.root.join(&name);
            if path != layout.directory {
                remove_tree(&path)?;
                removed.push(name);
            }
        }
        if layout.state == State::Staged {
            rename(&layout.directory, &self.maps())?;
            layout.directory = self.maps();
        }
        layout.state = State::Adopted;
        Ok(removed)
    }

    /// The names of all directories that hold maps of a layout.
    pub(super) fn layouts(&self) -> Result<Vec<String>, PinError> {
        let is_layout = |name: &String| {
            name.strip_prefix('v').is_some_and(|version| {
                let version = version.strip_suffix("-new").unwrap_or(version);
                version.parse::<u32>().is_ok()
            })
        };
        Ok(names(&self.root)?.into_iter().filter(is_layout).collect())
    }

    /// Keeps the attachment to the interface beyond the end of this process.
    pub(super) fn pin_link(&self, ifindex: u32, link: FdLink) -> Result<(), PinError> {
        make_directory(&self.links())?;
        let path = self.link(ifindex);
        let pinned = link.pin(&path).map(drop).map_err(kernels);
        pinned.map_err(PinError::new("pin an attachment at", &path))
    }

    /// Opens the pinned attachment of the interface.
    pub(super) fn open(&self, ifindex: u32) -> Result<OwnedFd, PinError> {
        let path = self.link(ifindex);
        sys::open_pin(&path).map_err(PinError::new("open", &path))
    }

    /// Pins the attachment to the interface, unless it is pinned. Returns whether it was not.
    pub(super) fn restore_link(
        &self,
        ifindex: u32,
        link: BorrowedFd<'_>,
    ) -> Result<bool, PinError> {
        restore(&self.links(), &ifindex.to_string(), |path| {
            sys::pin(link, path)
        })
    }

    /// Detaches the program from the interface at once: dropping the last reference would do so
    /// some time later.
    pub(super) fn detach(&self, ifindex: u32, link: BorrowedFd<'_>) -> Result<(), PinError> {
        sys::detach_link(link).map_err(PinError::new("detach", &self.link(ifindex)))
    }

    /// Detaches the program from the interface, if it still exists, and removes the pin.
    pub(super) fn unlink(&self, ifindex: u32) -> Result<(), PinError> {
        let path = self.link(ifindex);
        match sys::open_pin(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            link => self.detach(ifindex, link.map_err(PinError::new("open", &path))?.as_fd())?,
        }
        remove(&path)?;
        remove(&self.refusal(ifindex))
    }

    /// Removes unused maps.
    pub(super) fn discard(&self, layout: &Layout) -> Result<(), PinError> {
        remove_tree(&layout.directory)
    }

    /// Removes the maps of the layout with this directory name.
    pub(super) fn remove_layout(&self, name: &str) -> Result<(), PinError> {
        remove_tree(&self.root.join(name))
    }

    /// Removes the directories. Fails if something else has put files there.
    pub(super) fn remove_directories(&self) -> Result<(), PinError> {
        remove_tree(&self.refusals())?;
        for path in [&self.links(), &self.root] {
            match fs::remove_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(PinError::new("remove", path))?,
            }
        }
        Ok(())
    }
}

/// The link pinned there, if any.
pub(super) fn open_link(path: &Path) -> Result<Option<PinnedLink>, LinkError> {
    match PinnedLink::from_pin(path) {
        Ok(link) => Ok(Some(link)),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Layout {
    /// Pins one of its maps, unless it is pinned. Returns whether it was not.
    pub(super) fn restore_map(&self, name: &str, map: &Map) -> Result<bool, PinError> {
        restore(&self.directory, name, |path| map.pin(path).map_err(kernels))
    }
}

fn restore(
    directory: &Path,
    name: &str,
    pin: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<bool, PinError> {
    let path = directory.join(name);
    if path.try_exists().map_err(PinError::new("look at", &path))? {
        return Ok(false);
    }
    make_directory(directory)?;
    pin(&path).map_err(PinError::new("pin", &path))?;
    Ok(true)
}

/// The kernel's error behind aya's.
fn kernels(error: pin::PinError) -> io::Error {
    match error {
        pin::PinError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}

/// Pins the maps that fit in a second place, so that the old and the new program share lease, VIPs
/// and counters.
fn share(from: &Path, to: &Path, wanted: &BTreeMap<&'static str, Shape>) -> Result<(), PinError> {
    for (map, shape) in wanted {
        let (old, new) = (from.join(map), to.join(map));
        let fits = matches!(pinned_shape(&old), Ok(Some(pinned)) if pinned == *shape);
        if fits && !new.exists() {
            fs::hard_link(&old, &new).map_err(PinError::new("pin a map at", &new))?;
        }
    }
    Ok(())
}

/// The names of a directory's entries; empty if there is no directory.
fn names(directory: &Path) -> Result<Vec<String>, PinError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(PinError::new("read", directory)(error)),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()
        .map_err(PinError::new("read", directory))
}

fn make_directory(path: &Path) -> Result<(), PinError> {
    fs::create_dir_all(path).map_err(PinError::new("create", path))
}

fn rename(from: &Path, to: &Path) -> Result<(), PinError> {
    fs::rename(from, to).map_err(PinError::new("rename", from))
}

/// Removes a file, if there is one.
fn remove(path: &Path) -> Result<(), PinError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(PinError::new("remove", path)),
    }
}

fn remove_tree(path: &Path) -> Result<(), PinError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(PinError::new("remove", path)),
    }
}
