//! Which addresses Services get.
//!
//! [`Allocator`] is an index: its inputs are new, changed and deleted objects, and its output is an
//! [`Outcome`] for every Service, with the reason. [`Leader`] turns outcomes into writes. No two
//! leaders can ever give the same address to two Services, whatever happens to controllers and
//! their requests.
//!
//! **Invariant**: a Service keeps its addresses as long as they are valid, even if better ones
//! become available. Apart from that, outcomes depend only on the objects, not on their order.

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
