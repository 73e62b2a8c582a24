//! Requests to the kernel, each answered at once.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rtnetlink::{
    packet_core::{
        ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
        NetlinkPayload, NlasIterator,
    },
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, LinkMessage, LinkXdp},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use speaker_core::link::{Link, XdpMode};

use super::parse;

/// Attach only where no program is attached attached (`XDP_FLAGS_UPDATE_IF_NOEXIST`,
/// linux/if_link.h).
const IF_NONE: u32 = 1;
/// `XDP_FLAGS_SKB_MODE`.
const GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`.
const NATIVE: u32 = 1 << 2;
/// `XDP_FLAGS_HW_MODE`.
const OFFLOADED: u32 = 1 << 3;
/// `NLMSGERR_ATTR_MSG` (linux/netlink.h).
const MESSAGE: u16 = 1;

/// The link of this index, without its addresses and its VLAN offload; `None` if there is none.
pub(crate) fn link(index: u32) -> io::Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match RouteSocket::open()?.ask(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST)? {
        Answer::Message(RouteNetlinkMessage::NewLink(message)) => Ok(parse::link(&message)),
        Answer::Refused { error, .. } if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Answer::Refused { error, .. } => Err(error),
        Answer::Message(_) | Answer::Done => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Why the link refuses the program in this mode, in the driver's words if it gives any.
///
/// `bpf(2)` only returns a number; rtnetlink also returns the text. If the request succeeds after
/// all, the program is detached again.
pub(crate) fn refusal_of_xdp(
    index: u32,
    program: BorrowedFd<'_>,
    mode: XdpMode,
) -> io::Result<Option<String>> {
    let flags = IF_NONE
        | match mode {
            XdpMode::Native => NATIVE,
            XdpMode::Generic => GENERIC,
            XdpMode::Offloaded => OFFLOADED,
        };
    match set_xdp(index, program.as_raw_fd(), flags)? {
        Answer::Refused { message, .. } => Ok(message),
        Answer::Message(_) | Answer::Done => {
            const NONE: i32 = -1;
            set_xdp(index, NONE, flags & !IF_NONE)?;
            Ok(None)
        }
    }
}

fn set_xdp(index: u32, program: i32, flags: u32) -> io::Result<Answer> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Xdp(vec![
        LinkXdp::Fd(program),
        LinkXdp::Flags(flags),
    ]));
    RouteSocket::open()?.ask(
        RouteNetlinkMessage::SetLink(message),
        NLM_F_REQUEST | NLM_F_ACK,
    )
}

enum Answer {
    Message(RouteNetlinkMessage),
    Done,
    Refused {
        error: io::Error,
        message: Option<String>,
    },
}

/// A socket for requests, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct RouteSocket(Socket);

impl RouteSocket {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // With the text of an error, and without a copy of the request in front of it.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Requests a change.
    pub(crate) fn change(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        match self.ask(message, flags | NLM_F_REQUEST | NLM_F_ACK)? {
            Answer::Done => Ok(()),
            Answer::Refused { error, .. } => Err(error),
            Answer::Message(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Lists all entries of a kind.
    pub(crate) fn list(&self, kind: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(kind, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut all = Vec::new();
        loop {
            let (bytes, _) = self.0.recv_from_full()?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::deserialize(rest).map_err(io::Error::other)?;
                // Each begins at a multiple of four bytes.
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => all.push(message),
                    NetlinkPayload::Done(_) => return Ok(all),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
        }
    }

    fn ask(&self, question: RouteNetlinkMessage, flags: u16) -> io::Result<Answer> {
        self.send(question, flags)?;
        let (bytes, _) = self.0.recv_from_full()?;
        let answer = NetlinkMessage::deserialize(&bytes).map_err(io::Error::other)?;
        Ok(match answer.payload {
            NetlinkPayload::InnerMessage(message) => Answer::Message(message),
            NetlinkPayload::Error(error) if error.code.is_some() => Answer::Refused {
                message: text(&error),
                error: error.to_io(),
            },
            NetlinkPayload::Error(_) => Answer::Done,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }

    fn send(&self, question: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        Ok(())
    }
}

/// The text after the header of the refused request.
fn text(error: &ErrorMessage) -> Option<String> {
    const HEADER: usize = size_of::<libc::nlmsghdr>();
    let attributes = error.header.get(HEADER..)?;
    NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == MESSAGE)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value())
                .trim_end_matches('\0')
                .to_owned()
        })
}
