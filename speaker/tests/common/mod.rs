//! What the tests of the kernel and of the links share: a place of their own in the kernel.

use std::{env, future::Future, panic, path::Path, process::Command, thread};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

/// Runs a test in network and mount namespaces of its own, with a BPF file system of its own,
/// which it is told the path of. All of it is gone afterwards, however the test ends.
///
/// Needs root: else the test is skipped, and says so; in CI that is a failure.
pub(crate) fn isolated(test: impl FnOnce(&Path) + Send + 'static) {
    if !geteuid().is_root() {
        let ci = env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "this test needs root, and CI has to give it");
        eprintln!("SKIPPED: this test needs root, to make a network of its own");
        return;
    }
    // Namespaces belong to a thread: the test's own dies with it.
    let done = thread::spawn(|| {
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
    })
    .join();
    if let Err(panic) = done.and_then(|result| result) {
        panic::resume_unwind(panic);
    }
}

/// The same, for a test that waits for things.
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

/// The same, for what not every kernel can.
pub(crate) fn try_ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("iproute2 is installed");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A cable: `port` is the node's end, `peer` the client's.
pub(crate) fn cable() {
    ip("link add port type veth peer name peer");
    // Without addresses of its own, the kernel sends no frames that a test might trip over.
    ip("link set port addrgenmode none");
    ip("link set peer addrgenmode none");
    ip("link set port up");
    ip("link set peer up");
}

/// The index of an interface of this thread's network namespace.
pub(crate) fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}
