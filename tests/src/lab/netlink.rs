//! The few rtnetlink requests that the lab needs, made in whichever network namespace the calling
//! thread is in.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, BorrowedFd},
};

use anyhow::Result;
use nix::{errno::Errno, libc};
use rtnetlink::{
    AddressMessageBuilder,
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        link::LinkMessage,
        tc::{
            TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
        },
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::{Missing, namespace::wait_for_file};

/// Where a classifier sees frames on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// Frames that the interface receives.
    Ingress,
    /// Frames that it is about to send.
    Egress,
}

impl Hook {
    fn parent(self) -> TcHandle {
        TcHandle {
            major: TcHandle::CLSACT.major,
            minor: match self {
                Self::Ingress => TcHandle::MIN_INGRESS,
                Self::Egress => TcHandle::MIN_EGRESS,
            },
        }
    }
}

/// Makes an interface.
pub(super) fn add_link(link: LinkMessage) -> io::Result<()> {
    request(
        RouteNetlinkMessage::NewLink(link),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Changes an interface.
pub(super) fn set_link(link: LinkMessage) -> io::Result<()> {
    request(RouteNetlinkMessage::SetLink(link), 0)
}

/// Removes an interface.
pub(super) fn delete_link(link: LinkMessage) -> io::Result<()> {
    request(RouteNetlinkMessage::DelLink(link), 0)
}

/// Waits until the kernel has noticed an interface's carrier, and sends through it.
pub(super) fn wait_until_up(interface: &str) -> Result<()> {
    wait_for_file(&format!("/sys/class/net/{interface}/operstate"), |state| {
        state.trim() == "up"
    })
}

/// Gives an interface an address, usable at once.
pub(super) fn add_address(index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    let message: AddressMessage = match address {
        IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(v4, prefix)
            .build(),
        IpAddr::V6(v6) => {
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(v6, prefix)
                .build();
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
            message
        }
    };
    request(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Sets the classifier for every frame at `hook` of an interface, replacing the present one.
pub(super) fn set_classifier(index: u32, hook: Hook, program: BorrowedFd<'_>) -> Result<()> {
    add_classifier(index, hook, program).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => Missing::Kernel(
            "clsact queueing discipline or BPF classifier: load sch_ingress and cls_bpf".to_owned(),
        )
        .into(),
        _ => anyhow::Error::new(error),
    })
}

fn add_classifier(index: u32, hook: Hook, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut queue = TcMessage::with_index(signed(index));
    queue.header.parent = TcHandle::CLSACT;
    queue.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    queue
        .attributes
        .push(TcAttribute::Kind("clsact".to_owned()));
    match request(
        RouteNetlinkMessage::NewQueueDiscipline(queue),
        NLM_F_CREATE | NLM_F_EXCL,
    ) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => other?,
    }

    let descriptor = program.as_raw_fd().cast_unsigned();
    let mut filter = classifier(index, hook);
    filter.attributes.push(TcAttribute::Options(vec![
        TcOption::Bpf(TcFilterBpfOption::ProgFd(descriptor)),
        TcOption::Bpf(TcFilterBpfOption::ProgName("lab".to_owned())),
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]));
    request(RouteNetlinkMessage::NewTrafficFilter(filter), NLM_F_CREATE)
}

/// Removes the classifier at `hook` of an interface, if there is one.
pub(super) fn remove_classifier(index: u32, hook: Hook) -> io::Result<()> {
    let message = RouteNetlinkMessage::DelTrafficFilter(classifier(index, hook));
    match request(message, 0).map_err(|error| error.raw_os_error()) {
        // ENOENT: no classifier. EINVAL: none was ever set, so there is no queueing discipline.
        Ok(()) | Err(Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        Err(code) => Err(Errno::from_raw(code.unwrap_or(libc::EIO)).into()),
    }
}

/// The one classifier that the lab ever sets at a hook.
fn classifier(index: u32, hook: Hook) -> TcMessage {
    const PRIORITY: u32 = 1;
    let every_protocol = u16::to_be(libc::ETH_P_ALL as u16);
    let mut message = TcMessage::with_index(signed(index));
    message.header.parent = hook.parent();
    message.header.handle = TcHandle { major: 0, minor: 1 };
    message.header.info = PRIORITY << 16 | u32::from(every_protocol);
    message
        .attributes
        .push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    message
}

fn signed(index: u32) -> i32 {
    index
        .try_into()
        .expect("the kernel numbers interfaces with an int")
}

/// Sends one request and waits for its acknowledgement.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;

    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let (answer, _) = socket.recv_from_full()?;
    let answer =
        NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(answer) if answer.code.is_none() => Ok(()),
        NetlinkPayload::Error(answer) => Err(answer.to_io()),
        other => Err(io::Error::other(format!(
            "not an acknowledgement: {other:?}"
        ))),
    }
}
