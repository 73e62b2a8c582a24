//! The last good content of each file, stored in case the file is bad at the next start.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use tracing::warn;

/// Names the directory that the contents come from: those of another directory do not count.
const MARKER: &str = ".directory";

/// Copies of files under the state directory.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

impl Store {
    /// Opens the copies of the files of a directory, given by its absolute path.
    pub(super) fn open(state: &Path, of: &Path) -> io::Result<Self> {
        let store = Self {
            directory: state.join(crate::state::MANIFESTS),
        };
        fs::create_dir_all(&store.directory)?;
        let marker = store.directory.join(MARKER);
        match fs::read(&marker) {
            Ok(marked) if marked == of.as_os_str().as_bytes() => return Ok(store),
            // As left by a power failure, or on a full disk.
            Ok(marked) if marked.is_empty() => {}
            Ok(_) => {
                for name in store.names()? {
                    store.forget(&name)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // These files are not ours to remove.
                if !store.names()?.is_empty() {
                    let directory = store.directory.display();
                    let message = format!("{directory} holds other files: move them away");
                    return Err(io::Error::other(message));
                }
            }
            Err(error) => return Err(error),
        }
        fs::write(marker, of.as_os_str().as_bytes())?;
        Ok(store)
    }

    /// All copies, by name. One that cannot be read does not count.
    pub(super) fn load(&self) -> io::Result<BTreeMap<PathBuf, String>> {
        let read = |name: PathBuf| {
            let path = self.directory.join(&name);
            let text = fs::read_to_string(&path).inspect_err(|error| {
                warn!(
                    "{}: {error}: this copy of a manifest does not count",
                    path.display()
                );
            });
            Some((name, text.ok()?))
        };
        Ok(self.names()?.into_iter().filter_map(read).collect())
    }

    /// Replaces a copy atomically.
    pub(super) fn keep(&self, name: &Path, text: &str) -> io::Result<()> {
        let path = self.directory.join(name);
        if fs::read(&path).is_ok_and(|kept| kept == text.as_bytes()) {
            return Ok(());
        }
        // Without fsync: after a power failure, the file itself is most likely good.
        let new = self.directory.join(".new");
        fs::write(&new, text)?;
        fs::rename(new, path)
    }

    /// Removes a copy.
    pub(super) fn forget(&self, name: &Path) -> io::Result<()> {
        match fs::remove_file(self.directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn names(&self) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if !name.as_bytes().starts_with(b".") {
                names.push(PathBuf::from(name));
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_outlive_the_store_but_not_a_change_of_directory() {
        let state = tempfile::tempdir().unwrap();
        let open = |of: &str| Store::open(state.path(), Path::new(of)).unwrap();
        let (a, b) = (Path::new("a.yaml"), Path::new("b.yaml"));
        let store = open("/etc/speaker");
        store.keep(a, "1").unwrap();
        store.keep(a, "2").unwrap();
        store.keep(b, "3").unwrap();
        store.forget(b).unwrap();
        store.forget(b).unwrap();
        let kept = BTreeMap::from([(a.to_owned(), "2".to_owned())]);
        assert_eq!(open("/etc/speaker").load().unwrap(), kept);
        assert!(open("/etc/other").load().unwrap().is_empty());
        assert!(open("/etc/speaker").load().unwrap().is_empty());
    }

    /// As after a power failure.
    #[test]
    fn a_damaged_copy_or_an_empty_marker_costs_no_other_copy() {
        let state = tempfile::tempdir().unwrap();
        let open = || Store::open(state.path(), Path::new("/etc/speaker")).unwrap();
        let (a, b) = (Path::new("a.yaml"), Path::new("b.yaml"));
        let store = open();
        store.keep(a, "1").unwrap();
        store.keep(b, "2").unwrap();
        fs::write(store.directory.join(b), [0xff]).unwrap();
        fs::write(store.directory.join(MARKER), "").unwrap();
        let kept = BTreeMap::from([(a.to_owned(), "1".to_owned())]);
        assert_eq!(open().load().unwrap(), kept);
        store.keep(b, "3").unwrap();
        assert_eq!(open().load().unwrap().len(), 2);
    }

    #[test]
    fn foreign_files_are_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let other = state.path().join("last-good-manifests/a.yaml");
        fs::create_dir(other.parent().unwrap()).unwrap();
        fs::write(&other, "precious").unwrap();
        Store::open(state.path(), Path::new("/etc/speaker")).unwrap_err();
        assert_eq!(fs::read_to_string(other).unwrap(), "precious");
    }
}
