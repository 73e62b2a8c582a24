//! The namespaces of a host or switch, held by nothing but file descriptors of this process.
//!
//! They have no name in the file system and no thread of their own: whatever ends this process
//! closes the descriptors and ends the [`Init`], and the kernel removes the rest.

use std::{
    env, fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    unistd::{Pid, chdir, sethostname},
};
use rtnetlink::LinkUnspec;

use super::{Missing, init::Init, netlink};

/// Network, mount, UTS and PID namespaces of one host.
///
/// `/sys` shows the host's own interfaces, `/sys/fs/bpf` is a bpffs and `/run` a tmpfs of its own.
/// `/proc` is the machine's, so that threads of this process find themselves in it.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    net: OwnedFd,
    mount: OwnedFd,
    uts: OwnedFd,
    pid: OwnedFd,
    init: Init,
}

impl Namespace {
    /// Creates the namespaces; `name` is also the host name inside.
    pub(super) fn new(name: &str) -> Result<Self> {
        // A thread that has left its process's namespaces cannot be put back into all of them.
        in_thread(name, || Self::unshare(name))
            .with_context(|| format!("making the namespaces of {name}"))
    }

    fn unshare(name: &str) -> Result<Self> {
        unshare(
            CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWPID,
        )
        .map_err(|errno| match errno {
            Errno::EPERM => anyhow::Error::new(Missing::Privilege),
            other => anyhow::Error::new(other).context("unshare"),
        })?;
        sethostname(name).context("setting the host name")?;
        mount_own().context("mounting the host's own /sys, /sys/fs/bpf and /run")?;
        netlink::set_link(LinkUnspec::new_with_name("lo").up().build()).context("lo")?;
        let init = Init::start(name)?;
        let open = |kind: &str| -> Result<OwnedFd> {
            let path = format!("/proc/thread-self/ns/{kind}");
            Ok(fs::File::open(&path).context(path)?.into())
        };
        Ok(Self {
            name: name.to_owned(),
            net: open("net")?,
            mount: open("mnt")?,
            uts: open("uts")?,
            pid: open("pid_for_children")?,
            init,
        })
    }

    /// Runs `job` in the namespaces, on its own thread, and returns its result or passes on its
    /// panic. Sockets and files that it opens work anywhere afterwards.
    pub(super) fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        in_thread(&self.name, || {
            self.enter()
                .expect("the descriptors are those of namespaces, and this process made them");
            job()
        })
    }

    /// As [`run`](Self::run), for a job that starts processes: they belong to the host, and end with it.
    pub(super) fn run_spawning<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.run(|| {
            setns(&self.pid, CloneFlags::CLONE_NEWPID)
                .expect("the host's init holds its PID namespace");
            job()
        })
    }

    fn enter(&self) -> Result<()> {
        let directory = env::current_dir()?;
        unshare(CloneFlags::CLONE_FS)?;
        setns(&self.mount, CloneFlags::CLONE_NEWNS)?;
        setns(&self.net, CloneFlags::CLONE_NEWNET)?;
        setns(&self.uts, CloneFlags::CLONE_NEWUTS)?;
        // Entering a mount namespace moves to its root.
        chdir(&directory)?;
        Ok(())
    }

    /// Writes a setting below `/proc/sys`, by its name with dots or slashes, as `sysctl -w` does.
    pub(super) fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = match name.contains('/') {
            true => format!("/proc/sys/{name}"),
            false => format!("/proc/sys/{}", name.replace('.', "/")),
        };
        self.run(|| fs::write(&path, value))
            .with_context(|| format!("setting {path} of {} to {value:?}", self.name))
    }

    /// The init process of the host.
    pub(super) fn init(&self) -> Pid {
        self.init.pid()
    }

    /// Kills every process of the host.
    pub(super) fn kill(&self) {
        self.init.kill();
    }
}

impl AsFd for Namespace {
    /// The network namespace.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }
}

/// Waits until a file, usually in `/sys` or `/proc`, has the wanted content.
pub(super) fn wait_for_file(path: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(5);

    let end = Instant::now() + LIMIT;
    loop {
        let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        if wanted(&text) {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("after {LIMIT:?}, {path} still says {text:?}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `job` on a thread that ends with it, so that changes to the thread do not outlast the job.
fn in_thread<T: Send>(name: &str, job: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, job)
            .expect("this process may start threads")
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

fn mount_own() -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("/")?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), plain, none).context("/sys")?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), plain, none).context("/sys/fs/bpf")?;
    fs::create_dir_all("/run").context("/run")?;
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        plain,
        Some("mode=0755"),
    )
    .context("/run")
}
