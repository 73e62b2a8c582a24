//! The definitions of the custom resources, as files to install.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::{cargo::cargo, shell};

/// Where the files go: next to the manifests, and into the chart, which cannot reach outside
/// itself.
const DIRECTORIES: [&str; 2] = ["deploy/crds", "deploy/chart/speaker/crd-files"];

/// The end of each file's name; this task leaves other files alone.
const SUFFIX: &str = ".metallb.io.yaml";

/// The first line of each file.
const NOTE: &str = "# Made by `cargo xtask crds` from speaker/src/kubernetes.\n";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a file is out of date
    #[arg(long)]
    check: bool,
}

/// Writes the definitions, or checks that they are up to date.
pub(crate) fn crds(options: &Options) -> Result<()> {
    let files = definitions()?;
    for directory in DIRECTORIES {
        let directory = Path::new(directory);
        if options.check {
            check(directory, &files)?;
        } else {
            write(directory, &files)?;
        }
    }
    Ok(())
}

/// Fails if a file differs from the types.
pub(crate) fn current() -> Result<()> {
    crds(&Options { check: true })
}

/// The definitions by file name, from the types.
fn definitions() -> Result<BTreeMap<String, String>> {
    let mut print = cargo();
    print.args(["run", "--quiet", "--package=speaker", "--example=crds"]);
    let files: BTreeMap<String, String> =
        serde_json::from_str(&shell::read(&mut print)?).context("the example's output")?;
    let noted = |(name, text)| (name, format!("{NOTE}{text}"));
    Ok(files.into_iter().map(noted).collect())
}

fn write(directory: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for stale in surplus(directory, files)? {
        fs::remove_file(directory.join(stale))?;
    }
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok(())
}

fn check(directory: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    let mut outdated = surplus(directory, files)?;
    for (name, text) in files {
        if fs::read_to_string(directory.join(name)).ok().as_ref() != Some(text) {
            outdated.push(name.clone());
        }
    }
    if !outdated.is_empty() {
        bail!(
            "out of date in {}: {}; run `cargo xtask crds`",
            directory.display(),
            outdated.join(", ")
        );
    }
    Ok(())
}

/// Files of definitions that no longer exist.
fn surplus(directory: &Path, files: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut surplus = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(surplus);
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(SUFFIX) && !files.contains_key(&name) {
            surplus.push(name);
        }
    }
    Ok(surplus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_files_are_current_and_changed_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("crds");
        let file = |text: &str| BTreeMap::from([("a.yaml".to_owned(), text.to_owned())]);
        assert!(check(&path, &file("one\n")).is_err());
        write(&path, &file("one\n")).unwrap();
        check(&path, &file("one\n")).unwrap();
        let told = check(&path, &file("two\n")).unwrap_err().to_string();
        assert!(told.ends_with("a.yaml; run `cargo xtask crds`"), "{told}");
    }

    #[test]
    fn files_of_removed_kinds_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("old.metallb.io.yaml"), "").unwrap();
        let none = BTreeMap::new();
        assert!(check(path, &none).is_err());
        write(path, &none).unwrap();
        check(path, &none).unwrap();
    }
}
