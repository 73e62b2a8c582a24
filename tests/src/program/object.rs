//! Where the built eBPF objects are.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};

/// The program that the agent attaches.
pub const SPEAKER: &str = "speaker";
/// The same program with aya-log.
pub const TRACED: &str = "speaker-traced";
/// The yardsticks of the benchmarks.
pub const YARDSTICK: &str = "speaker-yardstick";

/// The sources of an object, relative to the workspace's root.
const SOURCES: [&str; 4] = [
    "speaker-common/src",
    "speaker-ebpf/src",
    "speaker-ebpf/build.rs",
    "speaker-ebpf/Cargo.toml",
];

/// Names the program's object when there are no sources, as in a virtual machine.
const ELSEWHERE: &str = "SPEAKER_OBJECT";

/// The path of an object that is not older than its sources.
pub fn path(name: &str) -> Result<PathBuf> {
    if name == SPEAKER
        && let Some(path) = env::var_os(ELSEWHERE)
    {
        return Ok(path.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are in a directory of the workspace");
    let Some((built, path)) = newest(&root.join("target"), name)? else {
        bail!(
            "the eBPF object `{name}` has not been built: run `cargo xtask setup`, then `cargo xtask \
             build`"
        );
    };
    for source in SOURCES {
        let changed = changed(&root.join(source))?;
        if changed > built {
            bail!(
                "the eBPF object {} is older than {source}: run `cargo xtask build`",
                path.display()
            );
        }
    }
    Ok(path)
}

/// The bytes of an object that is not older than its sources.
pub fn bytes(name: &str) -> Result<Vec<u8>> {
    let path = path(name)?;
    fs::read(&path).with_context(|| path.display().to_string())
}

/// The object with its programs' section `xdp.frags` renamed to `xdp`, in every table of strings.
pub(super) fn without_fragments(mut object: Vec<u8>) -> Vec<u8> {
    const NAME: &[u8] = b"xdp.frags\0";
    const DOT: usize = 3;
    while let Some(place) = object.windows(NAME.len()).position(|bytes| bytes == NAME) {
        object[place + DOT] = 0;
    }
    object
}

/// The most recently built object of this name, in any profile.
fn newest(target: &Path, name: &str) -> Result<Option<(SystemTime, PathBuf)>> {
    let mut newest = None;
    for profile in children(target)? {
        for package in children(&profile.join("build"))? {
            let path = package.join("out").join(name);
            let Ok(metadata) = path.metadata() else {
                continue;
            };
            // Clippy leaves an empty one, and so does a build without the BPF toolchain.
            if metadata.len() == 0 {
                continue;
            }
            newest = newest.max(Some((metadata.modified()?, path)));
        }
    }
    Ok(newest)
}

/// When a file, or any file under a directory, was last changed.
fn changed(path: &Path) -> Result<SystemTime> {
    if !path.is_dir() {
        let metadata = path
            .metadata()
            .with_context(|| path.display().to_string())?;
        return Ok(metadata.modified()?);
    }
    children(path)?
        .iter()
        .map(|child| changed(child))
        .try_fold(SystemTime::UNIX_EPOCH, |latest, child| {
            Ok(latest.max(child?))
        })
}

fn children(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).with_context(|| directory.display().to_string()),
    };
    entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()
        .with_context(|| directory.display().to_string())
}
