//! Networks for the tests.

#[path = "../../../tests/src/lab/in_ci.rs"]
mod in_ci;
#[path = "../../../tests/src/lab/skipped.rs"]
mod skipped;

use std::{process::Command, thread};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};

use skipped::skipped;

/// Runs a test in a network namespace, which ends with it. Where that is not permitted, the test
/// is skipped, loudly; in CI, it fails.
pub(super) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new()
        .name(thread::current().name().unwrap_or_default().to_owned())
        .spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => {
                ip("link set dev lo up");
                test();
            }
            Err(Errno::EPERM) => skipped(&"network namespaces need root", true),
            Err(error) => panic!("no network namespace: {error}"),
        })
        .expect("a thread can be started");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the thread's namespace.
pub(super) fn ip(arguments: &str) {
    output(arguments);
}

/// Runs `ip` in the thread's namespace, and returns its output.
pub(super) fn output(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs `tc` in the thread's namespace.
pub(super) fn tc(arguments: &str) {
    run("tc", arguments);
}

fn run(tool: &str, arguments: &str) -> String {
    let output = Command::new(tool)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{tool}, of the package iproute2: {error}"));
    assert!(
        output.status.success(),
        "{tool} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Two links joined by a cable, both up, by interface index.
pub(super) struct Pair {
    pub(super) near: u32,
    pub(super) far: u32,
}

impl Pair {
    pub(super) fn new(near: &str, far: &str) -> Self {
        ip(&format!("link add name {near} type veth peer name {far}"));
        for name in [near, far] {
            ip(&format!("link set dev {name} up"));
        }
        let index = |name: &str| if_nametoindex(name).expect("the link was just made");
        Self {
            near: index(near),
            far: index(far),
        }
    }
}
