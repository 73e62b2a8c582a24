//! Checks whether another host on the network uses VIPs.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind, Read as _},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::{Domain, SockFilter, Socket, Type};
use speaker_common::wire::Mac;
use speaker_core::{announce::conflict_probe, describe::Description, plan::Place};

use super::packet::{self, Outgoing};

/// Probes for each VIP (RFC 5227 §1.1, PROBE_NUM).
const PROBES: u32 = 3;
/// The time between two probes. RFC 5227 wants a second or two, for hosts that are booting; here,
/// only hosts that have used the address for a while matter.
const INTERVAL: Duration = Duration::from_millis(100);

/// Whether another host has one of these VIPs on its link. Takes 300 ms, unless one has.
///
/// # Errors
///
/// A packet socket cannot be opened, or a link is gone.
pub fn is_claimed(places: &[(Place, Mac)]) -> io::Result<bool> {
    let own: BTreeSet<Mac> = places.iter().map(|(_, mac)| *mac).collect();
    let claims = |link: u32, frame: &[u8]| {
        let claim = Description::of(frame).and_then(|it| it.claim());
        claim.is_some_and(|(address, by)| {
            let claimed = Place { address, link };
            !own.contains(&by) && places.iter().any(|(place, _)| *place == claimed)
        })
    };
    let links = places.iter().map(|(place, _)| place.link);
    let sockets = links
        .map(|link| Ok((link, open(link)?)))
        .collect::<io::Result<BTreeMap<u32, Socket>>>()?;
    for _ in 0..PROBES {
        for (place, mac) in places {
            let frame = conflict_probe(place.address, *mac);
            let outgoing = Outgoing {
                link: place.link,
                frame: &frame,
            };
            packet::send(sockets[&place.link].as_fd(), &[outgoing])?;
        }
        if hears(&sockets, Instant::now() + INTERVAL, claims)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A socket that receives only the ARP and Neighbor Discovery frames of a link: reading all of its
/// traffic could take all the time.
fn open(link: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    // Before the socket is bound, which is when it begins to receive.
    socket.attach_filter(&filter())?;
    packet::bind(socket.as_fd(), link)?;
    Ok(socket)
}

/// In classic BPF: ARP, and ICMPv6 135 and 136 right behind the IPv6 header.
fn filter() -> [SockFilter; 10] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // Jumps are relative to the next instruction.
    [
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(IF_EQUAL, 6, 0, libc::ETH_P_ARP as u32),
        SockFilter::new(IF_EQUAL, 0, 4, libc::ETH_P_IPV6 as u32),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 6),
        SockFilter::new(IF_EQUAL, 0, 2, libc::IPPROTO_ICMPV6 as u32),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 40),
        SockFilter::new(IF_EQUAL, 1, 0, 135),
        SockFilter::new(IF_EQUAL, 0, 1, 136),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Whether such a frame arrives on any of the links before the end.
fn hears(
    sockets: &BTreeMap<u32, Socket>,
    end: Instant,
    such: impl Fn(u32, &[u8]) -> bool,
) -> io::Result<bool> {
    let mut buffer = [0; 2_048];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut polled: Vec<PollFd<'_>> = sockets
            .values()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        let timeout = left.as_micros().div_ceil(1_000);
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, timeout) {
            Err(Errno::EINTR) => {}
            result => drop(result?),
        }
        // One frame of each link at a time, so that no link delays another.
        for (link, mut socket) in sockets {
            match socket.read(&mut buffer) {
                Ok(length) if such(*link, &buffer[..length]) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::{IpAddr, Ipv6Addr},
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::{
        super::testing::{Pair, in_namespace, ip, output},
        *,
    };

    const VIPS: [&str; 2] = ["10.0.0.5", "fd00::5"];

    /// Two links, of which the second has other traffic: about other addresses, and by clients that
    /// ask for the VIP.
    fn two_links(test: impl FnOnce([Pair; 2]) + Send + 'static) {
        in_namespace(|| {
            let pairs = [Pair::new("near1", "far1"), Pair::new("near2", "far2")];
            for link in ["near1", "far1", "near2", "far2"] {
                // A host of its own, as far as the kernel can play one.
                for setting in [
                    format!("ipv4/conf/{link}/arp_ignore=1"),
                    format!("ipv6/conf/{link}/accept_dad=0"),
                ] {
                    let (path, value) = setting.split_once('=').unwrap();
                    fs::write(format!("/proc/sys/net/{path}"), value).unwrap();
                }
            }
            let stop = AtomicBool::new(false);
            let link = pairs[1].far;
            let chatter = open(link).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mac = [2, 0, 0, 0, 0, 9];
                    let about_others = conflict_probe([10, 9, 9, 9].into(), mac);
                    let mut by_a_client = conflict_probe("fd00::5".parse().unwrap(), mac);
                    let source: Ipv6Addr = "fe80::9".parse().unwrap();
                    by_a_client[22..38].copy_from_slice(&source.octets());
                    while !stop.load(Ordering::Relaxed) {
                        for frame in [&about_others, &by_a_client] {
                            let outgoing = Outgoing { link, frame };
                            packet::send(chatter.as_fd(), &[outgoing]).unwrap();
                        }
                        thread::sleep(Duration::from_micros(500));
                    }
                });
                test(pairs);
                stop.store(true, Ordering::Relaxed);
            });
        });
    }

    fn places(pairs: &[Pair; 2], vip: &str) -> Vec<(Place, Mac)> {
        let address: IpAddr = vip.parse().unwrap();
        let place = |pair: &Pair| Place {
            address,
            link: pair.near,
        };
        let mac = [2, 0, 0, 0, 0, 0x77];
        pairs.iter().map(|pair| (place(pair), mac)).collect()
    }

    #[test]
    fn a_vip_is_found_in_use_on_whichever_link_it_is() {
        two_links(|pairs| {
            for vip in VIPS {
                assert!(!is_claimed(&places(&pairs, vip)).unwrap(), "{vip} is free");
            }
            for thief in ["far1", "far2"] {
                for (vip, address) in VIPS.into_iter().zip(["10.0.0.5/32", "fd00::5/128"]) {
                    ip(&format!("address add {address} dev {thief}"));
                    let places = places(&pairs, vip);
                    assert!(is_claimed(&places).unwrap(), "{vip} is on {thief}");
                    ip(&format!("address del {address} dev {thief}"));
                }
            }
        });
    }

    #[test]
    fn no_link_is_kept_waiting_by_another_or_by_what_others_say_there() {
        in_namespace(|| {
            let quiet = Pair::new("near1", "far1");
            let busy = Pair::new("near2", "far2");
            let links = [quiet.near, busy.near];
            let sockets = links.map(|link| (link, open(link).unwrap())).into();
            let far = open(busy.far).unwrap();
            let [other, claim] = [[10, 9, 9, 9], [10, 0, 0, 5]]
                .map(|vip| conflict_probe(vip.into(), [2, 0, 0, 0, 0, 9]));
            for frame in [&[&other; 50][..], &[&claim]].concat() {
                let link = busy.far;
                packet::send(far.as_fd(), &[Outgoing { link, frame }]).unwrap();
            }
            let end = Instant::now() + INTERVAL;
            let such = |link, frame: &[u8]| link == busy.near && frame == claim;
            assert!(hears(&sockets, end, such).unwrap());
        });
    }

    #[test]
    fn what_this_node_sends_itself_is_no_claim() {
        two_links(|pairs| {
            ip("address add 10.0.0.5/32 dev far2");
            let mut places = places(&pairs, "10.0.0.5");
            for (_, own) in &mut places {
                *own = mac_of("far2");
            }
            assert!(!is_claimed(&places).unwrap());
        });
    }

    fn mac_of(link: &str) -> Mac {
        let text = output(&format!("-brief link show dev {link}"));
        let mac = text.split_whitespace().nth(2).unwrap();
        let bytes: Vec<u8> = mac
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        bytes.try_into().unwrap()
    }
}
