//! The container image: one static binary, without a distribution's base image.
//!
//! It is linked with glibc's static libraries, which every machine has that can build the project.
//! Another target (musl) would have to be fetched, and would need all dependencies built again.
//! From 2.34 on, glibc resolves host names without loading libraries.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{self, Profile},
    setup::{self, Need},
    shell,
};

/// The image's name until it gets that of a registry. Nothing is ever pulled from `localhost`.
const NAME: &str = "localhost/speaker";
const DIRECTORY: &str = "target/image";
const DOCKERFILE: &str = "deploy/Dockerfile";
/// The image's files other than the binary, by their names in the image.
const LICENCES: [(&str, &str); 2] = [
    ("LICENSE", "licenses/LICENSE"),
    ("speaker-ebpf/LICENSE-GPL", "licenses/LICENSE-GPL"),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Without optimisations, for tests: faster to build
    #[arg(long)]
    dev: bool,
    /// Only collect the image's files, for another builder (see deploy/Dockerfile)
    #[arg(long)]
    files: bool,
}

/// Builds the image, and prints its path.
pub(crate) fn image(options: &Options) -> Result<()> {
    let profile = if options.dev {
        Profile::Dev
    } else {
        Profile::Release
    };
    if options.files {
        setup::ensure(&[Need::Object])?;
        println!("{}", files(profile)?.display());
        return Ok(());
    }
    println!("{}", build(profile)?.display());
    Ok(())
}

/// Builds the image as an archive that `docker load`, `podman load` and `ctr images import` read.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    setup::ensure(&[Need::Object, Need::Image])?;
    let files = files(profile)?;
    let name = format!("{NAME}:{}", env!("CARGO_PKG_VERSION"));
    let archive = Path::new(DIRECTORY).join("speaker.tar");
    remove_file(&archive)?;

    // The builder's storage is temporary, and apart from the machine's own images.
    let storage = tempfile::tempdir_in(DIRECTORY)?;
    let buildah = |arguments: &[&str]| {
        let mut command = shell::command("buildah");
        command
            .arg("--root")
            .arg(storage.path().join("root"))
            .arg("--runroot")
            .arg(storage.path().join("run"))
            // Works on any file system, without mounts.
            .args(["--storage-driver", "vfs"])
            .args(arguments);
        command
    };
    let mut make = buildah(&["build", "--isolation", "chroot", "--pull-never", "--quiet"]);
    make.args(["--file", DOCKERFILE, "--tag", &name])
        .arg(&files);
    shell::read(&mut make)?;
    let target = format!("docker-archive:{}:{name}", archive.display());
    shell::read(&mut buildah(&["push", "--quiet", &name, &target]))?;
    Ok(archive)
}

/// Collects the image's files.
fn files(profile: Profile) -> Result<PathBuf> {
    let binary = cargo::build_static(profile)?;
    let directory = Path::new(DIRECTORY).join("files");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(directory.join("licenses"))?;
    let copy = |from: &Path, to: &str| {
        fs::copy(from, directory.join(to)).with_context(|| from.display().to_string())
    };
    copy(&binary, "speaker")?;
    for (from, to) in LICENCES {
        copy(Path::new(from), to)?;
    }
    if is_dynamic(&fs::read(&binary)?) {
        bail!(
            "{} needs a dynamic linker, which the image does not have",
            binary.display()
        );
    }
    Ok(directory)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Whether an ELF file (64 bits, little-endian) names an interpreter: a program header of type
/// PT_INTERP.
fn is_dynamic(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;

    let number = |at: usize, bytes: usize| {
        let field = elf.get(at..at + bytes)?;
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(field);
        usize::try_from(u64::from_le_bytes(number)).ok()
    };
    let headers = || Some((number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?));
    let Some((offset, size, count)) = headers() else {
        return false;
    };
    (0..count).any(|index| number(offset + index * size, 4) == Some(PT_INTERP as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_is_dynamic_and_a_script_is_not() {
        let own = std::env::current_exe().unwrap();
        assert!(is_dynamic(&fs::read(own).unwrap()));
        assert!(!is_dynamic(b"#!/bin/sh\n"));
    }
}
