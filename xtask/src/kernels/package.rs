//! Kernels from Debian's packages.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    debian::{Archive, Package},
    places, shell,
};

/// Asks for the newest kernel of all suites.
pub(crate) const NEWEST: &str = "newest";

/// Depends on the kernel that is built for virtual machines.
const META: &str = "linux-image-cloud-amd64";

/// The parts of a kernel: image, modules, and the image again where the first only depends on it.
const PARTS: [&str; 3] = ["linux-image-", "linux-modules-", "linux-binary-"];

/// A kernel that can be booted.
pub(crate) struct Kernel {
    /// Its name for itself, as `uname -r` has it.
    pub(crate) release: String,
    /// What is booted.
    pub(crate) image: PathBuf,
    /// Its modules, with `modules.dep`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series, such as `6.1`; from the cache, or fetched.
    pub(crate) fn fetch(archive: &Archive, series: &str) -> Result<Self> {
        let version = archive
            .versions(META)?
            .into_iter()
            .find(|version| is_of_series(version, series))
            .with_context(|| format!("no suite of Debian's archive has a kernel {series}"))?;
        let directory = places::cache()?.join("kernels").join(&version);
        if !directory.exists() {
            archive.unpack(&parts(archive, version)?, &directory)?;
        }
        Self::unpacked(&directory)
    }

    /// The kernel of a series that was fetched last, for when the archive has none.
    pub(crate) fn cached(series: &str) -> Option<Self> {
        let entries = fs::read_dir(places::cache().ok()?.join("kernels")).ok()?;
        let directory = entries
            .filter_map(Result::ok)
            .filter(|entry| is_of_series(&entry.file_name().to_string_lossy(), series))
            .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())?
            .path();
        Self::unpacked(&directory).ok()
    }

    fn unpacked(directory: &Path) -> Result<Self> {
        let lib = directory.join("lib");
        if !lib.exists() {
            // Newer packages know no other place than /usr; depmod looks into /lib.
            symlink("usr/lib", &lib)?;
        }
        let modules = only_entry(&lib.join("modules"))?;
        let release = modules
            .file_name()
            .and_then(|name| name.to_str())
            .context("the modules' directory is named after the release")?
            .to_owned();
        if !modules.join("modules.dep").exists() {
            shell::read(
                shell::command("depmod")
                    .arg("--basedir")
                    .arg(directory)
                    .arg(&release),
            )?;
        }
        let images = [
            directory.join("boot").join(format!("vmlinuz-{release}")),
            modules.join("vmlinuz"),
        ];
        let image = images.into_iter().find(|image| image.exists());
        let image = image.with_context(|| format!("the packages of {release} have no image"))?;
        Ok(Self {
            release,
            image,
            modules,
        })
    }
}

/// Whether a version is of a series: `6.1.176-1` is of `6.1` and of `6.1.176`, not of `6`.
fn is_of_series(version: &str, series: &str) -> bool {
    let dots = |text: &str| text.matches('.').count();
    series == NEWEST
        || version.strip_prefix(series).is_some_and(|rest| {
            dots(series) > 0 && rest.starts_with(|next: char| !next.is_ascii_digit())
        })
}

/// What has to be unpacked for a version.
fn parts(archive: &Archive, version: String) -> Result<Vec<Package>> {
    let mut found = vec![(META.to_owned(), version)];
    let mut looked_into = 0;
    while let Some(package) = found.get(looked_into) {
        for part in archive.parts(package)? {
            let (name, _) = &part;
            if PARTS.iter().any(|kind| name.starts_with(kind)) && !found.contains(&part) {
                found.push(part);
            }
        }
        looked_into += 1;
    }
    Ok(found)
}

fn only_entry(directory: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    match (entries.pop(), entries.pop()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => bail!("{} should have one entry", directory.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_ends_at_a_dot_or_a_dash() {
        assert!(is_of_series("6.1.176-1", "6.1"));
        assert!(is_of_series("6.1.176-1", "6.1.176"));
        assert!(!is_of_series("6.12.107-1", "6.1"));
        assert!(!is_of_series("6.1.176-1", "6.1.17"));
        assert!(!is_of_series("6.1.176-1", "6"));
        assert!(is_of_series("7.3.4-1~bpo13+1", NEWEST));
    }
}
