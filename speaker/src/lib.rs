//! The agent and its tools: everything that acts. What decides is in `speaker-core`.

pub mod announce;
pub mod kernel;
pub mod netlink;
