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

/// Stands for the newest kernel of all suites.
pub(crate) const NEWEST: &str = "newest";

/// The package that depends on the kernel for virtual machines.
const META: &str = "linux-image-cloud-amd64";

/// The packages of a kernel: the image, its modules, and the image that the first may only depend
/// on.
const PARTS: [&str; 3] = ["linux-image-", "linux-modules-", "linux-binary-"];

/// A kernel, ready to boot.
pub(crate) struct Kernel {
    /// Its release, as `uname -r` prints it.
    pub(crate) release: String,
    /// The file to boot.
    pub(crate) image: PathBuf,
    /// Its modules, with `modules.dep`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series such as `6.1`, from the cache or the archive.
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

    /// The last kernel of a series in the cache, for when the archive has none.
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
            // Newer packages have their modules under /usr, but depmod looks in /lib.
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

/// Whether a version belongs to a series: `6.1.176-1` to `6.1` and `6.1.176`, but not to `6`.
fn is_of_series(version: &str, series: &str) -> bool {
    let dots = |text: &str| text.matches('.').count();
    series == NEWEST
        || version.strip_prefix(series).is_some_and(|rest| {
            dots(series) > 0 && rest.starts_with(|next: char| !next.is_ascii_digit())
        })
}

/// The packages to unpack for a version.
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
