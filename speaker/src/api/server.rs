//! The two servers: the unix socket for this node's operator, HTTP for probes and Prometheus.

use std::{
    convert::Infallible,
    fs::{self, Permissions},
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
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
    net::UnixListener,
    sync::{broadcast, mpsc, oneshot},
};

use super::{Explanation, Health, Report, Verb, WatchLine, metrics::Collected};
use crate::{
    blocking::blocking,
    http::{self, Failure, ask},
    metrics::exposition,
};

/// The servers' requests to the agent's loop.
#[derive(Debug)]
pub enum Request {
    /// A snapshot.
    Report(oneshot::Sender<Result<Report>>),
    /// Health, which probes request often.
    Health(oneshot::Sender<Health>),
    /// All frames handled from now on. The tap is closed when the last receiver is dropped.
    Watch(oneshot::Sender<broadcast::Receiver<WatchLine>>),
    /// Who owns a VIP and why; `None` if this node's configuration does not have it.
    Explain(IpAddr, oneshot::Sender<Option<Explanation>>),
    /// An action; the error says why it is refused.
    Ask(Verb, oneshot::Sender<Result<(), String>>),
}

type Loop = mpsc::Sender<Request>;

/// Serves the operator's socket at `path`, to this user alone. Replaces one that an earlier agent
/// left: the caller holds the node's lock.
///
/// # Errors
///
/// The socket cannot be made.
pub fn serve_socket(path: &Path, requests: Loop) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error)
                .with_context(|| format!("cannot replace {} (--state-dir)", path.display()));
        }
        _ => {}
    }
    let listen = || {
        let listener = UnixListener::bind(path)?;
        // Whatever the umask: whoever connects can drain the node.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        io::Result::Ok(listener)
    };
    let listener =
        listen().with_context(|| format!("cannot listen on {} (--state-dir)", path.display()))?;
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
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(requests);
    http::serve(address, routes).await
}

/// Serializing a report of many VIPs takes so long that the agent, which has only this thread,
/// would count as stalled: see [`blocking`].
async fn report(requests: &Loop) -> Result<Report, Failure> {
    let report = ask(requests, Request::Report).await?;
    report.map_err(Failure::Failed)
}

async fn status(State(requests): State<Loop>) -> Result<Response, Failure> {
    let report = report(&requests).await?;
    Ok(blocking(|| Json(report).into_response()).await)
}

/// The frames as JSON, one per line. A client that reads too slowly loses frames; a line
/// `{"lost": n}` says how many.
async fn watch(State(requests): State<Loop>) -> Result<Response, Failure> {
    let receiver = ask(&requests, Request::Watch).await?;
    let lines = stream::unfold(receiver, |mut receiver| async {
        let line = match receiver.recv().await {
            Ok(line) => line,
            Err(broadcast::error::RecvError::Lagged(lost)) => WatchLine::Lost { lost },
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        let text = serde_json::to_string(&line).ok()?;
        Some((text + "\n", receiver))
    });
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn explain(
    State(requests): State<Loop>,
    UrlPath(vip): UrlPath<IpAddr>,
) -> Result<Json<Option<Explanation>>, Failure> {
    ask(&requests, |reply| Request::Explain(vip, reply))
        .await
        .map(Json)
}

async fn do_ask(State(requests): State<Loop>, Json(verb): Json<Verb>) -> Result<Response, Failure> {
    let done = ask(&requests, |reply| Request::Ask(verb, reply)).await?;
    Ok(match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => (StatusCode::CONFLICT, refused).into_response(),
    })
}

/// Whether the agent's loop responds at all.
async fn healthz(State(requests): State<Loop>) -> Result<&'static str, Failure> {
    ask(&requests, Request::Health).await?;
    Ok("ok\n")
}

/// Whether the agent has started, and the kernel may answer.
async fn readyz(State(requests): State<Loop>) -> Result<&'static str, Failure> {
    let health = ask(&requests, Request::Health).await?;
    match health.obstacle() {
        None => Ok("ok\n"),
        Some(obstacle) => Err(Failure::NotReady(obstacle.to_owned())),
    }
}

async fn metrics_text(State(requests): State<Loop>) -> Result<Response, Failure> {
    let report = report(&requests).await?;
    Ok(blocking(|| exposition(Collected(report))).await)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::anyhow;
    use nix::time::{ClockId, clock_gettime};
    use serde_json::json;
    use tokio::task::yield_now;

    use super::*;
    use crate::api::{Client, socket};

    const READY: Health = Health {
        is_configured: true,
        is_settled: true,
        is_lease_valid: true,
    };

    /// A loop that reports this health, and nothing else.
    fn sick(health: Health) -> Loop {
        let (sender, mut requests) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                match request {
                    Request::Health(reply) => drop(reply.send(health)),
                    Request::Report(reply) => {
                        let error = anyhow!("EPERM").context("cannot read map counters");
                        drop(reply.send(Err(error)));
                    }
                    other => panic!("{other:?} is not asked for"),
                }
            }
        });
        sender
    }

    #[tokio::test]
    async fn only_this_user_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = socket(directory.path());
        serve_socket(&path, sick(READY)).unwrap();
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_failed_report_says_why() {
        let directory = tempfile::tempdir().unwrap();
        serve_socket(&socket(directory.path()), sick(READY)).unwrap();
        let mut client = Client::connect(directory.path()).await.unwrap();
        let error = client.report().await.unwrap_err();
        let expect = "the agent answers 500 Internal Server Error: cannot read map counters: EPERM";
        assert_eq!(error.to_string(), expect);
    }

    /// The agent has only this thread, to renew its lease and to watch the other nodes.
    #[tokio::test]
    async fn a_large_report_does_not_block_the_agent() {
        let place = json!({
            "link": "eth0", "interface": "eth0", "mac": "02:00:00:00:00:01", "vlan": 0,
            "state": "answering", "announced": 4, "conflicts": 0,
        });
        let vip = json!({
            "address": "192.0.2.1", "services": ["default/web"], "places": [place], "counts": [],
        });
        let report = json!({
            "node": "node-a", "lease": { "state": "valid", "alone": true }, "links": [],
            "vips": vec![vip; 10_000], "reasons": {}, "refused": [],
        });
        let report: Report = serde_json::from_value(report).unwrap();
        let agent = |report: Report| {
            let (sender, mut requests) = mpsc::channel(1);
            tokio::spawn(async move {
                if let Some(Request::Report(reply)) = requests.recv().await {
                    drop(reply.send(Ok(report)));
                }
            });
            State(sender)
        };
        let time = |write: &dyn Fn(Report) -> Response| {
            let report = report.clone();
            let begun = processor_time();
            write(report);
            processor_time() - begun
        };
        let alone = time(&|report| Json(report).into_response());
        let waited = longest_wait(status(agent(report.clone()))).await;
        assert!(waited < alone / 2, "status: {waited:?} of {alone:?}");
        let alone = time(&|report| exposition(Collected(report)));
        let waited = longest_wait(metrics_text(agent(report.clone()))).await;
        assert!(waited < alone / 2, "metrics: {waited:?} of {alone:?}");
    }

    /// The longest time for which this thread runs without a break.
    async fn longest_wait<T: Send + 'static>(
        work: impl Future<Output = T> + Send + 'static,
    ) -> Duration {
        let work = tokio::spawn(work);
        let mut longest = Duration::ZERO;
        while !work.is_finished() {
            let since = processor_time();
            yield_now().await;
            longest = longest.max(processor_time() - since);
        }
        longest
    }

    /// The time that this thread has run: on a busy machine, it may have to wait at any moment.
    fn processor_time() -> Duration {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
        time.expect("Linux has this clock").into()
    }

    #[tokio::test]
    async fn probes_need_no_report_and_say_what_is_missing() {
        assert!(healthz(State(sick(READY))).await.is_ok());
        assert!(readyz(State(sick(READY))).await.is_ok());
        let check = async |health: Health, expect: &str| {
            assert!(healthz(State(sick(health))).await.is_ok());
            let failure = readyz(State(sick(health))).await.unwrap_err();
            let Failure::NotReady(why) = failure else {
                panic!("{failure:?}");
            };
            assert!(why.contains(expect), "{why}");
        };
        let unconfigured = Health {
            is_configured: false,
            ..READY
        };
        check(unconfigured, "configuration").await;
        let unsettled = Health {
            is_settled: false,
            ..READY
        };
        check(unsettled, "joining").await;
        let lapsed = Health {
            is_lease_valid: false,
            ..READY
        };
        check(lapsed, "lease").await;
    }
}
