//! What a controller is told, and what it does.

use std::{net::IpAddr, time::Duration};

use super::super::{Failure, Service, Usage};
use crate::intent::{Labels, ObjectName, Pool};

/// Counts the times that this process has led: what belongs to an earlier one is void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub u64);

/// The spans that leading is made of. None of them is needed for safety.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For how long a Lease that is not renewed is left to its holder.
    pub duration: Duration,
    /// How often the leader renews it.
    pub renew: Duration,
    /// How often the others look at it, and what failed is tried again.
    pub retry: Duration,
    /// How often the counters of pools are written at most.
    pub counters: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            retry: Duration::from_secs(2),
            counters: Duration::from_secs(1),
        }
    }
}

/// The Lease: who leads, and what it is writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its `resourceVersion`; none where there is no Lease yet.
    pub version: Option<String>,
    /// Who leads; empty where nobody does.
    pub holder: String,
    /// For how long it is left to its holder without renewal.
    pub duration: Duration,
    /// How often another one became the holder.
    pub transitions: i32,
    /// The writes that may be under way.
    pub pending: Vec<Pending>,
}

/// A write of a Service's status: it takes place only while the Service has this version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pending {
    /// The Service.
    pub name: ObjectName,
    /// Its UID.
    pub uid: String,
    /// Its `resourceVersion` before the write.
    pub version: String,
    /// The addresses in its status after the write.
    pub addresses: Vec<IpAddr>,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// The Lease, as the API server has it now; none if there is none.
    Read(Option<Lease>),
    /// Nobody knows what the Lease is.
    Unread,
    /// The Lease is what [`Command::Swap`] asked for, and this is its version.
    Swapped(String),
    /// It is not, or nobody knows.
    NotSwapped,
    /// An object of a term's lists and watches.
    Changed(Term, Change),
    /// The lists of a term are complete.
    Listed(Term),
    /// The [`StatusWrite`] of this number ended. Whether it is over: it took place, or never will.
    Wrote(Term, u64, bool),
    /// What became of a [`PoolWrite`]: whether the API server said that it is done.
    WrotePool(Term, ObjectName, bool),
    /// Time has passed.
    Tick,
    /// The process is to end.
    Stop,
}

/// An object that is new, has changed or is gone.
#[derive(Clone, Debug)]
pub enum Change {
    /// A Service of type `LoadBalancer`.
    Service(Box<Service>),
    /// A Service is gone, or of another type.
    ServiceGone(ObjectName),
    /// A pool, and what its status says.
    Pool(Pool, Option<Usage>),
    /// A pool that is invalid, and why.
    PoolRefused(ObjectName, String),
    /// A pool is gone.
    PoolGone(ObjectName),
    /// A namespace and its labels.
    Namespace(String, Labels),
    /// A namespace is gone.
    NamespaceGone(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the Lease, from a quorum.
    Read,
    /// Make the Lease this, if it still has its version; create it, if it has none.
    Swap(Lease),
    /// List all objects by a quorum read, and watch them from there.
    Watch(Term),
    /// Watch no longer.
    Forget,
    /// Write a Service's status.
    Write(StatusWrite),
    /// Write a pool's status.
    WritePool(PoolWrite),
    /// Tell the users of a Service.
    Tell(Notice),
}

/// The write of a Service's status, if it still has its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWrite {
    /// When it was decided.
    pub term: Term,
    /// Its number within the term.
    pub id: u64,
    /// What is written, and on which condition.
    pub pending: Pending,
    /// The pool that the addresses are from.
    pub pool: Option<String>,
}

/// The write of a pool's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolWrite {
    /// When it was decided.
    pub term: Term,
    /// The pool.
    pub name: ObjectName,
    /// The counters.
    pub usage: Usage,
}

/// An event about a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The Service.
    pub name: ObjectName,
    /// Its UID.
    pub uid: String,
    /// What happened.
    pub told: Told,
}

/// What happened to a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It has these addresses.
    Allocated(Vec<IpAddr>),
    /// It is given none, and why.
    Failed(Failure),
    /// It has lost what it had, and why.
    Cleared(Failure),
    /// It bears annotations in their old spelling.
    OldAnnotations(Vec<String>),
}
