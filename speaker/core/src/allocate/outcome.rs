//! The outcome of a Service.

use std::net::IpAddr;

use super::{Failure, Service};

/// The addresses that a Service should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The addresses, in the order of the status.
    pub addresses: Vec<IpAddr>,
    /// The name of the pool that contains all of them.
    pub pool: Option<String>,
    /// Why there are none, or not the requested ones.
    pub missing: Option<Failure>,
    /// Why it may not keep all addresses that it had.
    pub lost: Option<Failure>,
}

impl Outcome {
    /// The Service keeps what its status says.
    pub(super) fn unchanged(service: &Service) -> Self {
        Self {
            addresses: service.shown.clone(),
            pool: service.shown_pool.clone(),
            ..Self::default()
        }
    }
}
