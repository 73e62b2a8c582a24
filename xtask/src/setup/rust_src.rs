//! The sources of the compiler's libraries, from which `core` is built for the BPF target.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{debian::Archive, places, shell};

/// Installs the sources if they are missing.
pub(super) fn ensure() -> Result<()> {
    let sysroot = shell::read(shell::command("rustc").args(["--print", "sysroot"]))?;
    let place = Place::of(Path::new(sysroot.trim()));
    if place.is_filled() {
        return Ok(());
    }
    let version = rustc_version()?;
    eprintln!("the compiler's rust-src component is missing");
    place.clear()?;

    let Err(rustup) = by_rustup(&place) else {
        return Ok(());
    };
    eprintln!("rustup cannot install it; looking in Debian's archive");
    let Err(debian) = from_debian(&place, &version) else {
        return Ok(());
    };
    bail!(
        "the sources of rustc {version}'s libraries are missing: {}\n\
         Any of these will do:\n\
         - `rustup component add rust-src`, which failed here:\n{}\n\
         - Debian's package rust-src of the same version, linked there, which failed here:\n{}\n\
         - that directory of another machine with rustc {version}, copied there",
        place.library().display(),
        indented(&rustup),
        indented(&debian),
    )
}

/// `rustc 1.95.0 (…)`: the second word.
fn rustc_version() -> Result<String> {
    let said = shell::read(shell::command("rustc").arg("--version"))?;
    let version = said.split_whitespace().nth(1);
    version
        .map(str::to_owned)
        .with_context(|| format!("no version in the output of rustc: `{said}`"))
}

/// Where cargo looks for the sources: `lib/rustlib/src/rust` of the sysroot.
struct Place(PathBuf);

impl Place {
    fn of(sysroot: &Path) -> Self {
        Self(sysroot.join("lib/rustlib/src/rust"))
    }

    fn library(&self) -> PathBuf {
        self.0.join("library")
    }

    fn is_filled(&self) -> bool {
        self.library().join("Cargo.lock").exists()
    }

    /// Removes a link to sources that are gone.
    fn clear(&self) -> Result<()> {
        match fs::symlink_metadata(&self.0) {
            Ok(found) if found.is_symlink() => {
                fs::remove_file(&self.0).with_context(|| self.0.display().to_string())
            }
            _ => Ok(()),
        }
    }

    fn link_to(&self, sources: &Path) -> Result<()> {
        let link = || -> io::Result<()> {
            fs::create_dir_all(self.0.parent().expect("it lies in the sysroot"))?;
            symlink(sources, &self.0)
        };
        link().with_context(|| {
            format!(
                "cannot link the sources into the toolchain; run as a user who can write there:\n  \
                 ln -s {} {}",
                sources.display(),
                self.0.display()
            )
        })
    }
}

fn by_rustup(place: &Place) -> Result<()> {
    let mut rustup = shell::command("rustup");
    rustup.args(["component", "add", "rust-src"]);
    shell::say(&rustup);
    shell::read(&mut rustup)?;
    if !place.is_filled() {
        bail!(
            "rustup has installed it for a toolchain other than {}",
            place.0.display()
        );
    }
    Ok(())
}

fn from_debian(place: &Place, version: &str) -> Result<()> {
    let unpacked = places::cache()?.join(format!("rust-src-{version}"));
    // The package's directory, which is named after the version.
    let sources = unpacked.join(format!("usr/src/rustc-{version}"));
    if !sources.join("library").exists() {
        let archive = Archive::open()?;
        let packaged = archive
            .versions("rust-src")?
            .into_iter()
            .find(|packaged| is_packaging_of(packaged, version))
            .with_context(|| format!("no suite of the archive has rust-src {version}"))?;
        archive.unpack(&[("rust-src".to_owned(), packaged)], &unpacked)?;
    }
    if !sources.join("library/Cargo.lock").exists() {
        bail!("the package has no {}", sources.display());
    }
    place.link_to(&sources)
}

/// Whether a Debian version packages this release: `1.95.0+dfsg1-2` packages `1.95.0`.
fn is_packaging_of(packaged: &str, release: &str) -> bool {
    packaged
        .strip_prefix(release)
        .is_some_and(|rest| rest.starts_with(['+', '-', '~']))
}

fn indented(error: &anyhow::Error) -> String {
    let lines = format!("{error:#}");
    lines
        .lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_matches_exactly_one_release() {
        assert!(is_packaging_of("1.95.0+dfsg1-2~bpo13+1", "1.95.0"));
        assert!(is_packaging_of("1.95.0-1", "1.95.0"));
        assert!(!is_packaging_of("1.95.0+dfsg1-2", "1.95"));
        assert!(!is_packaging_of("1.95.01-1", "1.95.0"));
        assert!(!is_packaging_of("1.96.0+dfsg1-1", "1.95.0"));
    }

    #[test]
    fn a_dangling_link_to_sources_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::of(root.path());
        place.link_to(Path::new("/nonexistent")).unwrap();
        assert!(!place.is_filled());

        place.clear().unwrap();
        let sources = root.path().join("sources");
        fs::create_dir_all(sources.join("library")).unwrap();
        fs::write(sources.join("library/Cargo.lock"), "").unwrap();
        place.link_to(&sources).unwrap();
        assert!(place.is_filled());
    }
}
