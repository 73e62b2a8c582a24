//! The agent and its tools: everything that acts. What decides is in `speaker-core`.

pub mod kernel;
pub mod netlink;
