//! Echo requests (RFC 792, RFC 4443), without a program that a small machine may lack.

use std::{
    io::{ErrorKind, Read as _},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

/// The echo types of the two versions of ICMP, and their offset in what a raw socket reads.
struct Echo {
    domain: Domain,
    protocol: Protocol,
    request: u8,
    reply: u8,
    /// IPv4 sockets read the header too; its length is in its first byte.
    behind_header: bool,
}

const ECHO_V4: Echo = Echo {
    domain: Domain::IPV4,
    protocol: Protocol::ICMPV4,
    request: 8,
    reply: 0,
    behind_header: true,
};

const ECHO_V6: Echo = Echo {
    domain: Domain::IPV6,
    protocol: Protocol::ICMPV6,
    request: 128,
    reply: 129,
    behind_header: false,
};

/// Sends one echo request from the calling thread's network namespace, and returns how long the
/// answer took. `to` carries the scope of a link-local address.
pub(super) fn ping(to: SocketAddr, limit: Duration) -> Result<Duration> {
    static LAST: AtomicU16 = AtomicU16::new(0);

    let echo = match to.ip() {
        IpAddr::V4(_) => ECHO_V4,
        IpAddr::V6(_) => ECHO_V6,
    };
    let mut socket = Socket::new(echo.domain, Type::RAW, Some(echo.protocol))
        .context("opening an ICMP socket")?;
    socket.connect(&to.into())?;

    let identifier = LAST.fetch_add(1, Ordering::Relaxed);
    let started = Instant::now();
    socket.send(&request(echo.request, identifier))?;

    let mut room = [0_u8; 1500];
    loop {
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            bail!("{} did not answer within {limit:?}", to.ip());
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.read(&mut room) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            other => other.with_context(|| format!("waiting for an answer of {}", to.ip()))?,
        };
        let header = match echo.behind_header {
            true => usize::from(room[0] & 0x0f) * 4,
            false => 0,
        };
        let [high, low] = identifier.to_be_bytes();
        if let Some(&[kind, _, _, _, a, b, ..]) = room[..length].get(header..)
            && (kind, a, b) == (echo.reply, high, low)
        {
            return Ok(started.elapsed());
        }
    }
}

/// An echo request with sequence number 0 and no data. The kernel fills in ICMPv6's checksum.
fn request(kind: u8, identifier: u16) -> [u8; 8] {
    let sum = u32::from(u16::from_be_bytes([kind, 0])) + u32::from(identifier);
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    let ([c, d], [e, f]) = (checksum.to_be_bytes(), identifier.to_be_bytes());
    [kind, 0, c, d, e, f, 0, 0]
}
