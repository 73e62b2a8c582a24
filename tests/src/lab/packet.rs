//! Raw Ethernet frames, by `AF_PACKET` sockets.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    libc,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockType,
            UnknownCmsg, recvmsg, sendmsg, setsockopt, socket,
            sockopt::{RcvBufForce, ReceiveTimestampns},
        },
        time::TimeSpec,
    },
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::frame::Frame;

/// Room for a frame before segmentation offload.
const LARGEST_FRAME: usize = 65_536 + 256;

/// Memory that the kernel may use for unread frames: more than 20,000 short ones.
const BUFFER_BYTES: usize = 32 << 20;

/// A socket that sends and receives whole frames on one interface, and works from any thread.
///
/// The interface is not made promiscuous: what the network card would filter stays filtered.
#[derive(Debug)]
pub struct RawSocket {
    socket: OwnedFd,
    offloads: bool,
}

/// Where frames are received into.
#[derive(Debug)]
pub(super) struct Room(Vec<u8>);

impl Default for Room {
    fn default() -> Self {
        Self(vec![0; LARGEST_FRAME])
    }
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To talk: frames that this side sends are not received.
    Talk,
    /// To record both directions.
    Record,
    /// To forward frames as they are, with checksums and segmentation still left to offloads.
    Relay,
}

/// The work on a frame that the kernel leaves to the network card: `struct virtio_net_hdr`, in the
/// host's byte order. Offsets count from the frame's beginning.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Offload {
    flags: u8,
    segmentation: u8,
    header_length: u16,
    segment_size: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

impl Offload {
    /// The same work on a frame with `bytes` more in its Ethernet header.
    fn moved_back(self, bytes: u16) -> Self {
        // `VIRTIO_NET_HDR_F_NEEDS_CSUM`
        let checksum = if self.flags & 1 != 0 { bytes } else { 0 };
        let header = if self.segmentation != 0 { bytes } else { 0 };
        Self {
            header_length: self.header_length + header,
            checksum_start: self.checksum_start + checksum,
            ..self
        }
    }
}

impl RawSocket {
    /// Opens a socket on an interface of the calling thread's network namespace.
    pub(super) fn open(interface: &str, purpose: Purpose) -> Result<Self> {
        let index = if_nametoindex(interface).with_context(|| format!("interface {interface}"))?;
        let this = Self {
            // Without a protocol it receives nothing until it is bound to the interface.
            socket: socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
            .context("opening a packet socket")?,
            offloads: purpose == Purpose::Relay,
        };
        setsockopt(&this.socket, RcvBufForce, &BUFFER_BYTES).context("SO_RCVBUFFORCE")?;
        setsockopt(&this.socket, ReceiveTimestampns, &true).context("SO_TIMESTAMPNS")?;
        this.set(libc::PACKET_AUXDATA).context("PACKET_AUXDATA")?;
        if purpose != Purpose::Record {
            const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
            this.set(PACKET_IGNORE_OUTGOING)
                .context("PACKET_IGNORE_OUTGOING")?;
        }
        if this.offloads {
            this.set(libc::PACKET_VNET_HDR).context("PACKET_VNET_HDR")?;
        }
        this.bind(index)
            .with_context(|| format!("binding a packet socket to {interface}"))?;
        Ok(this)
    }

    /// Sends a frame, which begins with its Ethernet destination. VLAN tags may lie in it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.send_with(&Offload::default(), frame)
            .with_context(|| format!("sending a frame of {} bytes", frame.len()))
    }

    /// The next frame sent by another host, or an error after `limit`.
    pub fn receive(&self, limit: Duration) -> Result<Frame> {
        self.receive_matching(limit, |_| true)
    }

    /// The next frame sent by another host that `wanted` accepts, or an error after `limit`. Others
    /// are dropped.
    pub fn receive_matching(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&Frame) -> bool,
    ) -> Result<Frame> {
        let end = Instant::now() + limit;
        let mut others = 0;
        let mut room = Room::default();
        loop {
            match self.try_receive(&mut room)? {
                Some((frame, _)) if wanted(&frame) => return Ok(frame),
                Some(_) => others += 1,
                None => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        bail!("no such frame within {limit:?} (but {others} others)");
                    }
                    wait(
                        &mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)],
                        Some(left),
                    )?;
                }
            }
        }
    }

    /// A frame that has already arrived.
    pub(super) fn try_receive(&self, room: &mut Room) -> io::Result<Option<(Frame, Offload)>> {
        let mut offload = Offload::default();
        let mut control = nix::cmsg_space!([u8; mem::size_of::<libc::tpacket_auxdata>()], TimeSpec);
        let mut parts = if self.offloads {
            vec![
                IoSliceMut::new(offload.as_mut_bytes()),
                IoSliceMut::new(&mut room.0),
            ]
        } else {
            vec![IoSliceMut::new(&mut room.0)]
        };
        let message = match recvmsg::<LinkAddr>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        ) {
            // ENETDOWN is reported once when the link goes down; the socket works again when it is
            // up.
            Err(Errno::EAGAIN | Errno::ENETDOWN) => return Ok(None),
            other => other?,
        };
        let outgoing = message
            .address
            .is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
        let (mut at, mut tag) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmTimestampns(time) => {
                    at = Some(SystemTime::UNIX_EPOCH + Duration::from(time));
                }
                ControlMessageOwned::Unknown(unknown) => tag = tag.or(tag_taken_off(&unknown)),
                _ => {}
            }
        }
        let header = if self.offloads {
            size_of::<Offload>()
        } else {
            0
        };
        let length = message.bytes - header;
        let mut bytes = room.0[..length].to_vec();
        if let Some(tag) = tag.filter(|_| bytes.len() >= 12) {
            bytes.splice(12..12, tag);
            offload = offload.moved_back(4);
        }
        let frame = Frame {
            at: at.unwrap_or_else(SystemTime::now),
            sent: outgoing,
            bytes,
        };
        Ok(Some((frame, offload)))
    }

    /// Sends a frame whose checksum or segmentation is left to offloads.
    pub(super) fn send_with(&self, offload: &Offload, frame: &[u8]) -> io::Result<()> {
        let parts = [IoSlice::new(offload.as_bytes()), IoSlice::new(frame)];
        let parts = if self.offloads {
            &parts[..]
        } else {
            &parts[1..]
        };
        sendmsg::<LinkAddr>(self.socket.as_raw_fd(), parts, &[], MsgFlags::empty(), None)?;
        Ok(())
    }

    /// How many frames were dropped for lack of room since the last call.
    pub(super) fn overruns(&self) -> io::Result<u32> {
        let mut statistics = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = mem::size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the option's value is a `tpacket_stats`, and `length` is its size.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        Errno::result(result)?;
        Ok(statistics.tp_drops)
    }

    /// Sets an option of packet sockets to 1.
    fn set(&self, option: libc::c_int) -> io::Result<()> {
        let on: libc::c_int = 1;
        // SAFETY: the value is an int, and of the size that is told.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const on).cast(),
                mem::size_of_val(&on) as libc::socklen_t,
            )
        };
        Errno::result(result)?;
        Ok(())
    }

    fn bind(&self, interface: u32) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: interface.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is a `sockaddr_ll`, and of the size that is told.
        let result = unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                mem::size_of_val(&address) as libc::socklen_t,
            )
        };
        Errno::result(result)?;
        Ok(())
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until one of `sources` is readable, or, if given, for `limit`.
pub(super) fn wait(sources: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    match ppoll(sources, limit.map(TimeSpec::from), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The tag that the kernel has stripped from a frame: it is in `struct tpacket_auxdata`.
fn tag_taken_off(control: &UnknownCmsg) -> Option<[u8; 4]> {
    const VLAN_CONTROL: usize = mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tci);
    const VLAN_PROTOCOL: usize = mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tpid);

    let data = &control.data_bytes;
    let word = |offset: usize| {
        let bytes = data.get(offset..offset + 2)?;
        Some(u16::from_ne_bytes(bytes.try_into().ok()?))
    };
    if control.cmsg_header.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    let status = u32::from_ne_bytes(data.get(..4)?.try_into().ok()?);
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let [a, b] = word(VLAN_PROTOCOL)?.to_be_bytes();
    let [c, d] = word(VLAN_CONTROL)?.to_be_bytes();
    Some([a, b, c, d])
}
