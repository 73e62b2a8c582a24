//! The node's links, as the kernel reports them over rtnetlink.
//!
//! [`watch()`] lists all [`Link`](speaker_core::link::Link)s and then follows every change; nothing
//! polls.

mod ethtool;
mod parse;
mod request;
mod table;
mod watch;

use nix::net::if_::if_indextoname;

pub use ethtool::set_vlan_stripping;
pub(crate) use request::{RouteSocket, link, refusal_of_xdp};
pub use watch::{Watch, WatchError, watch};

/// The current name of an interface, for people; its index if the interface is gone.
pub(crate) fn name(index: u32) -> String {
    match if_indextoname(index) {
        // For an index without an interface, nix returns an empty name instead of an error.
        Ok(name) if !name.is_empty() => name.to_string_lossy().into_owned(),
        _ => format!("interface {index}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_removed_interface_is_named_by_its_index() {
        assert_eq!(super::name(1), "lo");
        assert_eq!(super::name(4_000_000), "interface 4000000");
    }
}
