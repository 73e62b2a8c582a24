//! Which addresses Services are given.
//!
//! [`Allocator`] is an index: its inputs are objects that came, changed or went, and its outputs
//! are an [`Outcome`] for every Service, each with the reason. [`Leader`] turns outcomes into
//! writes, of which no two can ever give one address to two Services, whatever happens to
//! controllers and to their requests.
//!
//! **Invariant**: what a Service has, and what is still valid, stays. The outcome depends on the
//! objects alone and not on the order in which they came, as long as nothing is moved while there
//! is something better: then what was given stays given.

mod allocator;
mod choose;
mod failure;
mod judge;
mod leader;
mod outcome;
mod pools;
mod service;
mod used;

pub use allocator::Allocator;
pub use failure::{Failure, Taken};
pub use leader::{
    Change, Command, Input, Leader, Lease, Notice, Pending, PoolWrite, StatusWrite, Term, Timing,
    Told,
};
pub use outcome::Outcome;
pub use pools::Usage;
pub use service::{Family, FamilyPolicy, Port, Service, Sharing};

#[cfg(test)]
mod testing;
