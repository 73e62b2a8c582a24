//! The programs that read deploy/ as users' programs do: kustomize, promtool, and Helm's template
//! engine.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    debian::{Archive, Wanted},
    places, shell,
};

/// Programs that run on any recent distribution.
const PROGRAMS: [Wanted; 2] = [("kustomize", "5.6."), ("promtool", "2.53.")];

/// What the engine is built with, all from one suite.
const GO: [Wanted; 14] = [
    ("golang-1.19-go", "1.19."),
    ("golang-1.19-src", "1.19."),
    ("golang-github-google-uuid-dev", "1.3."),
    ("golang-github-huandu-xstrings-dev", "1.3."),
    ("golang-github-imdario-mergo-dev", "0.3.12-"),
    ("golang-github-masterminds-goutils-dev", "1.1."),
    ("golang-github-masterminds-semver-dev", "3.2."),
    ("golang-github-masterminds-sprig-dev", "3.2.3-5"),
    ("golang-github-mitchellh-copystructure-dev", "1.2."),
    ("golang-github-mitchellh-reflectwalk-dev", "1.0."),
    ("golang-github-shopspring-decimal-dev", "1.3."),
    ("golang-github-spf13-cast-dev", "1.5."),
    ("golang-golang-x-crypto-dev", "1:0.4."),
    ("golang-k8s-sigs-yaml-dev", "1.3."),
];

/// What those need.
const YAML: Wanted = ("golang-gopkg-yaml.v2-dev", "2.4.");

/// The source of the engine: Helm's templates with Helm's functions.
const ENGINE: &str = "tests/render-chart/main.go";

/// The directory whose `usr/bin` has `kustomize`, `promtool` and `render-chart`. Created if this
/// machine does not have it.
pub(super) fn ensure() -> Result<PathBuf> {
    let source = fs::canonicalize(ENGINE).with_context(|| ENGINE.to_owned())?;
    let mut hasher = DefaultHasher::new();
    (PROGRAMS, GO, YAML, fs::read(&source)?).hash(&mut hasher);
    let tools = places::cache()?.join(format!("deploy-tools-{:016x}", hasher.finish()));
    if tools.exists() {
        return Ok(tools);
    }
    eprintln!("kustomize, promtool and Helm's template engine are missing");
    let archive = Archive::open()?;
    let cache = places::cache()?;
    let work = tempfile::tempdir_in(&cache)?;
    let go = work.path().join("go");
    let find = |wanted: &Wanted| archive.newest(*wanted);
    let packages = GO.iter().chain([&YAML]).map(find);
    archive.unpack(&packages.collect::<Result<Vec<_>>>()?, &go)?;
    let unfinished = work.path().join("tools");
    let packages = PROGRAMS.iter().map(find);
    archive.unpack(&packages.collect::<Result<Vec<_>>>()?, &unfinished)?;
    build(&go, &source, &unfinished.join("usr/bin/render-chart"))?;
    fs::rename(unfinished, &tools).with_context(|| tools.display().to_string())?;
    Ok(tools)
}

fn build(go: &Path, source: &Path, program: &Path) -> Result<()> {
    eprintln!("building Helm's template engine");
    let root = go.join("usr/lib/go-1.19");
    let mut build = shell::command(root.join("bin/go"));
    build
        .env("GOROOT", &root)
        .env("GOPATH", go.join("usr/share/gocode"))
        .env("GOCACHE", go.join("compiled"))
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
        .arg(program)
        .arg(source);
    shell::read(&mut build)?;
    Ok(())
}
