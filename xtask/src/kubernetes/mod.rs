//! A real Kubernetes for the tests: API server, etcd, kube-proxy and kubectl, from Debian's
//! packages alone.
//!
//! No package has an API server or kube-proxy; they are built from the last source package that is
//! complete. That is done once for a machine, and takes some minutes.

mod build;

use std::{
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    debian::{Archive, Package},
    places, shell,
};

/// What is built, in the words that it has for itself.
const VERSION: &str = "1.20.2";

/// A package, and the beginning of the version that is meant.
type Wanted = (&'static str, &'static str);

/// The last source package that has more than kubectl.
const SOURCE: Wanted = ("kubernetes", "1.20.5+really1.20.2-");

/// What builds it.
const TOOLS: [Wanted; 3] = [
    ("golang-1.19-go", "1.19."),
    ("golang-1.19-src", "1.19."),
    // The sources' own copy, 1.0.1, crashes the server of a newer Go at the first custom resource.
    ("golang-github-modern-go-reflect2-dev", "1.0.2-"),
];

/// Programs that packages do have, and where.
const PROGRAMS: [(Wanted, &str); 2] = [
    (("etcd-server", "3.4."), "usr/bin/etcd"),
    // Its kustomize is years ahead of the one that the sources have.
    (("kubectl", "1.32."), "usr/bin/kubectl"),
];

/// How unfinished work is called.
const UNFINISHED: &str = "unfinished-";

/// Builds Kubernetes, unless this machine has it, and says where.
pub(crate) fn kubernetes() -> Result<()> {
    crate::setup::ensure(&[crate::setup::Need::Kubernetes])?;
    println!("{}", obtain()?.display());
    Ok(())
}

/// The directory with the programs `etcd`, `kube-apiserver`, `kube-proxy` and `kubectl`; they are
/// built if this machine lacks them.
pub(crate) fn obtain() -> Result<PathBuf> {
    let shelf = places::cache()?.join("kubernetes");
    let finished = shelf.join(name());
    if finished.exists() {
        return Ok(finished);
    }
    fs::create_dir_all(&shelf)?;
    // Goes with this process, however that ends.
    let lock = File::create(shelf.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another task builds Kubernetes: waiting for it");
            lock.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("locking the cache"),
    }
    if !finished.exists() {
        remove_unfinished(&shelf)?;
        eprintln!("building Kubernetes {VERSION}, once for this machine: 5 to 10 minutes");
        make(&shelf, &finished).context("building Kubernetes")?;
    }
    Ok(finished)
}

/// Makes what is then there whole or not at all.
fn make(shelf: &Path, finished: &Path) -> Result<()> {
    let work = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(shelf)?;
    let (tools, packages) = (work.path().join("tools"), work.path().join("packages"));
    let sources = work.path().join(build::SOURCES);
    let programs = work.path().join("programs");
    fs::create_dir_all(sources.parent().expect("it lies deep"))?;
    fs::create_dir(&programs)?;
    {
        let archive = Archive::open()?;
        let find = |(name, version): Wanted| archive.newest(name, version);
        let found = TOOLS.into_iter().map(find).collect::<Result<Vec<_>>>()?;
        archive.unpack(&found, &tools)?;
        let wanted = PROGRAMS.into_iter().map(|(package, _)| find(package));
        archive.unpack(&wanted.collect::<Result<Vec<Package>>>()?, &packages)?;
        archive.unpack_source(&find(SOURCE)?, &sources)?;
    }
    for (_, path) in PROGRAMS {
        let program = packages.join(path);
        let name = program.file_name().expect("a program has a name");
        fs::copy(&program, programs.join(name)).context(path)?;
    }
    build::build(work.path(), &tools, &programs)?;

    for (program, version) in [
        ("etcd", "--version"),
        ("kube-apiserver", "--version"),
        ("kube-proxy", "--version"),
        ("kubectl", "version --client"),
    ] {
        shell::read(shell::command(programs.join(program)).args(version.split(' ')))?;
    }
    fs::rename(&programs, finished).with_context(|| finished.display().to_string())
}

/// The directory's name: the version, and a digest of everything that makes it what it is.
fn name() -> String {
    let mut recipe = DefaultHasher::new();
    (SOURCE, TOOLS, PROGRAMS, build::RECIPE).hash(&mut recipe);
    format!("{VERSION}-{:016x}", recipe.finish())
}

/// Removes what was left by a task that was killed at its work.
fn remove_unfinished(shelf: &Path) -> Result<()> {
    for entry in fs::read_dir(shelf)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_task_left_is_removed_and_nothing_else() {
        let shelf = tempfile::tempdir().unwrap();
        for name in ["unfinished-a/b", "1.20.2-0123", "lock"] {
            fs::create_dir_all(shelf.path().join(name)).unwrap();
        }
        remove_unfinished(shelf.path()).unwrap();
        let left = fs::read_dir(shelf.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1.20.2-0123", "lock"]);
    }
}
