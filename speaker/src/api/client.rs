//! The other end of the agent's socket.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{Explanation, Report, Verb, socket};

/// What an answer that cannot be read means.
pub const OTHER_VERSION: &str =
    "the agent is of another version than this command: use the agent's, or restart the agent";

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
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
        serde_json::from_slice(&body).context(OTHER_VERSION)
    }

    /// The watch stream: JSON, one record a line.
    pub async fn watch(&mut self) -> Result<Incoming> {
        self.get("/v1/watch").await
    }

    /// Who owns a VIP and why; none, if it is none of the agent's configuration.
    pub async fn explain(&mut self, vip: IpAddr) -> Result<Option<Explanation>> {
        let body = self.get(&format!("/v1/explain/{vip}")).await?;
        let body = body.collect().await?.to_bytes();
        serde_json::from_slice(&body).context(OTHER_VERSION)
    }

    /// Asks the agent to do something.
    ///
    /// # Errors
    ///
    /// It does not, and says why.
    pub async fn ask(&mut self, verb: &Verb) -> Result<()> {
        let request = Request::post("/v1/ask")
            .header(header::HOST, "agent")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(serde_json::to_vec(verb)?))?;
        self.send(request).await.map(drop)
    }

    async fn get(&mut self, path: &str) -> Result<Incoming> {
        let request = Request::get(path)
            .header(header::HOST, "agent")
            .body(Full::default())?;
        self.send(request).await
    }

    /// The body of the answer, or why the agent does not do as it is asked.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Incoming> {
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body();
        if status.is_success() {
            return Ok(body);
        }
        let why = body.collect().await?.to_bytes();
        let why = String::from_utf8_lossy(&why);
        match status {
            StatusCode::CONFLICT => bail!("{why}"),
            status => bail!("the agent answers {status}: {}", why.trim_end()),
        }
    }
}
