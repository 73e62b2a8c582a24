//! Tests that cannot run here are counted.

use std::{env, fs, os::unix::fs::PermissionsExt as _, process::Command};

use nix::unistd::{Uid, setresuid};

use crate::common::isolated;

/// Runs as a process of its own, without privileges.
#[test]
#[ignore = "the other half of a_test_without_privilege_is_counted"]
fn lack_privilege() {
    const NOBODY: Uid = Uid::from_raw(65534);
    if Uid::effective().is_root() {
        setresuid(NOBODY, NOBODY, NOBODY).unwrap();
    }
    isolated(|_| panic!("nothing is isolated without privileges"));
}

#[test]
fn a_test_without_privilege_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let count = directory.path().join("skips");
    let mut half = Command::new(env::current_exe().unwrap());
    half.args(["skips::lack_privilege", "--exact", "--ignored"])
        .env("SPEAKER_SKIPS", &count);

    let output = half.env_remove("CI").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let line = "skips::lack_privilege: network namespaces and BPF programs need root\n";
    assert_eq!(fs::read_to_string(&count).unwrap(), line);

    let in_ci = half.env("CI", "true").output().unwrap();
    assert!(!in_ci.status.success(), "{in_ci:?}");
}
