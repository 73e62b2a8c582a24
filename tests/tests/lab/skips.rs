//! Tests that cannot run say so, and tests that fail say why.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Result, bail};
use nix::unistd::{Gid, Uid, setresgid, setresuid};
use speaker_tests::lab;

use super::{SOON, half};

/// Runs as a separate process: a test without privileges.
#[test]
#[ignore = "the other half of a_test_without_privilege_is_skipped_loudly"]
fn lack_privilege() {
    const NOBODY: u32 = 65534;

    if Uid::effective().is_root() {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setresgid(group, group, group).expect("root may");
        setresuid(user, user, user).expect("root may");
    }
    lab::test(|_| bail!("there is no lab without privilege"));
}

#[test]
fn a_test_without_privilege_is_skipped_loudly() -> Result<()> {
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777))?;
    let count = directory.path().join("skips");

    let skipped = half("skips::lack_privilege")
        .env("SPEAKER_SKIPS", &count)
        .env_remove("CI")
        .output()?;
    assert!(skipped.status.success(), "{skipped:?}");
    let line = "skips::lack_privilege: network namespaces and BPF programs need root\n";
    let said = String::from_utf8(skipped.stderr)?;
    assert!(said.contains(&format!("SKIPPED {line}")), "{said}");
    assert_eq!(fs::read_to_string(&count)?, line);

    for ci in ["true", "1"] {
        let in_ci = half("skips::lack_privilege").env("CI", ci).output()?;
        assert!(!in_ci.status.success(), "{in_ci:?}");
    }
    Ok(())
}

/// Runs as a separate process: a test that fails while a process runs.
#[test]
#[ignore = "the other half of a_failing_test_shows_the_output_of_processes"]
fn fail() {
    lab::test(|lab| {
        let host = lab.host("node")?;
        let script = "echo what went wrong; sleep 1000";
        let process = host.command("sh").args(["-c", script]).spawn()?;
        process.wait_for_line("wrong", SOON)?;
        bail!("as told")
    });
}

#[test]
fn a_failing_test_shows_the_output_of_processes() {
    lab::test(|_| {
        let failed = half("skips::fail").output()?;
        assert!(!failed.status.success());
        let said = String::from_utf8(failed.stderr)?;
        assert!(said.contains("as told"), "{said}");
        assert!(said.contains("sh on node: what went wrong"), "{said}");
        Ok(())
    });
}
