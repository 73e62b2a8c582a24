//! Directories.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

/// The repository.
pub(crate) fn workspace() -> PathBuf {
    // At run time first: the repository may have moved since xtask was built.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package
        .parent()
        .expect("a member of the workspace lies inside it")
        .to_owned()
}

/// The cache for downloads, shared by all checkouts: `speaker` in the user's cache directory (XDG
/// Base Directory Specification).
pub(crate) fn cache() -> Result<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .context("no place for downloads: set XDG_CACHE_HOME or HOME to an absolute path")?;
    Ok(base.join("speaker"))
}
