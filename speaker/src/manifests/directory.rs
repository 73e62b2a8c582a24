//! The configuration in the directory, a state that each scan updates.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use speaker_core::intent::{
    Key, Object,
    admission::{Admission, Conflict},
};

use crate::source::Change;

use super::{
    read::{self, Contents, Note, Rejected},
    refused::{Reason, Refused},
    scan::Seen,
};

/// What has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Objects that are gone.
    pub delete: Vec<Key>,
    /// Objects that are new or have changed.
    pub apply: Vec<Object>,
    /// Everything that is refused now, new or not.
    pub refused: Vec<Refused>,
}

impl From<Found> for Change {
    fn from(found: Found) -> Self {
        let Found {
            delete,
            apply,
            refused,
        } = found;
        Self {
            delete,
            apply,
            refused: refused.iter().map(ToString::to_string).collect(),
            peers: None,
        }
    }
}

/// The result of a scan of the directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// What has changed, if anything. The first scan always has a change.
    pub change: Option<Found>,
    /// Notes for the operator about new or changed files: where, and what.
    pub notes: Vec<(String, Note)>,
    /// Files with new good content, and files that are gone, by name.
    pub last_good: BTreeMap<PathBuf, Option<String>>,
}

/// The files, and which contents are in force.
#[derive(Debug, Default)]
pub struct Directory {
    path: PathBuf,
    files: BTreeSet<PathBuf>,
    contents: Admission<PathBuf, Contents>,
    rejected: BTreeMap<PathBuf, Rejected>,
    unreadable: Option<String>,
    /// The texts of contents that have not been admitted yet.
    waiting: BTreeMap<PathBuf, String>,
    in_force: BTreeMap<Key, Object>,
    refused: Option<Vec<Refused>>,
}

impl Directory {
    /// The directory at this path (used only in messages), with the last good contents of its
    /// files, which count until the files have been read.
    pub fn new(path: PathBuf, last_good: BTreeMap<PathBuf, String>) -> Self {
        let mut directory = Self {
            path,
            ..Self::default()
        };
        for (file, text) in last_good {
            // Content that is no longer valid does not count.
            if let Ok(contents) = read::read(&text) {
                directory.contents.offer(file.clone(), contents);
            }
            directory.files.insert(file);
        }
        for file in directory.contents.settle().keys() {
            directory.contents.retract(file);
        }
        directory
    }

    /// Handles the result of a scan: all manifests by name, or an error.
    pub fn update(&mut self, found: Result<BTreeMap<PathBuf, Seen>, String>) -> Update {
        let mut update = Update::default();
        match found {
            Ok(found) => {
                self.unreadable = None;
                self.remove_all_but(&found, &mut update);
                for (file, seen) in found {
                    self.take(&file, seen, &mut update);
                    self.files.insert(file);
                }
            }
            // A missing directory changes nothing; an empty one means that everything is gone.
            Err(error) => self.unreadable = Some(error),
        }
        let conflicts = self.contents.settle();
        let admitted = self
            .waiting
            .extract_if(.., |file, _| !conflicts.contains_key(file));
        update
            .last_good
            .extend(admitted.map(|(file, text)| (file, Some(text))));
        update.change = self.change(conflicts);
        update
    }

    fn remove_all_but(&mut self, found: &BTreeMap<PathBuf, Seen>, update: &mut Update) {
        for file in self.files.extract_if(.., |file| !found.contains_key(file)) {
            self.contents.withdraw(&file);
            self.rejected.remove(&file);
            self.waiting.remove(&file);
            update.last_good.insert(file, None);
        }
    }

    fn take(&mut self, file: &Path, seen: Seen, update: &mut Update) {
        let read = match seen {
            Seen::Unchanged => return,
            Seen::Unreadable(error) => Err(Rejected {
                line: None,
                reason: Reason::Unreadable(error),
            }),
            Seen::Text(text) => read::read(&text).map(|contents| (contents, text)),
        };
        match read {
            Ok((contents, text)) => {
                let path = self.path.join(file);
                let place = |line| format!("{}:{line}", path.display());
                let notes = contents.notes.iter();
                update
                    .notes
                    .extend(notes.map(|(line, note)| (place(line), note.clone())));
                self.rejected.remove(file);
                self.waiting.insert(file.to_owned(), text);
                self.contents.offer(file.to_owned(), contents);
            }
            Err(rejected) => {
                self.contents.retract(&file.to_owned());
                self.waiting.remove(file);
                self.rejected.insert(file.to_owned(), rejected);
            }
        }
    }

    /// What has changed in what is in force and refused.
    fn change(&mut self, conflicts: BTreeMap<PathBuf, Conflict<PathBuf>>) -> Option<Found> {
        let mut change = Found {
            refused: self.refusals(conflicts),
            ..Found::default()
        };
        let mut gone = self.in_force.keys().cloned().collect::<BTreeSet<_>>();
        for (_, contents) in self.contents.in_force() {
            for (_, object) in &contents.objects {
                let key = object.key();
                gone.remove(&key);
                if self.in_force.get(&key) != Some(object) {
                    self.in_force.insert(key, object.clone());
                    change.apply.push(object.clone());
                }
            }
        }
        for key in &gone {
            self.in_force.remove(key);
        }
        change.delete.extend(gone);
        let is_new = self.refused.as_ref() != Some(&change.refused);
        self.refused = Some(change.refused.clone());
        (is_new || !change.apply.is_empty() || !change.delete.is_empty()).then_some(change)
    }

    fn refusals(&self, conflicts: BTreeMap<PathBuf, Conflict<PathBuf>>) -> Vec<Refused> {
        let good: BTreeSet<_> = self.contents.in_force().map(|(file, _)| file).collect();
        let refused = |file: &PathBuf, line, reason| Refused {
            path: self.path.join(file),
            line,
            reason,
            last_good: good.contains(file),
        };
        let rejected = self
            .rejected
            .iter()
            .map(|(file, Rejected { line, reason })| refused(file, *line, reason.clone()));
        let conflicts = conflicts.into_iter().map(|(file, mut conflict)| {
            conflict.holder = self.path.join(&conflict.holder);
            let line = Some(conflict.claimed.place);
            refused(
                &file,
                line,
                Reason::Conflict {
                    conflict: conflict.into(),
                },
            )
        });
        let unreadable = self.unreadable.iter().map(|error| Refused {
            path: self.path.clone(),
            line: None,
            reason: Reason::Unreadable(error.clone()),
            last_good: !good.is_empty(),
        });
        let mut all: Vec<_> = unreadable.chain(rejected).chain(conflicts).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
