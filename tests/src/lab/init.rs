//! The first process of a host's PID namespace: while it lives, the host does.
//!
//! When it dies, the kernel kills every process of the namespace, including those that forked away
//! from their parents. It dies as soon as its pipe to the process that made the lab closes, which
//! no death of that process can prevent.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

use anyhow::{Context as _, Result};
use nix::{
    fcntl::OFlag,
    libc,
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, pipe2},
};

/// The init of a host; dropping it ends every process of the host, and waits for that.
#[derive(Debug)]
pub(super) struct Init {
    pid: Pid,
    _alive: OwnedFd,
}

impl Init {
    /// Forks the init of the PID namespace that the calling thread has just unshared.
    ///
    /// `name` is what `ps` shows: `nsenter --all --target` with it is a way into the host.
    pub(super) fn start(name: &str) -> Result<Self> {
        let (closes, alive) = pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
        let name = CString::new(name).context("the name of a host")?;
        // SAFETY: the child calls nothing but system calls, which a fork of a process with other
        // threads may do.
        match unsafe { fork() }.context("forking the init of a host")? {
            ForkResult::Child => wait_for_the_end(&name, closes.as_raw_fd()),
            ForkResult::Parent { child } => Ok(Self {
                pid: child,
                _alive: alive,
            }),
        }
    }

    /// The process, as the lab's own PID namespace numbers it.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills every process of the host, without waiting for the last to end.
    pub(super) fn kill(&self) {
        // The only possible error is that it has already ended, as intended.
        let _ = kill(self.pid, Signal::SIGKILL);
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.kill();
        let _ = waitpid(self.pid, None);
    }
}

/// The main loop of an init: it reaps orphans, and ends with the pipe.
fn wait_for_the_end(name: &CString, closes: RawFd) -> ! {
    // SAFETY: system calls on descriptors and buffers of this process. Every inherited descriptor
    // but the pipe is closed: they would keep other hosts, and this pipe's own other end, open.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        libc::setsid();
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::dup2(closes, 0);
        if libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0) != 0 {
            libc::_exit(1);
        }
        let mut byte = 0_u8;
        while libc::read(0, (&raw mut byte).cast(), 1) < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
        libc::_exit(0)
    }
}
