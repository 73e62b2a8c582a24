//! Timers.

use tokio::time::{Instant, sleep_until};

/// Waits until this time, or forever if there is none.
pub(crate) async fn until(time: Option<impl Into<Instant>>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
