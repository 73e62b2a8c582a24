//! Blocking work, off the runtime's threads.

use std::{future::pending, panic::resume_unwind};

use tokio::task::spawn_blocking;

/// Runs it on a thread where it blocks only the caller.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down, and the caller with it.
            Err(_) => pending().await,
        },
    }
}
