//! What is to be written, so that the cluster says what holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use sha2::{Digest as _, Sha256};
use speaker_core::intent::ObjectName;

use super::Publication;
use crate::kubernetes::ServiceL2Status;

/// A `ServiceL2Status` that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) service: ObjectName,
    pub(super) node: String,
    pub(super) interfaces: BTreeSet<String>,
    pub(super) resource_version: Option<String>,
}

impl Record {
    /// By the name of the object.
    pub(super) fn of(status: &ServiceL2Status) -> Option<(String, Self)> {
        let name = status.metadata.name.clone()?;
        let resource_version = status.metadata.resource_version.clone();
        // The labels come first: one without a status is about to get it, or was left half made.
        let label = |key| {
            let labels = status.metadata.labels.as_ref();
            labels
                .and_then(|it| it.get(key))
                .cloned()
                .unwrap_or_default()
        };
        let namespace = label(ServiceL2Status::SERVICE_NAMESPACE_LABEL);
        let service = label(ServiceL2Status::SERVICE_NAME_LABEL);
        let interfaces = status.status.iter().flat_map(|status| &status.interfaces);
        let record = Self {
            service: ObjectName::new(namespace, service),
            node: label(ServiceL2Status::NODE_LABEL),
            interfaces: interfaces.map(|it| it.name.clone()).collect(),
            resource_version,
        };
        Some((name, record))
    }
}

/// What has been said and cannot be read back.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) failed: BTreeMap<ObjectName, String>,
    /// Taken over, and nobody has been told.
    pub(super) unsaid: BTreeSet<ObjectName>,
    /// Of the configuration.
    pub(super) refused: Option<Vec<String>>,
}

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This node answers for the Service.
    Claim {
        service: ObjectName,
        interfaces: BTreeSet<String>,
        /// It did not when the cluster was last told.
        is_news: bool,
    },
    /// People hear that this node answers for the Service.
    Say { service: ObjectName },
    /// A status says what holds no longer. Only if it is still as it was.
    Remove {
        name: String,
        resource_version: Option<String>,
    },
    /// The Service cannot be announced.
    Fail { service: ObjectName, reason: String },
    /// It can again, or is no longer to be.
    Forget { service: ObjectName },
    /// What of the configuration is refused.
    Judge { refused: Vec<String> },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { service, .. } => write!(f, "write the ServiceL2Status of {service}"),
            Self::Remove { name, .. } => write!(f, "remove ServiceL2Status {name}"),
            Self::Say { service } | Self::Fail { service, .. } | Self::Forget { service } => {
                write!(f, "write an event of Service {service}")
            }
            Self::Judge { .. } => f.write_str("write this node's ConfigurationState"),
        }
    }
}

/// The name of a Service's status: one for each Service, whoever writes it.
pub(super) fn status_name(service: &ObjectName) -> String {
    let hash = Sha256::digest(service.to_string());
    let digits = hash.iter().take(5).map(|byte| format!("{byte:02x}"));
    digits.fold("l2-".to_owned(), |name, byte| name + &byte)
}

/// The steps from what the cluster says to what it should.
pub(super) fn steps(
    node: &str,
    publication: &Publication,
    records: &BTreeMap<String, Record>,
    told: &Told,
) -> Vec<Step> {
    let Publication {
        announced,
        elsewhere,
        live,
        failed,
        refused,
    } = publication;
    let mut steps = Vec::new();
    for (service, interfaces) in announced {
        let record = records.get(&status_name(service));
        let is_news = record.is_none_or(|record| record.node != node);
        if is_news || record.is_none_or(|record| record.interfaces != *interfaces) {
            steps.push(Step::Claim {
                service: service.clone(),
                interfaces: interfaces.clone(),
                is_news,
            });
        }
    }
    let news = told.unsaid.iter().cloned();
    steps.extend(news.map(|service| match announced.contains_key(&service) {
        true => Step::Say { service },
        false => Step::Forget { service },
    }));
    // Of a node that is gone, whoever of the others is first by name sees to what it left.
    let is_first = live.first().is_some_and(|first| first == node);
    for (name, record) in records {
        let own = record.node == node || (is_first && !live.contains(&record.node));
        let is_the_one = *name == status_name(&record.service);
        let stale = if announced.contains_key(&record.service) {
            !is_the_one
        } else {
            // Whoever answers for it now writes to the same object.
            own && !(is_the_one && elsewhere.contains(&record.service))
        };
        if stale {
            steps.push(Step::Remove {
                name: name.clone(),
                resource_version: record.resource_version.clone(),
            });
        }
    }
    for (service, reason) in failed {
        if told.failed.get(service) != Some(reason) {
            steps.push(Step::Fail {
                service: service.clone(),
                reason: reason.clone(),
            });
        }
    }
    let healed = told.failed.keys().filter(|it| !failed.contains_key(*it));
    steps.extend(healed.cloned().map(|service| Step::Forget { service }));
    if told.refused.as_ref() != Some(refused) {
        steps.push(Step::Judge {
            refused: refused.clone(),
        });
    }
    steps
}

impl Step {
    /// It has been carried out.
    pub(super) fn note(self, node: &str, records: &mut BTreeMap<String, Record>, told: &mut Told) {
        match self {
            Self::Claim {
                service,
                interfaces,
                is_news,
            } => {
                if is_news {
                    told.unsaid.insert(service.clone());
                }
                let record = Record {
                    service,
                    node: node.to_owned(),
                    interfaces,
                    resource_version: None,
                };
                records.insert(status_name(&record.service), record);
            }
            Self::Remove { name, .. } => drop(records.remove(&name)),
            Self::Fail { service, reason } => drop(told.failed.insert(service, reason)),
            Self::Say { service } => drop(told.unsaid.remove(&service)),
            Self::Forget { service } => {
                told.failed.remove(&service);
                told.unsaid.remove(&service);
            }
            Self::Judge { refused } => told.refused = Some(refused),
        }
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
