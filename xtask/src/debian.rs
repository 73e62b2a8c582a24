//! Debian's archive, through the machine's own apt.
//!
//! Packages of suites other than the machine's are looked up in a separate apt state. apt deals
//! with mirrors, proxies, signatures and hashes, and nothing is installed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use crate::{places, shell};

/// The suites to search.
const SUITES: [&str; 6] = [
    "bullseye",
    "bookworm",
    "bookworm-backports",
    "trixie",
    "trixie-backports",
    "sid",
];

/// The suite whose source packages are searched.
const SOURCES: &str = "bookworm";

/// How long package lists are used before they are fetched again.
const FRESH: Duration = Duration::from_hours(7 * 24);

/// A package's name and version.
pub(crate) type Package = (String, String);

/// A package's name, and how the wanted version begins.
pub(crate) type Wanted = (&'static str, &'static str);

/// The suites' packages.
pub(crate) struct Archive {
    directory: PathBuf,
    /// Held while the archive is used: apt's own locks do not wait.
    _lock: File,
}

impl Archive {
    /// Opens the archive that the machine's apt uses, and updates its package lists if they are
    /// old.
    pub(crate) fn open() -> Result<Self> {
        if shell::find("apt-get").is_none() {
            bail!("this machine has no apt to fetch Debian packages with");
        }
        let directory = places::cache()?.join("apt");
        fs::create_dir_all(directory.join("lists/partial"))?;
        fs::create_dir_all(directory.join("archives/partial"))?;
        // No package counts as installed.
        fs::write(directory.join("status"), "")?;
        let lock = File::create(directory.join("lock"))?;
        lock.lock()?;

        let archive = Self {
            directory,
            _lock: lock,
        };
        let sources = archive.sources();
        let age = fs::metadata(&sources)
            .and_then(|written| written.modified())
            .map(|written| {
                SystemTime::now()
                    .duration_since(written)
                    .unwrap_or_default()
            });
        let fresh = age.is_ok_and(|age| age < FRESH);
        if !fresh || !has_sources(&fs::read_to_string(&sources)?) {
            let listed = sources_list(&system_mirror()?);
            let partial = sources.with_extension("partial");
            fs::write(&partial, listed)?;
            archive.update(&partial)?;
            // Renamed last, so that a failed update does not count as fresh.
            fs::rename(partial, &sources)?;
        }
        Ok(archive)
    }

    /// All versions of a package, newest first; empty if no suite has it.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let listed = shell::read(self.apt("apt-cache").args(["madison", package]))?;
        Ok(madison_versions(&listed))
    }

    /// The newest version of a package that begins as wanted.
    pub(crate) fn newest(&self, (package, beginning): Wanted) -> Result<Package> {
        let versions = self.versions(package)?;
        versions
            .into_iter()
            .find(|version| version.starts_with(beginning))
            .map(|version| (package.to_owned(), version))
            .with_context(|| format!("no suite of Debian's archive has {package} {beginning}…"))
    }

    /// The packages that a package depends on in exactly its own version: those built from the same
    /// source.
    pub(crate) fn parts(&self, (name, version): &Package) -> Result<Vec<Package>> {
        let shown = shell::read(
            self.apt("apt-cache")
                .args(["show", &format!("{name}={version}")]),
        )?;
        let names = exact_dependencies(&shown, version);
        Ok(names.map(|name| (name, version.clone())).collect())
    }

    /// Unpacks packages into a directory of their own, completely or not at all.
    pub(crate) fn unpack(&self, packages: &[Package], target: &Path) -> Result<()> {
        let parent = target.parent().context("a directory of its own")?;
        fs::create_dir_all(parent)?;
        let work = tempfile::tempdir_in(parent)?;
        let downloads = work.path().join("downloads");
        let unpacked = work.path().join("unpacked");
        fs::create_dir(&downloads)?;
        fs::create_dir(&unpacked)?;
        for package in packages {
            self.download(&["download"], package, &downloads)?;
        }
        for package in fs::read_dir(&downloads)? {
            let mut extract = shell::command("dpkg-deb");
            extract.arg("--extract").arg(package?.path()).arg(&unpacked);
            shell::read(&mut extract)?;
        }
        if target.exists() {
            fs::remove_dir_all(target)?;
        }
        fs::rename(unpacked, target).with_context(|| target.display().to_string())
    }

    /// Unpacks the upstream part of a source package, without Debian's changes, into a directory of
    /// its own.
    pub(crate) fn unpack_source(&self, package: &Package, target: &Path) -> Result<()> {
        let downloads = tempfile::tempdir_in(target.parent().context("a directory of its own")?)?;
        self.download(&["source", "--download-only"], package, downloads.path())?;
        fs::create_dir(target)?;
        for file in fs::read_dir(downloads.path())? {
            let file = file?;
            if file.file_name().to_string_lossy().contains(".orig.tar.") {
                let mut extract = shell::command("tar");
                extract.arg("--extract").arg("--file").arg(file.path());
                extract.arg("--strip-components=1").arg("--directory");
                shell::read(extract.arg(target))?;
            }
        }
        Ok(())
    }

    fn download(&self, how: &[&str], (name, version): &Package, into: &Path) -> Result<()> {
        eprintln!("fetching Debian's {name} {version}");
        let mut download = self.apt("apt-get");
        download.args(how).arg(format!("{name}={version}"));
        if let Err(error) = shell::read(download.current_dir(into)) {
            // The archive drops replaced versions: fetch new lists next time.
            fs::remove_file(self.sources())?;
            return Err(error.context("run the task again, with new package lists"));
        }
        Ok(())
    }

    /// apt's list of sources, as old as the package lists.
    fn sources(&self) -> PathBuf {
        self.directory.join("sources.list")
    }

    fn update(&self, sources: &Path) -> Result<()> {
        eprintln!("fetching the package lists of Debian's suites, which takes half a minute");
        let mut update = self.apt("apt-get");
        update.arg("update");
        // apt fails if the mirror lacks a suite, which does not matter; offline, older lists will
        // do.
        let updated = shell::read(option(&mut update, "Dir::Etc::SourceList", sources));
        if self.has_lists()? {
            return Ok(());
        }
        updated?;
        bail!("apt cannot fetch the package lists of Debian's suites")
    }

    fn has_lists(&self) -> Result<bool> {
        let lists = fs::read_dir(self.directory.join("lists"))?;
        for list in lists {
            if list?.file_name().to_string_lossy().contains("_Packages") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An apt program that uses the archive's state instead of the system's.
    fn apt(&self, program: &str) -> Command {
        let mut apt = shell::command(program);
        apt.env("LC_ALL", "C").arg("--quiet");
        let directory = &self.directory;
        option(&mut apt, "Dir::State", directory);
        option(&mut apt, "Dir::State::status", &directory.join("status"));
        option(&mut apt, "Dir::Cache", directory);
        option(&mut apt, "Dir::Etc::SourceList", &self.sources());
        option(&mut apt, "Dir::Etc::SourceParts", Path::new("/dev/null"));
        option(&mut apt, "Dir::Etc::Preferences", Path::new("/dev/null"));
        option(
            &mut apt,
            "Dir::Etc::PreferencesParts",
            Path::new("/dev/null"),
        );
        apt.args([
            // Container images turn the cache off, which costs seconds each time.
            "-oDir::Cache::pkgcache=pkgcache.bin",
            "-oDir::Cache::srcpkgcache=",
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Languages=none",
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "-oAcquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
        ]);
        apt
    }
}

fn option<'a>(apt: &'a mut Command, name: &str, value: &Path) -> &'a mut Command {
    apt.arg(format!("-o{name}={}", value.display()))
}

/// The address of the archive in the machine's own sources.
fn system_mirror() -> Result<String> {
    let indexes = |options: &[&str], format| {
        let mut command = shell::command("apt-get");
        command.arg("indextargets").args(options);
        shell::read(command.args(["--format", format, "Created-By: Packages"]))
    };
    let fetched = indexes(&[], "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)")?;
    // Fetched indexes say whose archive it is; a new machine has not fetched any.
    let listed = indexes(
        &["--no-release-info"],
        "$(RELEASE)|$(COMPONENT)|$(REPO_URI)",
    )?;
    mirror_fetched(&fetched)
        .or_else(|| mirror_listed(&listed))
        .map(str::to_owned)
        .context("apt's sources on this machine do not include Debian's archive")
}

/// The archive among the indexes that apt has fetched: that of Debian's main suites, not that of
/// its security team.
fn mirror_fetched(indexes: &str) -> Option<&str> {
    indexes
        .lines()
        .find_map(|index| index.strip_prefix("Debian|Debian|main|"))
}

/// The archive among apt's sources: the first with one of Debian's suites.
fn mirror_listed(indexes: &str) -> Option<&str> {
    indexes.lines().find_map(|index| {
        let (suite, rest) = index.split_once('|')?;
        let mirror = rest.strip_prefix("main|")?;
        SUITES.contains(&suite).then_some(mirror)
    })
}

/// A `sources.list` with the suites of a mirror.
fn sources_list(mirror: &str) -> String {
    const KEYRINGS: [&str; 2] = [
        "/usr/share/keyrings/debian-archive-keyring.pgp",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    ];
    // Without one, apt uses the keys that it trusts for all sources.
    let signed_by = KEYRINGS
        .into_iter()
        .find(|keyring| Path::new(keyring).exists())
        .map(|keyring| format!("[signed-by={keyring}] "))
        .unwrap_or_default();
    let sources = format!("deb-src {signed_by}{mirror} {SOURCES} main\n");
    SUITES
        .map(|suite| format!("deb {signed_by}{mirror} {suite} main\n"))
        .concat()
        + &sources
}

/// Whether a `sources.list` has source packages.
fn has_sources(listed: &str) -> bool {
    listed.lines().any(|line| line.starts_with("deb-src "))
}

/// `package | version | index` by line.
fn madison_versions(listed: &str) -> Vec<String> {
    listed
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .collect()
}

/// The names in `Depends: a (= version), b (>= 1) | c, …` that have exactly this version.
fn exact_dependencies(shown: &str, version: &str) -> impl Iterator<Item = String> {
    let exact = format!(" (= {version})");
    shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .unwrap_or_default()
        .split(", ")
        .filter_map(move |dependency| dependency.strip_suffix(&exact).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_main_suites() {
        let indexes = "\
Debian|Debian-Security|main|http://a.example/debian-security/
Debian|Debian|contrib|http://b.example/debian/
Debian|Debian|main|http://c.example/debian/
Other|Other|main|http://d.example/
";
        assert_eq!(mirror_fetched(indexes), Some("http://c.example/debian/"));
        assert_eq!(mirror_fetched("Other|Other|main|http://d.example/\n"), None);
    }

    #[test]
    fn a_new_machine_takes_the_mirror_from_its_sources() {
        let indexes = "\
bookworm-security|main|http://a.example/debian-security/
bookworm|contrib|http://b.example/debian/
bookworm|main|http://c.example/debian/
";
        assert_eq!(mirror_listed(indexes), Some("http://c.example/debian/"));
        assert_eq!(mirror_listed("noble|main|http://d.example/\n"), None);
    }

    #[test]
    fn source_packages_are_detected() {
        let listed = sources_list("http://a.example/debian/");
        assert!(has_sources(&listed), "{listed}");
        assert!(!has_sources("deb http://a.example/debian/ bookworm main\n"));
    }

    #[test]
    fn versions_are_the_second_column() {
        let listed = "  rust-src | 1.97.1+dfsg1-1 | http://a.example sid/main amd64 Packages\n  \
                      rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://a.example trixie-backports\n";
        assert_eq!(
            madison_versions(listed),
            ["1.97.1+dfsg1-1", "1.95.0+dfsg1-2~bpo13+1"]
        );
        assert!(madison_versions("").is_empty());
    }

    #[test]
    fn parts_are_the_dependencies_of_the_same_version() {
        let shown = "Package: linux-image\nDepends: kmod, linux-base (>= 4.3~), \
                     linux-binary (= 7.3.4-1), dracut | initramfs-tools, \
                     linux-modules (= 7.3.4-1)\n";
        let parts: Vec<_> = exact_dependencies(shown, "7.3.4-1").collect();
        assert_eq!(parts, ["linux-binary", "linux-modules"]);
    }
}
