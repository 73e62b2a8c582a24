//! Waiting for a time.

use tokio::time::{Instant, sleep_until};

/// Waits for a time that may never come.
pub(crate) async fn until(time: Option<impl Into<Instant>>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
