//! Builds the parts of Kubernetes that no package has, as its Makefile would.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::shell;

/// Where Go without modules expects the sources.
pub(super) const SOURCES: &str = "go/src/k8s.io/kubernetes";

/// The version of these steps; raise it when they change.
pub(super) const RECIPE: (u32, &str) = (1, PATCH);

/// Adds fields and an API version of later releases.
const PATCH: &str = include_str!("later.patch");

/// The packages whose version is set by the build.
const VERSIONED: [&str; 2] = ["component-base/version", "client-go/pkg/version"];

/// Marks the packages whose types the API server describes to its clients.
const DESCRIBED: &str = "+k8s:openapi-gen=";

/// Builds the sources in `work` into `programs`.
pub(super) fn build(work: &Path, tools: &Path, programs: &Path) -> Result<()> {
    let tree = Tree {
        sources: work.join(SOURCES),
        work,
        tools,
    };
    tree.adapt()?;
    tree.describe()?;
    let versions = versions();
    for program in ["kube-apiserver", "kube-proxy"] {
        eprintln!("building {program}");
        let mut build = tree.go();
        build.args(["build", "-trimpath", "-ldflags", &versions, "-o"]);
        shell::read(build.arg(programs).arg(format!("./cmd/{program}")))?;
    }
    Ok(())
}

/// The sources, and their toolchain.
struct Tree<'a> {
    sources: PathBuf,
    work: &'a Path,
    tools: &'a Path,
}

impl Tree<'_> {
    /// Patches the sources.
    fn adapt(&self) -> Result<()> {
        let file = self.work.join("later.patch");
        fs::write(&file, PATCH)?;
        let mut patch = shell::command("patch");
        patch.args(["--strip=1", "--fuzz=0", "--input"]).arg(&file);
        shell::read(patch.current_dir(&self.sources))?;

        let library = "github.com/modern-go/reflect2";
        let newer = self.tools.join("usr/share/gocode/src").join(library);
        let older = self.sources.join("vendor").join(library);
        fs::remove_dir_all(&older).with_context(|| older.display().to_string())?;
        fs::create_dir(&older)?;
        for file in fs::read_dir(&newer).with_context(|| newer.display().to_string())? {
            let file = file?;
            if file.file_type()?.is_file() {
                fs::copy(file.path(), older.join(file.file_name()))?;
            }
        }
        Ok(())
    }

    /// Generates the one file that the source package lacks: the description of the API.
    fn describe(&self) -> Result<()> {
        let generator = self.work.join("openapi-gen");
        let mut build = self.go();
        build.args(["build", "-trimpath", "-o"]).arg(&generator);
        shell::read(build.arg("./vendor/k8s.io/kube-openapi/cmd/openapi-gen"))?;

        let packages: Vec<String> = self.described()?.into_iter().collect();
        let mut generate = self.prepared(&generator);
        generate.args(["--input-dirs", &packages.join(",")]);
        generate.args([
            "--output-package",
            "k8s.io/kubernetes/pkg/generated/openapi",
        ]);
        generate.args(["--output-file-base", "zz_generated.openapi"]);
        generate.args([
            "--go-header-file",
            "hack/boilerplate/boilerplate.generatego.txt",
        ]);
        let report = self.work.join("violations");
        shell::read(generate.arg("--report-filename").arg(report))?;
        Ok(())
    }

    /// The import paths of the marked packages.
    fn described(&self) -> Result<BTreeSet<String>> {
        let mut grep = shell::command("grep");
        grep.args(["--recursive", "--files-with-matches", "--include=*.go"]);
        // `vendor/k8s.io` consists of links to `staging`.
        grep.args([DESCRIBED, "staging/src"]);
        let files = shell::read(grep.current_dir(&self.sources))?;
        Ok(imported(&files))
    }

    fn go(&self) -> Command {
        self.prepared(&self.tools.join("usr/lib/go-1.19/bin/go"))
    }

    /// A command that runs on the sources, with Go in its `PATH`.
    fn prepared(&self, program: &Path) -> Command {
        let root = self.tools.join("usr/lib/go-1.19");
        let mut command = shell::command(program);
        command
            .env("GOROOT", root)
            .env("GOPATH", self.work.join("go"))
            .env("GOCACHE", self.work.join("compiled"))
            .env("GO111MODULE", "off")
            .env("GOFLAGS", "")
            .env("CGO_ENABLED", "0")
            .current_dir(&self.sources);
        command
    }
}

/// Whether a file belongs to a package of the API, rather than to a tool or an example.
fn imported(files: &str) -> BTreeSet<String> {
    const OTHERS: [&str; 3] = ["/code-generator/", "/sample-", "/example"];

    files
        .lines()
        .filter(|file| OTHERS.iter().all(|other| !file.contains(other)))
        .filter_map(|file| {
            let package = file.strip_prefix("staging/src/")?.rsplit_once('/')?.0;
            Some(format!("k8s.io/kubernetes/vendor/{package}"))
        })
        .collect()
}

/// The version for the linker to write into the programs, which clients ask for.
fn versions() -> String {
    let mut parts = super::VERSION.split('.');
    let (major, minor) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut flags = vec!["-s -w".to_owned()];
    for package in VERSIONED {
        let package = format!("k8s.io/kubernetes/vendor/k8s.io/{package}");
        flags.push(format!("-X {package}.gitVersion=v{}", super::VERSION));
        flags.push(format!(
            "-X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        ));
    }
    flags.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once_and_as_they_are_imported() {
        let files = "staging/src/k8s.io/api/core/v1/doc.go\n\
                     staging/src/k8s.io/api/core/v1/types.go\n\
                     staging/src/k8s.io/code-generator/cmd/openapi-gen/main.go\n\
                     staging/src/k8s.io/apiserver/pkg/apis/example/v1/doc.go\n";
        let packages: Vec<_> = imported(files).into_iter().collect();
        assert_eq!(packages, ["k8s.io/kubernetes/vendor/k8s.io/api/core/v1"]);
    }

    #[test]
    fn the_programs_know_their_version() {
        let flags = versions();
        assert!(
            flags.contains("client-go/pkg/version.gitVersion=v1.20.2"),
            "{flags}"
        );
        assert!(
            flags.contains("component-base/version.gitMinor=20"),
            "{flags}"
        );
    }
}
