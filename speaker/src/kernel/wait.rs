//! Waiting until a ring of the kernel has something to read.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Wakes up when there is something to read.
pub(super) struct Readable {
    ring: AsyncFd<OwnedFd>,
}

impl Readable {
    /// Runs on the current tokio runtime.
    pub(super) fn new(ring: impl AsFd) -> io::Result<Self> {
        let ring = ring.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is our own, and stays open and the same until it is dropped with
        // the `AsyncFd`.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| error.into_parts().1)?;
        Ok(Self { ring })
    }

    /// Returns once something has arrived since the last call. The caller checks the ring before it
    /// waits, and reads until the ring is empty afterwards.
    pub(super) async fn more(&self) -> io::Result<()> {
        self.ring.readable().await?.clear_ready();
        Ok(())
    }
}
