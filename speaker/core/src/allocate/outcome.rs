//! What becomes of a Service.

use std::net::IpAddr;

use super::Failure;

/// The addresses that a Service is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The addresses, in the order of the status.
    pub addresses: Vec<IpAddr>,
    /// The pool that all of them are from, by name.
    pub pool: Option<String>,
    /// Why there is none, or not what the Service asks for.
    pub missing: Option<Failure>,
    /// Why it may not keep all that it had.
    pub lost: Option<Failure>,
}
