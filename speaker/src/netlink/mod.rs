//! The node's links, live: what the kernel tells over rtnetlink, as plain
//! [`Link`](speaker_core::link::Link)s.
//!
//! [`watch()`] lists what is there and then follows every change; nothing polls.

mod ethtool;
mod parse;
mod request;
mod table;
mod watch;

pub use ethtool::set_vlan_stripping;
pub(crate) use request::{RouteSocket, link, refusal_of_xdp};
pub use watch::{Watch, WatchError, watch};

/// The present name of an interface, for people.
pub(crate) fn name(index: u32) -> String {
    nix::net::if_::if_indextoname(index).map_or_else(
        |_| format!("interface {index}"),
        |name| name.to_string_lossy().into_owned(),
    )
}
