//! Shared by the XDP program and the agent: the layouts of the maps, the wire formats, and the
//! answer to a frame as a pure function.
//!
//! Nothing here reads a clock, a map or a socket: [`respond::handle`] takes the frame and the
//! tables as traits, so that the code that runs in the kernel is tested on the host.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod frame;
pub mod layout;
pub mod lease;
pub mod probe;
pub mod respond;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wire;
