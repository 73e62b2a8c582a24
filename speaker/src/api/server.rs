//! The two servers: the unix socket for this node's operator, HTTP for probes and Prometheus.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path as UrlPath, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt as _, stream};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{broadcast, mpsc, oneshot},
};

use super::{Explanation, FrameRecord, Report, Verb, metrics::Collected};
use crate::metrics::exposition;

/// What the servers ask of the agent's loop.
#[derive(Debug)]
pub enum Request {
    /// A snapshot.
    Report(oneshot::Sender<Report>),
    /// All frames that are handled from now on. The tap is closed when the last receiver is gone.
    Watch(oneshot::Sender<broadcast::Receiver<FrameRecord>>),
    /// Who owns a VIP and why; none, if it is none of this node's configuration.
    Explain(IpAddr, oneshot::Sender<Option<Explanation>>),
    /// To do something; why not, if it is not done.
    Ask(Verb, oneshot::Sender<Result<(), String>>),
}

type Loop = mpsc::Sender<Request>;

/// Serves the operator's socket at `path`, until the task is dropped. A socket that an earlier
/// agent left is replaced: whoever calls this holds the lock of the node.
///
/// # Errors
///
/// The socket cannot be made.
pub fn serve_socket(path: &Path, requests: Loop) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let routes = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/watch", get(watch))
        .route("/v1/explain/{vip}", get(explain))
        .route("/v1/ask", post(do_ask))
        .with_state(requests);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(())
}

/// Serves `/healthz`, `/readyz` and `/metrics`.
///
/// # Errors
///
/// The address cannot be listened on.
pub async fn serve_http(address: SocketAddr, requests: Loop) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--http)"))?;
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(requests);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(())
}

/// The loop is gone: the process is about to end.
struct Stopping;

impl IntoResponse for Stopping {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping\n").into_response()
    }
}

async fn ask<T>(
    requests: &Loop,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, Stopping> {
    let (sender, receiver) = oneshot::channel();
    requests.send(request(sender)).await.map_err(|_| Stopping)?;
    receiver.await.map_err(|_| Stopping)
}

async fn status(State(requests): State<Loop>) -> Result<Json<Report>, Stopping> {
    ask(&requests, Request::Report).await.map(Json)
}

/// The frames as JSON, one a line. A client that reads too slowly loses frames, and is told how
/// many by a line `{"lost": n}`.
async fn watch(State(requests): State<Loop>) -> Result<Response, Stopping> {
    let receiver = ask(&requests, Request::Watch).await?;
    let lines = stream::unfold(receiver, |mut receiver| async {
        let line = match receiver.recv().await {
            Ok(record) => serde_json::to_string(&record).ok()?,
            Err(broadcast::error::RecvError::Lagged(lost)) => format!("{{\"lost\":{lost}}}"),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((line + "\n", receiver))
    });
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn explain(
    State(requests): State<Loop>,
    UrlPath(vip): UrlPath<IpAddr>,
) -> Result<Json<Option<Explanation>>, Stopping> {
    ask(&requests, |reply| Request::Explain(vip, reply))
        .await
        .map(Json)
}

async fn do_ask(
    State(requests): State<Loop>,
    Json(verb): Json<Verb>,
) -> Result<Response, Stopping> {
    let done = ask(&requests, |reply| Request::Ask(verb, reply)).await?;
    Ok(match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => (StatusCode::CONFLICT, refused).into_response(),
    })
}

/// Whether the loop turns: it answers at all.
async fn healthz(State(requests): State<Loop>) -> Result<&'static str, Stopping> {
    ask(&requests, Request::Report).await?;
    Ok("ok\n")
}

/// Whether the kernel may answer: the configuration and the links are known, and the lease is held.
async fn readyz(State(requests): State<Loop>) -> Result<Response, Stopping> {
    let report = ask(&requests, Request::Report).await?;
    Ok(if report.lease.valid {
        "ok\n".into_response()
    } else {
        let text = "the lease is not held: the configuration has not been read, or the other \
                    nodes have not been met\n";
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    })
}

async fn metrics_text(State(requests): State<Loop>) -> Result<Response, Stopping> {
    let report = ask(&requests, Request::Report).await?;
    Ok(exposition(Collected(report)))
}
