//! Whether a NIC strips VLAN tags off the frames it receives (`ethtool -k`: `rx-vlan-offload`), and
//! how to turn that off.
//!
//! The flags of `SIOCETHTOOL` are as old as the feature, so they work on all kernels. rtnetlink
//! reports their changes like any other change of the link.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `ETHTOOL_GFLAGS` (linux/ethtool.h).
const GET_FLAGS: u32 = 0x25;
/// `ETHTOOL_SFLAGS`.
const SET_FLAGS: u32 = 0x26;
/// `ETH_FLAG_RXVLAN`.
const STRIP_VLAN_TAGS: u32 = 1 << 8;

/// `struct ethtool_value` (linux/ethtool.h).
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether the hardware strips tags.
pub(super) fn strips_vlan_tags(link: &str) -> io::Result<bool> {
    let socket = any_socket()?;
    let flags = call(&socket, link, GET_FLAGS, 0)?;
    Ok(flags & STRIP_VLAN_TAGS != 0)
}

/// Turns the stripping of VLAN tags on or off. A frame or two may be lost while the driver resets
/// its rings.
///
/// # Errors
///
/// `EOPNOTSUPP` or `EINVAL` if the driver cannot change it, `EPERM` without `CAP_NET_ADMIN`,
/// `ENODEV` if there is no such link.
pub fn set_vlan_stripping(link: &str, on: bool) -> io::Result<()> {
    let socket = any_socket()?;
    let flags = call(&socket, link, GET_FLAGS, 0)?;
    let wanted = if on {
        flags | STRIP_VLAN_TAGS
    } else {
        flags & !STRIP_VLAN_TAGS
    };
    if wanted != flags {
        call(&socket, link, SET_FLAGS, wanted)?;
    }
    Ok(())
}

/// The call works on any socket, and acts in that socket's network namespace.
fn any_socket() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    Ok(socket)
}

fn call(socket: &OwnedFd, link: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = Value { command, data };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: ptr::from_mut(&mut value).cast(),
        },
    };
    // The last byte stays zero.
    if link.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *place = byte.cast_signed();
    }
    // SAFETY: the name ends with a zero, and `ifru_data` points to a `struct ethtool_value`, which
    // is what both commands take; it outlives the call, and nothing else refers to it meanwhile.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
}
