//! Without Kubernetes, tests that need it say so.

use std::{
    env,
    process::{Command, Output},
};

use anyhow::Result;
use speaker_tests::{
    kube::{Kube, PROGRAMS},
    lab,
};

/// Runs as a process of its own, without Kubernetes.
#[test]
#[ignore = "the other half of without_kubernetes_a_test_is_skipped_loudly"]
fn lack_kubernetes() {
    lab::test(|lab| Kube::start(lab).map(drop));
}

#[test]
fn without_kubernetes_a_test_is_skipped_loudly() -> Result<()> {
    const LACK: &str = "testbed::skips::lack_kubernetes";

    let half = |prepare: fn(&mut Command) -> &mut Command| -> Result<(bool, String)> {
        let mut half = Command::new(env::current_exe()?);
        half.args([LACK, "--exact", "--ignored", "--nocapture"]);
        half.env_remove(PROGRAMS).env_remove("CI");
        half.env_remove("SPEAKER_SKIPS");
        let Output { status, stderr, .. } = prepare(&mut half).output()?;
        Ok((status.success(), String::from_utf8(stderr)?))
    };

    let (passed, said) = half(|half| half)?;
    let skipped = format!("SKIPPED {LACK}: ");
    assert!(passed && said.contains(&skipped), "{said}");
    assert!(said.contains("cargo xtask kubernetes"), "{said}");

    let (passed, said) = half(|half| half.env("CI", "true"))?;
    assert!(!passed, "a CI that lost it would test nothing: {said}");

    let (passed, said) = half(|half| half.env("CI", "true").env(PROGRAMS, ""))?;
    assert!(passed && said.contains(&skipped), "{said}");
    assert!(said.contains("--quick"), "{said}");

    let (passed, said) = half(|half| half.env(PROGRAMS, "/nonexistent"))?;
    assert!(!passed && said.contains("no kube-apiserver"), "{said}");
    Ok(())
}
