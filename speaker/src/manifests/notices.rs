//! Change notifications from the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tracing::warn;

/// Notifications of changes of one directory: its files, the targets of links among them, and the
/// directory itself.
pub(super) struct Notices {
    directory: PathBuf,
    /// `None` if the kernel sends no notifications.
    watcher: Option<RecommendedWatcher>,
    /// The watched directories, and their identities.
    asked: BTreeMap<PathBuf, Option<Identity>>,
    are_complete: bool,
}

/// Device and inode.
type Identity = (u64, u64);

impl Notices {
    pub(super) fn new(directory: PathBuf, mut wake: impl FnMut() + Send + 'static) -> Self {
        let of = directory.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| concerns(&of, &event)) {
                wake();
            }
        });
        let watcher = watcher
            .inspect_err(|error| warn!("inotify unavailable; polling the manifests: {error}"));
        Self {
            directory,
            are_complete: watcher.is_ok(),
            watcher: watcher.ok(),
            asked: BTreeMap::new(),
        }
    }

    /// Whether nothing can change without a notification.
    pub(super) const fn are_complete(&self) -> bool {
        self.are_complete
    }

    /// Requests notifications about what exists now. `linked`: directories that files are links
    /// into.
    pub(super) fn ask(&mut self, linked: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let above = self.directory.ancestors().skip(1).find(|it| it.is_dir());
        let itself = Some(&*self.directory).filter(|it| it.is_dir());
        // A directory may be gone by now, as the old one after a ConfigMap has changed.
        let linked = linked.iter().map(PathBuf::as_path).filter(|it| it.is_dir());
        let wanted: BTreeMap<_, _> = above
            .into_iter()
            .chain(itself)
            .chain(linked)
            .map(|path| (path.to_owned(), identity(path)))
            .collect();
        for (path, identity) in &self.asked {
            if wanted.get(path) != Some(identity) {
                // It does not matter whether the watch still existed.
                let _ = watcher.unwatch(path);
            }
        }
        // Including those already watched: a directory that was removed and created again may have
        // the old one's inode, but not its watch.
        let mut ask = |path: &PathBuf| watcher.watch(path, RecursiveMode::NonRecursive);
        let failed = wanted.keys().find_map(|path| ask(path).err());
        if let Some(error) = &failed
            && self.are_complete
        {
            warn!("inotify cannot watch all of the manifests; polling them: {error}");
        }
        self.are_complete = failed.is_none();
        self.asked = wanted;
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether something may have changed. Reads do not count, nor do other entries above the
/// directory.
fn concerns(directory: &Path, event: &Event) -> bool {
    let is_read = match event.kind {
        EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
        _ => false,
    };
    let is_beside = |path: &PathBuf| {
        let is_above = |parent| parent != directory && directory.starts_with(parent);
        path.parent().is_some_and(is_above) && !directory.starts_with(path)
    };
    !is_read && (event.paths.is_empty() || !event.paths.iter().all(is_beside))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the one that a ConfigMap's files were links into before its last change.
    #[test]
    fn a_directory_that_is_gone_does_not_make_notifications_incomplete() {
        let root = tempfile::tempdir().unwrap();
        let mut notices = Notices::new(root.path().to_owned(), || ());
        let linked = BTreeSet::from([root.path().join("..1")]);
        fs::create_dir(root.path().join("..1")).unwrap();
        for _ in 0..2 {
            notices.ask(&linked);
            assert!(notices.are_complete());
            let _ = fs::remove_dir(root.path().join("..1"));
        }
    }
}
