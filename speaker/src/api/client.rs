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
use serde::de::DeserializeOwned;
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
    /// An agent runs, but does not listen there.
    #[error(
        "an agent runs on this node, pid {pid}, but does not listen on {path}: pass its \
         --state-dir; if this is it, something has removed the socket: restart the agent"
    )]
    Elsewhere {
        /// The socket.
        path: PathBuf,
        /// The agent.
        pid: u32,
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
            // As many connections wait as the kernel lets wait.
            ErrorKind::WouldBlock => Self::Silent { path },
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
        let body = self.get("/v1/status").await?;
        self.read(body).await
    }

    /// The watch stream: JSON, one record a line.
    pub async fn watch(&mut self) -> Result<Incoming> {
        self.get("/v1/watch").await
    }

    /// Who owns a VIP and why; `None` if the agent's configuration does not have it.
    pub async fn explain(&mut self, vip: IpAddr) -> Result<Option<Explanation>> {
        let body = self.get(&format!("/v1/explain/{vip}")).await?;
        self.read(body).await
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
        let sent = self.send(request).await;
        sent.map(drop).map_err(|error| match error.is::<NoAgent>() {
            true => error.context("the agent may not have done this, or may yet do it"),
            false => error,
        })
    }

    async fn get(&mut self, path: &str) -> Result<Incoming> {
        let request = Request::get(path)
            .header(header::HOST, "agent")
            .body(Full::default())?;
        self.send(request).await
    }

    /// The body of the answer, or the agent's refusal.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Incoming> {
        let response = self.sender.send_request(request);
        let response = in_time(&self.path, response).await?;
        let status = response.status();
        let body = response.into_body();
        if status.is_success() {
            return Ok(body);
        }
        let why = in_time(&self.path, body.collect()).await?.to_bytes();
        let why = String::from_utf8_lossy(&why);
        match status {
            StatusCode::CONFLICT => bail!("{why}"),
            status => bail!("the agent answers {status}: {}", why.trim_end()),
        }
    }

    async fn read<T: DeserializeOwned>(&self, body: Incoming) -> Result<T> {
        let body = in_time(&self.path, body.collect()).await?.to_bytes();
        serde_json::from_slice(&body).context(OTHER_VERSION)
    }
}

/// The result, or [`NoAgent::Silent`].
async fn in_time<T>(
    path: &Path,
    answer: impl Future<Output = Result<T, hyper::Error>>,
) -> Result<T> {
    let answer = timeout(ANSWER, answer).await;
    let silent = |_| NoAgent::Silent {
        path: path.to_owned(),
    };
    let gone = || format!("the agent on {} stopped while it answered", path.display());
    answer.map_err(silent)?.with_context(gone)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixListener,
        thread,
    };

    use nix::sys::socket::{Backlog, listen};

    use super::*;

    /// An agent that reads a request, says this, and then closes the connection, or hangs.
    fn agent(state_dir: &Path, says: &'static str, hangs: bool) {
        let listener = UnixListener::bind(socket(state_dir)).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            stream.write_all(says.as_bytes()).unwrap();
            if hangs {
                loop {
                    thread::park();
                }
            }
        });
    }

    async fn report(state_dir: &Path) -> anyhow::Error {
        let mut client = Client::connect(state_dir).await.unwrap();
        client.report().await.unwrap_err()
    }

    #[tokio::test]
    async fn an_agent_that_hangs_or_ends_while_it_answers_is_not_awaited() {
        let part = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{";
        let directory = tempfile::tempdir().unwrap();
        agent(directory.path(), part, true);
        let error = report(directory.path()).await.downcast().unwrap();
        assert!(matches!(error, NoAgent::Silent { .. }), "{error}");

        for part in ["", part] {
            let directory = tempfile::tempdir().unwrap();
            agent(directory.path(), part, false);
            let error = report(directory.path()).await.to_string();
            assert!(error.ends_with("stopped while it answered"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_agent_that_no_longer_accepts_connections_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(directory.path())).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let _waiting = Client::connect(directory.path()).await.unwrap();
        let error = Client::connect(directory.path()).await.unwrap_err();
        let error = error.downcast().unwrap();
        assert!(matches!(error, NoAgent::Silent { .. }), "{error}");
    }

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
