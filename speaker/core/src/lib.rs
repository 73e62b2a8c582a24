//! What the agent decides: pure functions and state machines that take events and the time, and
//! return commands.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod cluster;
