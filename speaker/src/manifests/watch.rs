//! Watching the directory.

use std::{
    collections::BTreeMap,
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::{self, Instant},
};
use tracing::{info, warn};

use crate::{blocking::blocking, source::Change};

use super::{
    directory::{Directory, Found, Update},
    notices::Notices,
    refused::Refused,
    scan::Scanner,
    store::Store,
};

/// Changes closer together than this are handled as one.
const QUIET: Duration = Duration::from_millis(50);
/// The longest time for which changes are collected.
const BURST: Duration = Duration::from_millis(300);
/// The interval between scans, in case a notification was lost.
const REGULAR: Duration = Duration::from_secs(10);
/// The interval between scans if the kernel sends no notifications, or a file may soon count as it
/// is.
const UNNOTICED: Duration = Duration::from_millis(500);

/// Sends the configuration in the directory, and then its changes, until the receiver is dropped.
/// Also logs what is refused. The last good contents are kept under `state`.
pub async fn watch(directory: PathBuf, state: PathBuf, changes: mpsc::Sender<Change>) {
    let wake = Arc::new(Notify::new());
    let on_change = Arc::clone(&wake);
    let mut watcher = blocking(move || Watcher::new(directory, &state, on_change)).await;
    loop {
        let (change, last_good);
        (watcher, change, last_good) = blocking(move || watcher.look()).await;
        if let Some(change) = change
            && changes.send(change.into()).await.is_err()
        {
            return;
        }
        let pause;
        (watcher, pause) = blocking(move || watcher.keep(last_good)).await;
        tokio::select! {
            () = changes.closed() => return,
            () = wake.notified() => quiet(&wake).await,
            () = time::sleep(pause) => (),
        }
    }
}

async fn quiet(wake: &Notify) {
    let end = Instant::now() + BURST;
    while Instant::now() < end
        && time::timeout_at(end.min(Instant::now() + QUIET), wake.notified())
            .await
            .is_ok()
    {}
}

/// The blocking part: reading files, and writing copies.
struct Watcher {
    path: PathBuf,
    state: PathBuf,
    notices: Notices,
    scanner: Scanner,
    directory: Directory,
    /// `None` until it can be opened.
    store: Option<Store>,
    /// What could not be written to the store yet, and why, which is logged once.
    unsaved: BTreeMap<PathBuf, Option<String>>,
    failure: Option<String>,
    refused: Vec<Refused>,
}

impl Watcher {
    fn new(path: PathBuf, state: &Path, wake: Arc<Notify>) -> Self {
        let path = std::path::absolute(&path).unwrap_or(path);
        let mut watcher = Self {
            notices: Notices::new(path.clone(), move || wake.notify_one()),
            scanner: Scanner::default(),
            directory: Directory::default(),
            state: state.to_owned(),
            store: None,
            unsaved: BTreeMap::new(),
            failure: None,
            refused: Vec::new(),
            path,
        };
        let last_good = watcher.store().and_then(Store::load);
        let last_good = last_good.unwrap_or_else(|error| {
            watcher.failed(error);
            BTreeMap::new()
        });
        watcher.directory = Directory::new(watcher.path.clone(), last_good);
        watcher
    }

    /// The store, which is opened if it is not open yet.
    fn store(&mut self) -> io::Result<&Store> {
        if self.store.is_none() {
            self.store = Some(Store::open(&self.state, &self.path)?);
        }
        Ok(self.store.as_ref().expect("it has just been opened"))
    }

    fn look(mut self) -> (Self, Option<Found>, BTreeMap<PathBuf, Option<String>>) {
        // Changes from here on cause notifications.
        self.notices.ask(self.scanner.linked());
        let found = self.scanner.list(&self.path).map(|names| {
            self.notices.ask(self.scanner.linked());
            self.scanner.read(&self.path, names)
        });
        let found = found.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "no such directory: create it, empty if nothing is to be announced".to_owned()
            }
            io::ErrorKind::NotADirectory => {
                "not a directory: put the manifests into one, and name that".to_owned()
            }
            _ => error.to_string(),
        });
        let Update {
            change,
            notes,
            last_good,
        } = self.directory.update(found);
        for (place, note) in notes {
            if note.is_warning() {
                warn!("{place}: {note}");
            } else {
                info!("{place}: {note}");
            }
        }
        if let Some(change) = &change {
            self.log(&change.refused);
        }
        (self, change, last_good)
    }

    /// Logs what is newly refused, and what is valid again.
    fn log(&mut self, refused: &[Refused]) {
        let before = mem::replace(&mut self.refused, refused.to_vec());
        for refused in refused.iter().filter(|it| !before.contains(it)) {
            warn!("{refused}");
        }
        let is_refused = |path: &Path| refused.iter().any(|it| it.path == path);
        for Refused { path, .. } in before.into_iter().filter(|it| !is_refused(&it.path)) {
            if path.exists() {
                info!("{}: valid again, and in force", path.display());
            }
        }
    }

    /// Writes what a restart needs. A failed write, for example to a full disk, is retried the next
    /// time. Returns the latest time for the next scan.
    fn keep(mut self, last_good: BTreeMap<PathBuf, Option<String>>) -> (Self, Duration) {
        self.unsaved.extend(last_good);
        match self.save() {
            Ok(()) => self.failure = None,
            Err(error) => self.failed(error),
        }
        let is_settled = self.notices.are_complete() && !self.scanner.has_unwritten();
        let pause = if is_settled { REGULAR } else { UNNOTICED };
        (self, pause)
    }

    fn save(&mut self) -> io::Result<()> {
        let mut unsaved = mem::take(&mut self.unsaved);
        let store = match self.store() {
            Ok(store) => store,
            Err(error) => {
                self.unsaved = unsaved;
                return Err(error);
            }
        };
        let mut result = Ok(());
        unsaved.retain(|name, text| {
            let saved = match text {
                Some(text) => store.keep(name, text),
                None => store.forget(name),
            };
            let failed = saved.is_err();
            if failed {
                result = saved;
            }
            failed
        });
        self.unsaved = unsaved;
        result
    }

    fn failed(&mut self, error: io::Error) {
        let failure = Some(error.to_string());
        if self.failure != failure {
            warn!(
                "cannot save the last good manifests under {} (--state-dir), so a restart may use \
                 older ones: {error}; trying again",
                self.state.display()
            );
        }
        self.failure = failure;
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
