//! What the operator wants: which addresses are VIPs, and where they may be announced.
//!
//! The configuration is one index, [`Intent`], whose only inputs are [`Intent::apply`] and
//! [`Intent::delete`], and whose output is [`Intent::wanted`]. Objects come from files or from a
//! cluster. They arrive validated, each on its own and, by [`admission`], against each other.
//!
//! **Invariant**: the output depends on the objects, not on the order in which they arrived. If
//! objects conflict, admission keeps those in force.

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
