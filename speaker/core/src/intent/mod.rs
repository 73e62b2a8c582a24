//! What the operator wants: which addresses are VIPs, and where they may be announced.
//!
//! The configuration is one index, [`Intent`], whose only inputs are [`Intent::apply`] and
//! [`Intent::delete`]; its output is [`Intent::wanted`]. Whether the objects come from files or
//! from a cluster is decided before: they arrive validated, each on its own. What can only be
//! judged across objects, two pools that hold the same address, is judged here ([`admission`]).
//!
//! **Invariant**: the answer depends on the objects and not on the order in which they came,
//! except where they contradict each other: then what was in force stays.

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
