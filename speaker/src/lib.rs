//! The agent and its tools: everything that acts. Decisions are made in `speaker-core`.

pub mod agent;
pub mod announce;
pub mod api;
mod blocking;
mod causes;
pub mod cli;
pub mod controller;
mod http;
pub mod kernel;
pub mod kubernetes;
pub mod manifests;
mod metrics;
pub mod netlink;
pub mod peers;
pub mod source;
pub mod state;
mod timer;
