//! Asks the wire whether anybody answers for VIPs.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use speaker_common::wire::Mac;
use speaker_core::{announce::conflict_probe, describe::Description, plan::Place};

use super::packet::{self, Outgoing};

/// How often it is asked: RFC 5227 §1.1, PROBE_NUM.
const PROBES: u32 = 3;
/// Between two questions. RFC 5227 wants a second or two, for hosts that boot; who is asked about
/// here has answered for a while.
const INTERVAL: Duration = Duration::from_millis(100);

/// Whether another host has one of these VIPs on its link. Takes 300 ms, unless one has.
///
/// # Errors
///
/// A packet socket cannot be opened, or a link is gone.
pub fn is_claimed(places: &[(Place, Mac)]) -> io::Result<bool> {
    let own: BTreeSet<Mac> = places.iter().map(|(_, mac)| *mac).collect();
    let links: BTreeSet<u32> = places.iter().map(|(place, _)| place.link).collect();
    let sockets: Vec<(u32, Socket)> = links
        .into_iter()
        .map(|link| {
            let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
            packet::bind(socket.as_fd(), link)?;
            Ok((link, socket))
        })
        .collect::<io::Result<_>>()?;
    for _ in 0..PROBES {
        for (place, mac) in places {
            let frame = conflict_probe(place.address, *mac);
            let outgoing = Outgoing {
                link: place.link,
                frame: &frame,
            };
            for (_, socket) in sockets.iter().filter(|(link, _)| *link == place.link) {
                packet::send(socket.as_fd(), std::slice::from_ref(&outgoing))?;
            }
        }
        let end = Instant::now() + INTERVAL;
        for (link, socket) in &sockets {
            let claims = |frame: &[u8]| {
                let claim = Description::of(frame).and_then(|it| it.claim());
                claim.is_some_and(|(address, by)| {
                    let mut places = places.iter();
                    !own.contains(&by)
                        && places.any(|(place, _)| (place.address, place.link) == (address, *link))
                })
            };
            if hears(socket, end, claims)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether such a frame comes before the end.
fn hears(socket: &Socket, end: Instant, such: impl Fn(&[u8]) -> bool) -> io::Result<bool> {
    let mut buffer = [0; 2_048];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // A time-out of zero would be none.
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match io::Read::read(&mut &*socket, &mut buffer) {
            Ok(length) if such(&buffer[..length]) => return Ok(true),
            Ok(_) if Instant::now() < end => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
