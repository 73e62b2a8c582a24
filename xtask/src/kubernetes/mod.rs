//! A real Kubernetes for the tests: API server, etcd, kube-proxy and kubectl, from Debian's
//! packages alone.
//!
//! No package has an API server or kube-proxy: they are built from the last complete source
//! package, once per machine, which takes some minutes.

mod build;

use std::{
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    debian::{Archive, Package, Wanted},
    places, shell,
};

/// The version that the programs report.
const VERSION: &str = "1.20.2";

/// The last source package that has more than kubectl.
const SOURCE: Wanted = ("kubernetes", "1.20.5+really1.20.2-");

/// The packages to build it with.
const TOOLS: [Wanted; 3] = [
    ("golang-1.19-go", "1.19."),
    ("golang-1.19-src", "1.19."),
    // The sources' own copy, 1.0.1, crashes the server of a newer Go at the first custom resource.
    ("golang-github-modern-go-reflect2-dev", "1.0.2-"),
];

/// Programs from packages, and their paths there.
const PROGRAMS: [(Wanted, &str); 2] = [
    (("etcd-server", "3.4."), "usr/bin/etcd"),
    // Its kustomize is years newer than the one in the sources.
    (("kubectl", "1.32."), "usr/bin/kubectl"),
];

/// The prefix of directories with unfinished work.
const UNFINISHED: &str = "unfinished-";

/// Builds Kubernetes if this machine does not have it, and prints its directory.
pub(crate) fn kubernetes() -> Result<()> {
    crate::setup::ensure(&[crate::setup::Need::Kubernetes])?;
    println!("{}", obtain()?.display());
    Ok(())
}

/// The directory with `etcd`, `kube-apiserver`, `kube-proxy` and `kubectl`, which are built if this
/// machine does not have them.
pub(crate) fn obtain() -> Result<PathBuf> {
    let shelf = places::cache()?.join("kubernetes");
    let finished = shelf.join(name());
    if finished.exists() {
        return Ok(finished);
    }
    fs::create_dir_all(&shelf)?;
    // Released when this process ends for any reason.
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

/// Builds everything in a temporary directory, which is renamed when it is complete.
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
        let find = |wanted: Wanted| archive.newest(wanted);
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

/// The directory's name: the version, and a digest of everything that its content depends on.
fn name() -> String {
    let mut recipe = DefaultHasher::new();
    (SOURCE, TOOLS, PROGRAMS, build::RECIPE).hash(&mut recipe);
    format!("{VERSION}-{:016x}", recipe.finish())
}

/// Removes what a killed task has left.
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
    fn leftovers_of_a_killed_task_are_removed_and_nothing_else() {
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
