//! Frames and a node's tables for tests: the same for the host function and the loaded program.

mod arp;
mod ethernet;
mod nd;
mod node;

pub use arp::Arp;
pub use ethernet::{Ethernet, Host, Tag};
pub use nd::{Checksum, Nd, option, sum};
pub use node::{Node, Outcome};
