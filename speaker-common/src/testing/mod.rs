//! Frames, a node in ordinary memory, and the wire rules as tests that run on anything that handles
//! frames: the host function here, the loaded program elsewhere.

mod arp;
mod datagram;
mod ethernet;
mod nd;
mod node;
pub mod random;
pub mod rows;
mod subject;

pub use arp::Arp;
pub use datagram::Datagram;
pub use ethernet::{Ethernet, Host, Tag};
pub use nd::{Checksum, Nd, option, sum};
pub use node::Node;
pub use subject::{Outcome, Subject, alone_until};
