//! The other end of the agent's socket.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{Report, socket};

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    sender: http1::SendRequest<Empty<Bytes>>,
}

/// No agent listens.
#[derive(Debug, thiserror::Error)]
#[error("no agent answers on {path}: {source}")]
pub struct NoAgent {
    path: PathBuf,
    source: std::io::Error,
}

impl Client {
    /// Connects to the agent that keeps its state in `state_dir`.
    ///
    /// # Errors
    ///
    /// [`NoAgent`] where nobody listens.
    pub async fn connect(state_dir: &Path) -> Result<Self> {
        let path = socket(state_dir);
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(source) => return Err(NoAgent { path, source }.into()),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// A snapshot.
    pub async fn report(&mut self) -> Result<Report> {
        let body = self.get("/v1/status").await?.collect().await?.to_bytes();
        serde_json::from_slice(&body)
            .context("the agent's answer is not of this version: restart the agent")
    }

    /// The watch stream: JSON, one record a line.
    pub async fn watch(&mut self) -> Result<Incoming> {
        self.get("/v1/watch").await
    }

    async fn get(&mut self, path: &str) -> Result<Incoming> {
        let request = Request::get(path)
            .header(header::HOST, "agent")
            .body(Empty::new())?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        ensure!(status.is_success(), "the agent answers {status} to {path}");
        Ok(response.into_body())
    }
}
