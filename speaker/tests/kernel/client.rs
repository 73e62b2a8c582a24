//! A client that asks for addresses with frames made by hand.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
        sockopt,
    },
    time::{TimeVal, TimeValLike as _},
};

pub(crate) const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xc1];
const ADDRESS: [u8; 4] = [192, 0, 2, 77];

/// A raw socket on one interface.
pub(crate) struct Client {
    socket: OwnedFd,
}

impl Client {
    pub(crate) fn on(ifindex: u32) -> Self {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .unwrap();
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap(),
            sll_protocol: u16::try_from(libc::ETH_P_ALL).unwrap().to_be(),
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is a `sockaddr_ll` of the given length.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50)).unwrap();
        Self { socket }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).unwrap();
    }

    /// Asks who has the address, and returns the MAC in the answer, if one arrives within two
    /// seconds.
    pub(crate) fn ask(&self, who_has: Ipv4Addr) -> Option<[u8; 6]> {
        self.send(&request(who_has));
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            let mut frame = [0; 128];
            let Ok(length) = recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) else {
                continue;
            };
            if let Some(mac) = answer(&frame[..length], who_has) {
                return Some(mac);
            }
        }
        None
    }
}

/// An ARP request (RFC 826), broadcast.
pub(crate) fn request(who_has: Ipv4Addr) -> [u8; 42] {
    arp(1, ADDRESS.into(), who_has)
}

/// An ARP reply that claims an address for the client.
pub(crate) fn claim(address: Ipv4Addr) -> [u8; 42] {
    arp(2, address, address)
}

fn arp(operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&MAC);
    frame[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame[22..28].copy_from_slice(&MAC);
    frame[28..32].copy_from_slice(&sender.octets());
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// The MAC for the address, if the frame is a reply about it to this client.
fn answer(frame: &[u8], who: Ipv4Addr) -> Option<[u8; 6]> {
    let is_reply = frame.len() >= 42 && frame[..6] == MAC && frame[12..14] == [0x08, 0x06];
    if is_reply && frame[20..22] == [0, 2] && frame[28..32] == who.octets() {
        return frame[22..28].try_into().ok();
    }
    None
}
