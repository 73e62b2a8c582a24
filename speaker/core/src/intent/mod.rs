//! What the operator wants: which addresses are VIPs, and where they may be announced.
//!
//! The configuration is one index, [`Intent`], whose only inputs are [`Intent::apply`] and
//! [`Intent::delete`]; its output is [`Intent::wanted`]. Whether the objects come from files or
//! from a cluster is decided before: they arrive validated, each on its own and, by
//! [`admission`], against each other.
//!
//! **Invariant**: the answer depends on the objects and not on the order in which they came. Where
//! they contradict each other, admission keeps what was in force.

pub mod admission;

mod address;
mod advertisement;
mod endpoints;
mod group;
mod index;
mod object;
mod outlook;
mod pool;
mod selector;
mod wanted;

pub use address::{AddressError, AddressRange};
pub use advertisement::{Advertisement, Interfaces};
pub use group::Group;
pub use index::{Intent, Terms};
pub use object::{Endpoints, Key, Kind, Labels, Node, Object, ObjectName, Service};
pub use outlook::{Outlook, Unfit};
pub use pool::{Allocation, AllocationRule, Pool, PoolError};
pub use selector::{Requirement, Selector, SelectorError};
pub use wanted::{NotAnnounced, Refusal, Wanted, WantedVip};
