//! The way to the other agents: sealed messages, and liveness probes.
//!
//! Messages are sealed as a whole with the cluster's key ([`Keys`]); probes carry a tag by a key
//! that is derived from the same secret, so that the XDP program can check it. Both go over UDP:
//! probes to the port after that of the messages. Peers may have names, which are looked up for as
//! long as the agent runs ([`Names`]).

mod keys;
mod names;
mod socket;

pub use keys::{KeyFileError, Keys};
pub use names::{HostName, Lookup, Names, Peer};
pub use socket::{Datagram, PORT, Sockets, endpoint};
