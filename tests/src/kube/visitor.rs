//! A client of a Service.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::Host;

/// The answer of a [`Backend`](super::Backend).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The node that it is on.
    pub node: String,
    /// The client as the backend sees it: the client itself, or a node in between.
    pub client: IpAddr,
    /// The time from opening the connection to the answer.
    pub took: Duration,
}

/// Sends a request over HTTP, each on its own connection.
pub fn get(host: &Host, to: SocketAddr, limit: Duration) -> Result<Reply> {
    host.run(|| visit(to, limit))
        .with_context(|| format!("asking {to} from {}", host.name()))
}

/// Visits over UDP.
pub fn get_udp(host: &Host, to: SocketAddr, limit: Duration) -> Result<Reply> {
    host.run(|| {
        let begin = Instant::now();
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(limit))?;
        let to = match to.ip() {
            IpAddr::V4(v4) => SocketAddr::from((v4.to_ipv6_mapped(), to.port())),
            IpAddr::V6(_) => to,
        };
        // An answer counts only from the host that was asked.
        socket.connect(to)?;
        socket.send(b"?")?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        reply(&answer[..length], begin.elapsed())
    })
    .with_context(|| format!("asking {to} by UDP from {}", host.name()))
}

/// Sends requests over HTTP repeatedly, without waiting for the previous ones.
#[derive(Debug)]
pub struct Visitor {
    stop: Option<io::PipeWriter>,
    thread: JoinHandle<Vec<JoinHandle<Visit>>>,
}

/// A visit and its outcome.
#[derive(Clone, Debug)]
pub struct Visit {
    /// When it began.
    pub at: SystemTime,
    /// The answer, or why there is none.
    pub reply: Result<Reply, String>,
}

/// All visits of a [`Visitor`], earliest first.
#[derive(Clone, Debug)]
pub struct Visits(pub Vec<Visit>);

impl Visitor {
    /// Starts visiting. A visit that takes longer than `limit` has failed.
    pub fn start(client: &Host, to: SocketAddr, every: Duration, limit: Duration) -> Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let every = PollTimeout::try_from(every).context("the time between two visits")?;
        let rounds = move || {
            let mut visits = Vec::new();
            loop {
                visits.push(thread::spawn(move || {
                    let at = SystemTime::now();
                    let reply = visit(to, limit).map_err(|error| format!("{error:#}"));
                    Visit { at, reply }
                }));
                let mut stopped = [PollFd::new(stopped.as_fd(), PollFlags::empty())];
                if poll(&mut stopped, every) != Ok(0) {
                    return visits;
                }
            }
        };
        Ok(Self {
            stop: Some(stop),
            // Threads stay in the namespaces that they were started in.
            thread: client.run(|| thread::spawn(rounds)),
        })
    }

    /// Ends it, and tells how it went.
    pub fn stop(mut self) -> Visits {
        self.stop = None;
        let visits = self.thread.join().expect("it does not panic");
        let visits = visits.into_iter();
        Visits(
            visits
                .map(|visit| visit.join().expect("it does not panic"))
                .collect(),
        )
    }
}

impl Visits {
    /// Those without an answer.
    pub fn failed(&self) -> Vec<&Visit> {
        let visits = self.0.iter();
        visits.filter(|visit| visit.reply.is_err()).collect()
    }

    /// The nodes that answered, in order.
    pub fn nodes(&self) -> Vec<&str> {
        let replies = self.0.iter().filter_map(|visit| visit.reply.as_ref().ok());
        let mut nodes: Vec<&str> = replies.map(|reply| reply.node.as_str()).collect();
        nodes.dedup();
        nodes
    }

    /// The longest time in which no visit was answered.
    pub fn longest_gap(&self) -> Duration {
        let mut longest = Duration::ZERO;
        let mut since = None;
        for visit in &self.0 {
            match (&visit.reply, since) {
                (Err(_), None) => since = Some(visit.at),
                (Err(_), Some(_)) | (Ok(_), None) => {}
                (Ok(_), Some(begin)) => {
                    longest = longest.max(visit.at.duration_since(begin).unwrap_or_default());
                    since = None;
                }
            }
        }
        let open = since.zip(self.0.last());
        let last = open.and_then(|(begin, visit)| visit.at.duration_since(begin).ok());
        longest.max(last.unwrap_or_default())
    }
}

fn visit(to: SocketAddr, limit: Duration) -> Result<Reply> {
    let begin = Instant::now();
    let answer = ask(to, "/", limit)?;
    reply(answer.as_bytes(), begin.elapsed())
}

/// The body of an HTTP response, if it is a success.
pub fn ask(to: SocketAddr, path: &str, limit: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, limit).context("connecting")?;
    stream.set_read_timeout(Some(limit))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("reading the answer")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is not whole")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{answer}");
    }
    Ok(body.to_owned())
}

fn reply(answer: &[u8], took: Duration) -> Result<Reply> {
    let answer = str::from_utf8(answer)?;
    let (node, client) = answer.split_once(' ').context("not a backend's answer")?;
    Ok(Reply {
        node: node.to_owned(),
        client: client.parse()?,
        took,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visits(answered: &str) -> Visits {
        let reply = Reply {
            node: "node-a".to_owned(),
            client: Ipv6Addr::LOCALHOST.into(),
            took: Duration::ZERO,
        };
        let visits = answered.chars().zip(0..).map(|(char, number)| Visit {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(number),
            reply: match char {
                'x' => Err("refused".to_owned()),
                _ => Ok(reply.clone()),
            },
        });
        Visits(visits.collect())
    }

    #[test]
    fn a_gap_lasts_from_the_first_failure_to_the_next_success() {
        for (answered, gap) in [
            ("...", 0),
            (".x.", 1),
            ("x..xxx.", 3),
            (".x.xxx", 2),
            ("", 0),
        ] {
            assert_eq!(
                visits(answered).longest_gap(),
                Duration::from_secs(gap),
                "{answered}"
            );
        }
        assert_eq!(visits(".x.").failed().len(), 1);
        assert_eq!(visits(".x.").nodes(), ["node-a"]);
    }
}
