//! Tools that cargo installs from source.

use anyhow::{Context as _, Result};
use cargo_metadata::semver::Version;

use crate::{cargo, shell};

/// The linker of the eBPF objects. The last release that borrows the compiler's own LLVM: later
/// ones want one that the system provides.
pub(super) const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: Version::new(0, 10, 4),
    options: &[],
};

/// Checks the dependencies' licences and sources.
pub(super) const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: Version::new(0, 20, 2),
    options: &QUICKLY_BUILT,
};

/// Runs the tests, in the groups of `.config/nextest.toml`.
pub(super) const CARGO_NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    version: Version::new(0, 9, 143),
    options: &QUICKLY_BUILT,
};

/// For programs that do little themselves: optimising them takes minutes.
const QUICKLY_BUILT: [&str; 3] = [
    "--no-default-features",
    "--debug",
    "--config=profile.dev.debug=false",
];

/// A package with a binary of the same name.
pub(super) struct Tool {
    name: &'static str,
    /// The version to install. A newer one on the machine is kept.
    version: Version,
    options: &'static [&'static str],
}

impl Tool {
    /// Installs the tool if it is missing or too old.
    pub(super) fn ensure(&self) -> Result<()> {
        let Self {
            name,
            version,
            options,
        } = self;
        match self.installed() {
            Some(found) if found >= *version => return Ok(()),
            Some(found) => eprintln!("{name} {found} is too old: building {version}"),
            None => eprintln!("{name} is missing: building {version}, which takes minutes"),
        }
        let mut install = cargo::cargo();
        install
            .args([
                "install",
                "--locked",
                "--version",
                &format!("={version}"),
                name,
            ])
            .args(*options);
        shell::run(&mut install)?;
        self.installed()
            .with_context(|| format!("{name} was installed, but it does not run"))?;
        Ok(())
    }

    /// The version on the machine; `None` if it does not run.
    fn installed(&self) -> Option<Version> {
        let said = shell::read(shell::command(self.name).arg("--version")).ok()?;
        said.split_whitespace()
            .find_map(|word| word.parse::<Version>().ok())
    }
}
