//! Communication with the other agents: sealed messages, and liveness probes.
//!
//! Messages are encrypted and authenticated with the cluster's key ([`Keys`]). Probes carry a tag
//! made with a key that is derived from the same secret, and that the XDP program can check. Both
//! use UDP, probes on the port after that of the messages. Peers may be given by name; names are
//! looked up as long as the agent runs ([`Names`]).

mod keys;
mod names;
mod socket;

pub use keys::{KeyFileError, Keys, MAKE_KEY};
pub use names::{HostName, Lookup, Names, Peer};
pub use socket::{Datagram, PORT, Sockets, endpoint};
