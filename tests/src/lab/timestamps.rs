//! Kernel timestamps from the first frame on.
//!
//! The kernel stamps frames only while some socket requests it, and begins a moment after the first
//! one does. A frame that it has not stamped gets the time at which it is read, which may be later
//! than the stamp of the next one.

use std::{
    io::IoSliceMut,
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::OnceLock,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    poll::{PollFd, PollFlags},
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, MsgFlags, RecvMsg, SockFlag, SockType, recvmsg,
            setsockopt, socket, sockopt::ReceiveTimestampns,
        },
        time::TimeSpec,
    },
};

use super::{namespace::Namespace, packet::wait};

/// Makes the kernel stamp frames until this process ends, and waits until it does. Any namespace
/// will do for the wait: stamping is machine-wide.
pub(super) fn enable(namespace: &Namespace) -> Result<()> {
    /// A socket in this process's own namespace that receives nothing: it requests stamps, and
    /// keeps no lab alive.
    static ASKING: OnceLock<OwnedFd> = OnceLock::new();

    if ASKING.get().is_none() {
        let asking = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        setsockopt(&asking, ReceiveTimestampns, &true)?;
        // Another lab may have been faster: one socket is as good as two.
        let _ = ASKING.set(asking);
    }
    namespace
        .run(wait_for_stamps)
        .context("waiting for the kernel to stamp frames")
}

fn wait_for_stamps() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(5);

    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&receiver, ReceiveTimestampns, &true)?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        sender.send_to(b"?", receiver.local_addr()?)?;
        // Not by a peek, which would stamp the frame.
        wait(
            &mut [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)],
            Some(LIMIT),
        )?;
        let arrived = SystemTime::now();
        if stamp_of_next(&receiver)? <= arrived {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    bail!("after {LIMIT:?} it still does not")
}

fn stamp_of_next(socket: &UdpSocket) -> Result<SystemTime> {
    let (mut byte, mut control) = ([0], nix::cmsg_space!(TimeSpec));
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message: RecvMsg<'_, '_, ()> = recvmsg(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    Ok(SystemTime::UNIX_EPOCH + stamp.context("no stamp at all")?)
}
