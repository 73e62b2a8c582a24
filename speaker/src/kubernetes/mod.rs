//! Kubernetes objects: the types of the API, and what they mean.
//!
//! An object that [`convert`] lets through is valid on its own; what it contradicts in other
//! objects is the business of [`speaker_core::intent`]. Files and API server go through the same
//! conversion, so that a file means what the same object means in a cluster.

mod advertisement;
mod client;
mod configuration_state;
pub mod convert;
pub(crate) mod event;
mod field;
pub mod follow;
mod invalid;
mod pool;
pub mod publish;
mod reach;
mod selector;
mod service_l2_status;
pub(crate) mod watch;

pub use advertisement::{
    L2Advertisement, L2AdvertisementBody, L2AdvertisementSpec, L2AdvertisementStatus,
    PreferredNodeSelector,
};
pub use client::connect;
pub(crate) use client::watch_config;
pub use configuration_state::{
    Condition, ConditionStatus, ConfigurationResult, ConfigurationState, ConfigurationStateBody,
    ConfigurationStateStatus,
};
pub use field::{FieldPath, Step};
pub use invalid::{Invalid, Reason};
pub use pool::{IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, ServiceAllocation};
pub use reach::{Away, Reach};
pub use selector::{LabelSelector, LabelSelectorRequirement};
pub use service_l2_status::{
    InterfaceInfo, ServiceL2Status, ServiceL2StatusBody, ServiceL2StatusSpec, ServiceL2StatusStatus,
};

/// Where an installation is, if nothing else is said.
pub const NAMESPACE: &str = "speaker-system";

/// The labels of the agents' pods.
pub(crate) const AGENTS: &str =
    "app.kubernetes.io/name=speaker,app.kubernetes.io/component=speaker";

#[cfg(test)]
mod crd_tests;
