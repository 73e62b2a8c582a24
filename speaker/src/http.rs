//! Serving HTTP, for the agent and the controller.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::sleep,
};

/// How long a connection may stay open without a request, or with a response that the client does
/// not read: longer than the time between two scrapes.
const IDLE: Duration = Duration::from_secs(75);

/// Serves these routes at the address of `--http`, until the process ends.
///
/// # Errors
///
/// The address cannot be listened on.
pub(crate) async fn serve(address: SocketAddr, routes: Router) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--http)"))?;
    tokio::spawn(accept(listener, routes, IDLE));
    Ok(())
}

/// Serves all connections. `axum::serve` never closes one that is idle or stuck, and anybody could
/// open as many as this process may have files.
async fn accept(listener: TcpListener, routes: Router, idle: Duration) {
    /// The wait after an error, which lasts if it is that there are too many open files.
    const PAUSE: Duration = Duration::from_millis(100);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(idle);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        // Without it, the kernel waits forever for a client that reads nothing. It fails only for a
        // connection that is closed already.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(idle));
        let routes = TowerToHyperService::new(routes.clone());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), routes));
    }
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{body::Body, routing::get};
    use futures::stream;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn a_connection_without_a_request_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "answered"));
        tokio::spawn(accept(listener, routes, Duration::from_millis(100)));
        for request in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut said = String::new();
            let read = timeout(Duration::from_secs(10), stream.read_to_string(&mut said));
            read.await.expect("it is closed").unwrap();
            assert_eq!(said.ends_with("answered"), !request.is_empty(), "{said}");
        }
    }

    #[tokio::test]
    async fn a_connection_whose_response_is_not_read_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, mut responses) = mpsc::channel(1);
        let endless = move || async move {
            let (open, closed) = oneshot::channel::<()>();
            sender.send(closed).await.unwrap();
            let chunks = stream::repeat_with(move || {
                let _is_dropped_with_the_response = &open;
                Ok::<_, Infallible>(vec![0_u8; 1 << 16])
            });
            Body::from_stream(chunks)
        };
        let routes = Router::new().route("/", get(endless));
        tokio::spawn(accept(listener, routes, Duration::from_millis(100)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let closed = responses.recv().await.unwrap();
        let is_closed = timeout(Duration::from_secs(10), closed).await;
        assert!(is_closed.is_ok(), "it stays open");
    }
}
