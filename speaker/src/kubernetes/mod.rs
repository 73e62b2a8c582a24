//! Kubernetes objects: the types of the API, and their meaning.
//!
//! An object that [`convert`] accepts is valid by itself; contradictions between objects are found
//! by [`speaker_core::intent`]. Objects from files and from the API server go through the same
//! conversion, so that they mean the same.

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
pub mod thread;
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

/// The default namespace of an installation.
pub const NAMESPACE: &str = "speaker-system";

/// The labels of the agents' pods.
pub(crate) const AGENTS: &str =
    "app.kubernetes.io/name=speaker,app.kubernetes.io/component=speaker";

#[cfg(test)]
mod crd_tests;
