//! Shared by the tests of the kernel and of the links: separate namespaces.

#[path = "../../../tests/src/lab/in_ci.rs"]
mod in_ci;
#[path = "../../../tests/src/lab/skipped.rs"]
pub(crate) mod skipped;

use std::{future::Future, panic, path::Path, process::Command, thread};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use skipped::skipped;

/// Runs a test in its own network and mount namespaces, with the path of its own BPF file system.
/// Everything is removed when the test ends for any reason.
///
/// Needs root. Without it, the test is skipped loudly; in CI, it fails.
pub(crate) fn isolated(test: impl FnOnce(&Path) + Send + 'static) {
    if !geteuid().is_root() {
        return skipped(&"network namespaces and BPF programs need root", true);
    }
    let name = thread::current().name().unwrap_or_default().to_owned();
    let isolated = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let bpffs = tempfile::tempdir().unwrap();
        let path = bpffs.path();
        mount(
            Some("bpf"),
            path,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        ip("link set lo up");
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| test(path)));
        umount2(path, MntFlags::MNT_DETACH).unwrap();
        result
    };
    // Namespaces belong to a thread, and go with it.
    let thread = thread::Builder::new().name(name).spawn(isolated).unwrap();
    let done = thread.join();
    if let Err(panic) = done.and_then(|result| result) {
        panic::resume_unwind(panic);
    }
}

/// The same, for an async test.
pub(crate) fn isolated_async<F: Future<Output = ()>>(
    test: impl FnOnce(Box<Path>) -> F + Send + 'static,
) {
    isolated(|bpffs| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test(bpffs.into()));
    });
}

/// Runs `ip` in this thread's network namespace.
pub(crate) fn ip(arguments: &str) {
    if let Err(error) = try_ip(arguments) {
        panic!("ip {arguments}: {error}");
    }
}

/// The same, for what not every kernel supports.
pub(crate) fn try_ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("iproute2 is installed");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned())
}

/// A cable: `port` is the node's end, `peer` the client's.
pub(crate) fn cable() {
    ip("link add port type veth peer name peer");
    // Without addresses, the kernel itself sends no frames that a test might trip over.
    ip("link set port addrgenmode none");
    ip("link set peer addrgenmode none");
    ip("link set port up");
    ip("link set peer up");
}

/// The index of an interface of this thread's network namespace.
pub(crate) fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}
