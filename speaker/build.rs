//! Builds the eBPF objects inside the binary.
//!
//! Without the BPF toolchain, the workspace can still be checked and linted: the binary then has no
//! program, and its agent says so. `cargo xtask setup` installs what is missing.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

/// The objects, by the names of `speaker-ebpf`'s binaries.
const OBJECTS: [&str; 2] = ["speaker", "speaker-traced"];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../speaker-common/src");
    println!("cargo::rerun-if-changed=../speaker-ebpf/src");
    println!("cargo::rerun-if-env-changed=PATH");

    // Clippy looks at the sources only, in a build of its own.
    let wrapper = env::var_os("RUSTC_WORKSPACE_WRAPPER").map(PathBuf::from);
    if wrapper.is_some_and(|it| it.ends_with("clippy-driver")) {
        return without_objects().map(drop);
    }
    if let Some(missing) = missing_tool()? {
        println!(
            "cargo::warning=the binary will have no eBPF program: {missing} is missing; run `cargo xtask setup`"
        );
        let out = without_objects()?;
        // A file that does not exist always counts as changed: cargo runs this again at the next build.
        println!("cargo::rerun-if-changed={}", out.join("missing").display());
        return Ok(());
    }

    // SAFETY: a build script has one thread here.
    unsafe {
        // `-Z build-std=core` on the pinned stable compiler.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Incremental compilation optimises the parts of the program each on its own: the verifier
        // rejects what results.
        env::set_var("CARGO_INCREMENTAL", "0");
        // Each line of the inner cargo would appear as a warning, and again in every later build.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    // A workspace of its own: cargo finds it by the directory.
    env::set_current_dir("../speaker-ebpf")?;
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_default();
    aya_build::build_ebpf(
        [Package {
            name: "speaker-ebpf",
            root_dir: "../speaker-ebpf",
            ..Package::default()
        }],
        Toolchain::Custom(&toolchain),
    )
}

/// Leaves empty files in place of the objects, and returns their directory.
fn without_objects() -> Result<PathBuf> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);
    for object in OBJECTS {
        fs::write(out.join(object), [])?;
    }
    Ok(out)
}

/// The first part of the BPF toolchain that this machine lacks.
fn missing_tool() -> Result<Option<&'static str>> {
    if Command::new("bpf-linker")
        .arg("--version")
        .output()
        .is_err()
    {
        return Ok(Some("bpf-linker"));
    }
    let rustc = env::var_os("RUSTC").context("RUSTC")?;
    let sysroot = Command::new(rustc).args(["--print", "sysroot"]).output()?;
    let library = PathBuf::from(String::from_utf8(sysroot.stdout)?.trim())
        .join("lib/rustlib/src/rust/library");
    println!(
        "cargo::rerun-if-changed={}",
        library.join("Cargo.lock").display()
    );
    Ok((!library.exists()).then_some("the compiler's rust-src component"))
}
