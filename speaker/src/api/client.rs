//! The client's end of the agent's socket.

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
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
use tokio::{net::UnixStream, time::timeout};

use super::{Explanation, Report, Verb, socket};

/// The likely cause of an unreadable answer.
pub const OTHER_VERSION: &str =
    "the agent has another version than this command: use the agent's, or restart the agent";

/// How long to wait for an answer: far longer than the busiest agent takes.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    sender: http1::SendRequest<Full<Bytes>>,
}

/// Why the agent cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum NoAgent {
    /// Nothing listens there.
    #[error("no agent answers on {path}: start one, or check --state-dir")]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Only root may connect.
    #[error("only root may talk to the agent on {path}: run this with `sudo`")]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// It is stopped by a debugger, or hangs.
    #[error(
        "the agent on {path} has not answered for {ANSWER:?} and seems to hang: see its log, and \
         restart it"
    )]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// The kernel refuses for another reason.
    #[error("cannot connect to the agent on {path}")]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl NoAgent {
    fn new(path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Self::NotRunning { path },
            ErrorKind::PermissionDenied => Self::NotPermitted { path },
            _ => Self::Failed { path, source },
        }
    }
}

impl Client {
    /// Connects to the agent that keeps its state in `state_dir`.
    ///
    /// # Errors
    ///
    /// [`NoAgent`].
    pub async fn connect(state_dir: &Path) -> Result<Self> {
        let path = socket(state_dir);
        let stream = UnixStream::connect(&path)
            .await
            .map_err(|error| NoAgent::new(path.clone(), error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { path, sender })
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

    /// Who owns a VIP and why; `None` if the agent's configuration does not have it.
    pub async fn explain(&mut self, vip: IpAddr) -> Result<Option<Explanation>> {
        let body = self.get(&format!("/v1/explain/{vip}")).await?;
        let body = body.collect().await?.to_bytes();
        serde_json::from_slice(&body).context(OTHER_VERSION)
    }

    /// Asks the agent to do something.
    ///
    /// # Errors
    ///
    /// The agent refuses, and says why.
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

    /// The body of the answer, or the agent's refusal, or [`NoAgent::Silent`].
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Incoming> {
        let answer = timeout(ANSWER, self.sender.send_request(request)).await;
        let silent = || NoAgent::Silent {
            path: self.path.clone(),
        };
        let response = answer.map_err(|_| silent())??;
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn without_an_agent_there_is_no_connection() {
        let directory = tempfile::tempdir().unwrap();
        let check = async || {
            let error = Client::connect(directory.path()).await.unwrap_err();
            let error = error.downcast().unwrap();
            assert!(matches!(error, NoAgent::NotRunning { .. }), "{error}");
        };
        check().await;
        // As left by an agent that was killed.
        drop(UnixListener::bind(socket(directory.path())).unwrap());
        check().await;
    }

    #[test]
    fn only_root_may_connect() {
        let refused = io::Error::from(ErrorKind::PermissionDenied);
        let error = NoAgent::new("/run/agent.sock".into(), refused).to_string();
        let expect = "only root may talk to the agent on /run/agent.sock: run this with `sudo`";
        assert_eq!(error, expect);
    }
}
