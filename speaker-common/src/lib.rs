//! What the XDP program and the agent share: the layout of the maps, the wire formats, and the
//! answer to a frame as a pure function.
//!
//! Nothing here reads a clock, a map or a socket: [`respond::decide`] takes the frame and the
//! tables as traits, so that the very code that runs in the kernel is tested on the host.
#![no_std]
#![deny(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod frame;
pub mod layout;
pub mod lease;
pub mod probe;
pub mod respond;
pub mod wire;
