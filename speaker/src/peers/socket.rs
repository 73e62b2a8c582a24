//! The sockets for messages and probes.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr, UdpSocket as StdSocket},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail};
use socket2::SockRef;
use speaker_common::probe;
use speaker_core::cluster::Endpoints;
use tokio::net::UdpSocket;
use tracing::debug;

/// The default port for messages; probes use the next one.
pub const PORT: u16 = 7946;
/// The longest datagram. IP may fragment a relayed message.
const LONGEST: usize = 4_096;
/// Bytes in the kernel for a burst of messages, such as the claims of thousands of VIPs.
const BACKLOG: usize = 4 << 20;

/// What has arrived from another node.
#[derive(Debug)]
pub enum Datagram {
    /// A message, still sealed.
    Message(SocketAddr, Vec<u8>),
    /// A probe that no XDP program has answered, or the reply to one.
    Probe(SocketAddr, [u8; probe::LENGTH]),
    /// Something else on the port for probes, by its length.
    NoProbe,
}

/// The sockets of messages and of probes.
#[derive(Debug)]
pub struct Sockets {
    endpoints: Endpoints,
    messages: Socket,
    probes: Socket,
    /// Which of the two was read last, so that they take turns.
    was_probes: AtomicBool,
}

/// One socket: its receiving end is awaited, its sending end never blocks.
#[derive(Debug)]
struct Socket {
    incoming: UdpSocket,
    outgoing: StdSocket,
}

/// The address at which other nodes reach this one: the given one, or the one from which the kernel
/// would send to a peer.
///
/// # Errors
///
/// There is no route to the peer.
pub fn endpoint(bind: Option<SocketAddr>, peer: Option<SocketAddr>) -> Result<SocketAddr> {
    if let Some(bind) = bind.filter(|bind| !bind.ip().is_unspecified()) {
        return Ok(bind);
    }
    let port = bind.map_or(PORT, |bind| bind.port());
    let Some(peer) = peer else {
        bail!("set --gossip-bind to the address at which other nodes reach this one");
    };
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => [0_u8; 4].into(),
        SocketAddr::V6(_) => [0_u8; 16].into(),
    };
    let own = StdSocket::bind((any, 0))
        .and_then(|socket| socket.connect(peer).and_then(|()| socket.local_addr()))
        .with_context(|| {
            format!(
                "there is no route to {peer} (--peer): set --gossip-bind to this node's address"
            )
        })?;
    Ok(SocketAddr::new(own.ip(), port))
}

impl Sockets {
    /// Opens the socket for messages at this address, and that for probes on the next port.
    ///
    /// # Errors
    ///
    /// The address is not this node's, or a port is in use.
    pub fn bind(messages: SocketAddr) -> Result<Self> {
        let Some(endpoints) = Endpoints::at(messages) else {
            bail!("probes need the port after {messages} (--gossip-bind), which does not exist");
        };
        Ok(Self {
            endpoints,
            messages: open(endpoints.messages)?,
            probes: open(endpoints.probes)?,
            was_probes: AtomicBool::new(false),
        })
    }

    /// The address at which other nodes reach this one.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    /// Sends a sealed message. If it cannot be sent now, it is lost, as it may be on the network.
    pub fn send_message(&self, to: SocketAddr, sealed: &[u8]) {
        told(to, self.messages.outgoing.send_to(sealed, to));
    }

    /// Sends a probe, or the reply to one.
    pub fn send_probe(&self, to: SocketAddr, probe: &[u8; probe::LENGTH]) {
        told(to, self.probes.outgoing.send_to(probe, to));
    }

    /// The next datagram, from the two sockets in turn.
    pub async fn next(&self) -> Datagram {
        loop {
            tokio::select! {
                biased;
                result = self.probes.incoming.readable() => {
                    if result.is_err() {
                        pending::<()>().await;
                    }
                }
                result = self.messages.incoming.readable() => {
                    if result.is_err() {
                        pending::<()>().await;
                    }
                }
            }
            if let Some(datagram) = self.try_next() {
                return datagram;
            }
        }
    }

    /// The next datagram that has already arrived.
    pub fn try_next(&self) -> Option<Datagram> {
        if self.was_probes.load(Ordering::Relaxed) {
            self.try_message().or_else(|| self.try_probe())
        } else {
            self.try_probe().or_else(|| self.try_message())
        }
    }

    fn try_probe(&self) -> Option<Datagram> {
        let mut buffer = [0; LONGEST];
        let received = self.probes.incoming.try_recv_from(&mut buffer);
        let (length, from) = received.ok()?;
        self.was_probes.store(true, Ordering::Relaxed);
        let probe = buffer[..length].try_into();
        Some(probe.map_or(Datagram::NoProbe, |probe| Datagram::Probe(from, probe)))
    }

    fn try_message(&self) -> Option<Datagram> {
        let mut buffer = [0; LONGEST];
        let received = self.messages.incoming.try_recv_from(&mut buffer);
        let (length, from) = received.ok()?;
        self.was_probes.store(false, Ordering::Relaxed);
        Some(Datagram::Message(from, buffer[..length].to_vec()))
    }
}

fn open(address: SocketAddr) -> Result<Socket> {
    let open = || -> io::Result<Socket> {
        let socket = StdSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let options = SockRef::from(&socket);
        options.set_recv_buffer_size(BACKLOG)?;
        options.set_send_buffer_size(BACKLOG)?;
        Ok(Socket {
            outgoing: socket.try_clone()?,
            incoming: UdpSocket::from_std(socket)?,
        })
    };
    open().with_context(|| format!("cannot listen on {address} for other nodes (--gossip-bind)"))
}

fn told(to: SocketAddr, result: io::Result<usize>) {
    if let Err(error) = result {
        debug!(%to, %error, "not sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Sockets at ports that are free.
    fn bound() -> Sockets {
        let free = StdSocket::bind(loopback(0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Sockets::bind(loopback(port)).unwrap()
    }

    #[test]
    fn the_address_is_the_given_one_or_the_one_that_leads_to_a_peer() {
        let peer = Some(loopback(9));
        assert_eq!(endpoint(Some(loopback(1)), peer).unwrap(), loopback(1));
        assert_eq!(endpoint(None, peer).unwrap(), loopback(PORT));
        let any = SocketAddr::from(([0, 0, 0, 0], 7));
        assert_eq!(endpoint(Some(any), peer).unwrap(), loopback(7));
        let error = endpoint(None, None).unwrap_err().to_string();
        assert!(error.contains("--gossip-bind"), "{error}");
    }

    #[tokio::test]
    async fn messages_and_probes_have_separate_ports() {
        let sockets = bound();
        let Endpoints { messages, probes } = sockets.endpoints();
        sockets.send_probe(probes, &[7; probe::LENGTH]);
        sockets.send_message(messages, b"hello");
        sockets.send_message(probes, b"no probe");
        let Datagram::Probe(from, probe) = sockets.next().await else {
            panic!("the probe comes first");
        };
        assert_eq!((from, probe), (probes, [7; probe::LENGTH]));
        let Datagram::Message(from, message) = sockets.next().await else {
            panic!("then the message");
        };
        assert_eq!((from, message), (messages, b"hello".to_vec()));
        assert!(matches!(sockets.next().await, Datagram::NoProbe));
    }

    #[tokio::test]
    async fn neither_socket_delays_the_other() {
        let sockets = bound();
        let Endpoints { messages, probes } = sockets.endpoints();
        for _ in 0..2 {
            sockets.send_message(messages, b"hello");
            sockets.send_message(probes, b"no probe");
        }
        let mut came = String::new();
        for _ in 0..4 {
            came.push(match sockets.next().await {
                Datagram::Message(..) => 'm',
                Datagram::Probe(..) | Datagram::NoProbe => 'p',
            });
        }
        assert_eq!(came, "pmpm");
    }
}
