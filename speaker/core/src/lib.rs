//! The decisions of the agent and the controller: pure functions, and state machines that take
//! events and the time and return commands.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod allocate;
pub mod announce;
pub mod candidates;
pub mod cluster;
pub mod describe;
mod headers;
pub mod intent;
pub mod link;
pub mod links;
pub mod node;
pub mod plan;
