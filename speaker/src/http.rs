//! Serving HTTP, for the agent and the controller.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

/// Serves these routes at the address of `--http`, until the process ends.
///
/// # Errors
///
/// The address cannot be listened on.
pub(crate) async fn serve(address: SocketAddr, routes: Router) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--http)"))?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(())
}

/// Sends the process's loop a message, and waits for its answer.
pub(crate) async fn ask<Message, T>(
    to: &mpsc::Sender<Message>,
    message: impl FnOnce(oneshot::Sender<T>) -> Message,
) -> Result<T, Failure> {
    let (sender, receiver) = oneshot::channel();
    let sent = to.send(message(sender)).await;
    sent.map_err(|_| Failure::Stopping)?;
    receiver.await.map_err(|_| Failure::Stopping)
}

/// Why a request fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The loop has ended, and so will the process.
    Stopping,
    /// The process cannot do its work yet, or at the moment.
    NotReady(String),
    /// Something went wrong.
    Failed(anyhow::Error),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                "this process is stopping".to_owned(),
            ),
            Self::NotReady(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            Self::Failed(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
        };
        (status, text + "\n").into_response()
    }
}
