//! A backend of a Service: it says where it is, and who asks.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::Host;

/// How long a client may take for its request.
const LIMIT: Duration = Duration::from_secs(5);

/// Serves HTTP and UDP on all addresses of a host, of both families. The answer is the host's name
/// and the client's address as the host sees it, separated by a space. Dropping it closes its
/// ports.
#[derive(Debug)]
pub struct Backend {
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts serving. When this returns, clients are answered.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let address = (Ipv6Addr::UNSPECIFIED, port);
        let sockets = host.run(|| Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?)));
        let (http, udp) = sockets
            .map_err(|error: io::Error| error)
            .with_context(|| format!("listening on port {port} of {}", host.name()))?;
        http.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        let (stopped, stop) = io::pipe()?;
        let name = host.name().to_owned();
        let thread = thread::spawn(move || {
            loop {
                let mut ready = [
                    PollFd::new(stopped.as_fd(), PollFlags::empty()),
                    PollFd::new(http.as_fd(), PollFlags::POLLIN),
                    PollFd::new(udp.as_fd(), PollFlags::POLLIN),
                ];
                let polled = poll(&mut ready, PollTimeout::NONE);
                if polled.is_err() || ready[0].any().unwrap_or(true) {
                    break;
                }
                if let Ok((stream, client)) = http.accept() {
                    let text = answer(&name, client);
                    thread::spawn(move || serve(stream, &text));
                }
                if let Ok((_, client)) = udp.recv_from(&mut [0; 1]) {
                    // As with any datagram, the client has to notice the loss.
                    let _ = udp.send_to(answer(&name, client).as_bytes(), client);
                }
            }
        });
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

/// Answers any one request. A client that goes away is not an error.
fn serve(mut stream: TcpStream, text: &str) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let mut lines = BufReader::new(&stream).lines();
    while !lines.next()?.ok()?.is_empty() {}
    let length = text.len();
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain";
    write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{text}").ok()
}

fn answer(name: &str, client: SocketAddr) -> String {
    format!("{name} {}", client.ip().to_canonical())
}
