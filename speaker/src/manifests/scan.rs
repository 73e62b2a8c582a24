//! Scanning the directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The largest file that is read: several times the size of one with as many VIPs as the maps hold.
const MAX_FILE_BYTES: u64 = 128 << 20;

/// A file that changed less than this ago may change again without a new time stamp: the kernel's
/// clock for these is coarse.
const UNSETTLED: Duration = Duration::from_millis(40);

/// A file that became empty less than this ago does not count as changed: in `program > file`, the
/// shell empties it before the program writes.
const UNWRITTEN: Duration = Duration::from_secs(5);

/// The result of scanning a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Unchanged since the last scan.
    Unchanged,
    /// New or changed.
    Text(String),
    /// It exists but cannot be read, for this reason.
    Unreadable(String),
}

/// Scans a directory repeatedly, and reads only what has changed.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    known: BTreeMap<PathBuf, Known>,
    linked: BTreeSet<PathBuf>,
    has_unwritten: bool,
}

#[derive(Debug)]
struct Known {
    stamp: Option<Stamp>,
    hash: u64,
}

/// What changes when the content of a file changes.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Scanner {
    /// The names of all manifests of the directory.
    pub(super) fn list(&mut self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        self.linked.clear();
        for entry in fs::read_dir(directory)? {
            let name = PathBuf::from(entry?.file_name());
            if is_manifest(&name) {
                self.linked
                    .extend(link_target(&directory.join(&name), directory));
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Other directories that files of this one are links into, as of the last listing.
    pub(super) const fn linked(&self) -> &BTreeSet<PathBuf> {
        &self.linked
    }

    /// Whether a file may be about to be written, as of the last reading.
    pub(super) const fn has_unwritten(&self) -> bool {
        self.has_unwritten
    }

    /// What is in these files.
    pub(super) fn read(
        &mut self,
        directory: &Path,
        names: Vec<PathBuf>,
    ) -> BTreeMap<PathBuf, Seen> {
        self.has_unwritten = false;
        let mut found = BTreeMap::new();
        for name in names {
            if let Some(seen) = self.look(&name, &directory.join(&name)) {
                found.insert(name, seen);
            }
        }
        self.known.retain(|name, _| found.contains_key(name));
        found
    }

    fn look(&mut self, name: &Path, path: &Path) -> Option<Seen> {
        match self.read_file(name, path) {
            Ok(seen) => seen,
            // It has gone since the listing, unless it is a dangling link.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => None,
            Err(error) => {
                self.known.remove(name);
                Some(Seen::Unreadable(error.to_string()))
            }
        }
    }

    fn read_file(&mut self, name: &Path, path: &Path) -> io::Result<Option<Seen>> {
        let metadata = fs::metadata(path)?;
        // Opening a pipe would block.
        if !metadata.is_file() {
            return Ok(None);
        }
        if metadata.len() > MAX_FILE_BYTES {
            let limit = MAX_FILE_BYTES >> 20;
            return Err(io::Error::other(format!(
                "larger than {limit} MiB: split it"
            )));
        }
        let stamp = Stamp::of(&metadata);
        if stamp.bytes == 0 && stamp.age() < UNWRITTEN {
            self.has_unwritten = true;
            return Ok(Some(Seen::Unchanged));
        }
        let known = self.known.get(name);
        if known.is_some_and(|known| known.stamp.as_ref() == Some(&stamp)) {
            return Ok(Some(Seen::Unchanged));
        }
        let text = fs::read_to_string(path)?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        let is_same = known.is_some_and(|known| known.hash == hash);
        let known = Known {
            stamp: (stamp.age() > UNSETTLED).then_some(stamp),
            hash,
        };
        self.known.insert(name.to_owned(), known);
        Ok(Some(if is_same {
            Seen::Unchanged
        } else {
            Seen::Text(text)
        }))
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The time since the last change.
    fn age(&self) -> Duration {
        let (seconds, nanoseconds) = self.changed;
        let changed = Duration::new(
            seconds.try_into().unwrap_or(0),
            nanoseconds.try_into().unwrap_or(0),
        );
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        now.abs_diff(changed)
    }
}

/// Whether a file of this name counts: not a hidden one, nor one that editors leave behind.
fn is_manifest(name: &Path) -> bool {
    let is_ours = name
        .extension()
        .is_some_and(|it| it == "yaml" || it == "yml" || it == "json");
    is_ours
        && !name.as_os_str().as_encoded_bytes().starts_with(b".")
        && !name.as_os_str().as_encoded_bytes().starts_with(b"#")
}

/// The directory that a link points into, if that is another one.
fn link_target(path: &Path, directory: &Path) -> Option<PathBuf> {
    if !path.is_symlink() {
        return None;
    }
    let target = fs::canonicalize(path).ok()?;
    let parent = target.parent()?;
    (fs::canonicalize(directory).ok()? != parent).then(|| parent.to_owned())
}
