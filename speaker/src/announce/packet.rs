//! `sendmmsg` on a packet socket: the addresses of packet sockets have no safe constructor.

use std::{
    mem,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
};

use nix::{errno::Errno, libc};

/// A frame, and the interface index of the link to send it on.
pub(super) struct Outgoing<'a> {
    pub(super) link: u32,
    pub(super) frame: &'a [u8],
}

/// Sends frames in order, without waiting, and returns how many were sent: at least one. An error
/// is that of the first frame. An error of a later frame ends the call before it, and is returned
/// when the rest is sent.
pub(super) fn send(socket: BorrowedFd<'_>, frames: &[Outgoing<'_>]) -> Result<usize, Errno> {
    let mut addresses: Vec<_> = frames.iter().map(address).collect();
    let mut parts: Vec<_> = frames
        .iter()
        .map(|outgoing| libc::iovec {
            iov_base: outgoing.frame.as_ptr().cast_mut().cast(),
            iov_len: outgoing.frame.len(),
        })
        .collect();
    let mut messages: Vec<_> = addresses
        .iter_mut()
        .zip(&mut parts)
        .map(|(address, part)| {
            // SAFETY: all zeros is a message without address, data and control.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = ptr::from_mut(address).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    // SAFETY: the messages point into `addresses`, `parts` and `frames`, which live and stay in
    // place until the call returns; the kernel reads those, and writes into `messages` alone.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as libc::c_uint,
            libc::MSG_DONTWAIT,
        )
    };
    Errno::result(sent).map(|sent| sent as usize)
}

/// Binds a packet socket to a link; it then receives all frames of that link.
pub(super) fn bind(socket: BorrowedFd<'_>, link: u32) -> Result<(), Errno> {
    let mut address = address(&Outgoing { link, frame: &[] });
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: the kernel reads as many bytes as the address has.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    Errno::result(bound).map(drop)
}

fn address(outgoing: &Outgoing<'_>) -> libc::sockaddr_ll {
    /// The offset of a frame's EtherType.
    const ETHER_TYPE: usize = 12;
    // The protocol under which the kernel's egress hooks see the frame.
    let protocol = outgoing
        .frame
        .get(ETHER_TYPE..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u16::from_ne_bytes(*bytes));
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: protocol,
        sll_ifindex: outgoing.link as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
