//! Why an object is refused.

use std::net::IpAddr;

use speaker_core::intent::{AddressError, Key, PoolError, SelectorError};

use super::FieldPath;

/// An invalid object: which one, in which field, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {reason}")]
pub struct Invalid {
    /// The object.
    pub object: Key,
    /// The field at fault.
    pub field: FieldPath,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A range of a pool.
    #[error(transparent)]
    Addresses(#[from] AddressError),
    /// The ranges of a pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A label selector.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// A list that names the same thing twice.
    #[error("{0:?} is listed twice: remove one")]
    Twice(String),
    /// Two selectors, or two match expressions of one, that are the same.
    #[error("the same as item {0} of the list: remove one")]
    Same(usize),
    /// A weight out of bounds.
    #[error("the weight {0} is not between 1 and 100")]
    Weight(i32),
    /// An address of a Service.
    #[error("{0:?} is not an IP address")]
    NotAnAddress(String),
    /// An address that the Service lists twice.
    #[error("{0} is listed twice: remove one")]
    AddressTwice(IpAddr),
    /// Addresses are requested in two ways.
    #[error("the annotation {0} requests addresses too: keep only the annotation")]
    AnnotationAndField(&'static str),
}
