//! The inputs and commands of a controller.

use std::{net::IpAddr, time::Duration};

use super::super::{Failure, Service, Usage};
use crate::intent::{Labels, ObjectName, Pool};

/// Counts the times this process has led. Anything from an earlier term is void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub u64);

/// The timing of leader election. Safety does not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a Lease stays with its holder without renewal.
    pub duration: Duration,
    /// The interval at which the leader renews it.
    pub renew: Duration,
    /// The interval at which others read it, and failed requests are repeated.
    pub retry: Duration,
    /// The shortest interval between two writes of a pool's counters.
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
    /// Its `resourceVersion`; `None` if there is no Lease yet.
    pub version: Option<String>,
    /// The name of the leader; empty if there is none.
    pub holder: String,
    /// How long it stays with its holder without renewal.
    pub duration: Duration,
    /// How often the holder has changed.
    pub transitions: i32,
    /// The writes that may be in flight.
    pub pending: Vec<Pending>,
}

/// A write of a Service's status, which succeeds only if the Service still has this version.
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
    /// The present Lease of the API server; `None` if there is none.
    Read(Option<Lease>),
    /// The Lease could not be read.
    Unread,
    /// [`Command::Swap`] succeeded, and this is the new version.
    Swapped(String),
    /// [`Command::Swap`] failed, or its result is unknown.
    NotSwapped,
    /// An object of a term's lists and watches.
    Changed(Term, Change),
    /// The lists of a term are complete.
    Listed(Term),
    /// The [`StatusWrite`] with this number ended; whether its outcome is final (it succeeded, or
    /// never will).
    Wrote(Term, u64, bool),
    /// A [`PoolWrite`] ended. Whether the API server confirmed it.
    WrotePool(Term, ObjectName, bool),
    /// Time has passed.
    Tick,
    /// The process should stop.
    Stop,
}

/// A new, changed or deleted object.
#[derive(Clone, Debug)]
pub enum Change {
    /// A Service of type `LoadBalancer`.
    Service(Box<Service>),
    /// A Service is gone, or has another type.
    ServiceGone(ObjectName),
    /// A pool, and the counters in its status.
    Pool(Pool, Option<Usage>),
    /// An invalid pool, and the reason.
    PoolRefused(ObjectName, String),
    /// A pool is gone.
    PoolGone(ObjectName),
    /// A namespace and its labels.
    Namespace(String, Labels),
    /// A namespace is gone.
    NamespaceGone(String),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the Lease with a quorum read.
    Read,
    /// Write the Lease if it still has this version; create it if it has none.
    Swap(Lease),
    /// List all objects with a quorum read, and watch them from there.
    Watch(Term),
    /// Stop watching.
    Forget,
    /// Write a Service's status.
    Write(StatusWrite),
    /// Write a pool's status.
    WritePool(PoolWrite),
    /// Report to the users of a Service with an event.
    Tell(Notice),
}

/// The write of a Service's status, if it still has its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWrite {
    /// The term in which it was decided.
    pub term: Term,
    /// Its number within the term.
    pub id: u64,
    /// The addresses to write, and the condition.
    pub pending: Pending,
    /// What the annotation says of their pool; `None` removes it.
    pub pool: Option<String>,
}

/// The write of a pool's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolWrite {
    /// The term in which it was decided.
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
    /// It gets no address, for this reason.
    Failed(Failure),
    /// It has lost its addresses, for this reason.
    Cleared(Failure),
    /// It has annotations in their old spelling.
    OldAnnotations(Vec<String>),
}
