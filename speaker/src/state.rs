//! What the agent keeps on its node: the names in its state directory.

use std::{fs, io, path::Path};

/// The socket for `speaker status` and the other verbs.
pub(crate) const SOCKET: &str = "agent.sock";
/// Exists while the node is drained.
pub(crate) const DRAINED: &str = "drained";
/// The last known objects of the cluster.
pub(crate) const OBJECTS: &str = "last-known-objects.json";
/// [`OBJECTS`] while it is being written.
pub(crate) const NEW_OBJECTS: &str = "last-known-objects.new";
/// The nodes that it has met, with their addresses.
pub(crate) const MEMBERS: &str = "members";
/// [`MEMBERS`] while it is being written.
pub(crate) const NEW_MEMBERS: &str = "members.new";
/// The last good content of each manifest.
pub(crate) const MANIFESTS: &str = "last-good-manifests";

/// Removes all of it, and the directory unless it contains anything else or is a mount point.
/// Returns whether there was anything to remove.
///
/// # Errors
///
/// Something cannot be removed.
pub fn remove(directory: &Path) -> io::Result<bool> {
    let mut found = false;
    for name in [
        SOCKET,
        DRAINED,
        OBJECTS,
        NEW_OBJECTS,
        MEMBERS,
        NEW_MEMBERS,
        MANIFESTS,
    ] {
        let path = directory.join(name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(it) if it.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => found = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    // Fails if it is not empty, or a mount point.
    let _ = fs::remove_dir(directory);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_in_the_state_directory_stay() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        assert!(!remove(&directory).unwrap(), "there is no directory");
        fs::create_dir_all(directory.join(MANIFESTS)).unwrap();
        fs::write(directory.join(DRAINED), "").unwrap();
        fs::write(directory.join("note"), "").unwrap();
        assert!(remove(&directory).unwrap());
        let left: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        fs::remove_file(directory.join("note")).unwrap();
        assert!(
            !remove(&directory).unwrap(),
            "nothing of the agent's is left"
        );
        assert!(!directory.exists());
    }
}
