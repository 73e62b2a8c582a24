//! The writes that bring the cluster up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use kube::ResourceExt as _;
use speaker_core::intent::ObjectName;

use super::{
    Publication,
    names::{node_label, status_name},
    state::{Judgement, Said},
};
use crate::kubernetes::ServiceL2Status;

/// An existing `ServiceL2Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) service: ObjectName,
    /// The node that claims it, as labels name it.
    pub(super) node: String,
    /// The claim was written completely.
    pub(super) is_complete: bool,
    pub(super) interfaces: BTreeSet<String>,
    /// It is MetalLB's: named by it, or owned by one of its pods.
    pub(super) is_foreign: bool,
    pub(super) resource_version: Option<String>,
}

impl Record {
    /// The record of a status, by the name of the object.
    pub(super) fn of(status: &ServiceL2Status) -> Option<(String, Self)> {
        let name = status.metadata.name.clone()?;
        let resource_version = status.metadata.resource_version.clone();
        // By its labels: they are written first, and the status itself may be missing or old.
        let label = |key| {
            let labels = status.metadata.labels.as_ref();
            labels
                .and_then(|it| it.get(key))
                .cloned()
                .unwrap_or_default()
        };
        let namespace = label(ServiceL2Status::SERVICE_NAMESPACE_LABEL);
        let service = label(ServiceL2Status::SERVICE_NAME_LABEL);
        let node = label(ServiceL2Status::NODE_LABEL);
        let written = status.status.as_ref();
        let interfaces = written.into_iter().flat_map(|it| &it.interfaces);
        let service = ObjectName::new(namespace, service);
        let record = Self {
            is_foreign: !status.owner_references().is_empty() || name != status_name(&service),
            service,
            is_complete: written.is_some_and(|it| node_label(&it.node) == node),
            node,
            interfaces: interfaces.map(|it| it.name.clone()).collect(),
            resource_version,
        };
        Some((name, record))
    }
}

/// Reports that cannot be read back.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) failed: BTreeMap<ObjectName, String>,
    /// Services taken over, without an event yet.
    pub(super) unsaid: BTreeSet<ObjectName>,
    /// Services taken over, with an event: no news if somebody deletes the status.
    pub(super) said: BTreeSet<ObjectName>,
    /// The verdict on the configuration.
    pub(super) judged: Said,
}

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// This node answers for the Service.
    Claim {
        service: ObjectName,
        interfaces: BTreeSet<String>,
        /// According to the last report, it did not.
        is_news: bool,
    },
    /// Write the event that this node answers for the Service.
    Say {
        service: ObjectName,
        uid: Option<String>,
    },
    /// Remove a status that is no longer true, unless it has changed since.
    Remove {
        name: String,
        resource_version: Option<String>,
    },
    /// The Service cannot be announced.
    Fail {
        service: ObjectName,
        uid: Option<String>,
        reason: String,
    },
    /// It can be announced again, or no longer needs to be.
    Forget { service: ObjectName },
    /// Write the verdict on the configuration.
    Judge(Judgement),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { service, .. } => write!(f, "write the ServiceL2Status of {service}"),
            Self::Remove { name, .. } => write!(f, "remove ServiceL2Status {name}"),
            Self::Say { service, .. } | Self::Fail { service, .. } | Self::Forget { service } => {
                write!(f, "write an event of Service {service}")
            }
            Self::Judge(_) => f.write_str("write this node's ConfigurationState"),
        }
    }
}

/// The steps from what the cluster says to what it should say. Nodes, this one and those of the
/// records, are named as in labels.
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
        uids,
        judgement,
    } = publication;
    let uid = |service: &ObjectName| uids.get(service).cloned();
    let mut steps = Vec::new();
    // MetalLB's speakers patch or delete each other's statuses, and would do so with ours. As long
    // as they keep one for a Service, it is left alone.
    let (foreign, ours): (Vec<_>, Vec<_>) = records.values().partition(|it| it.is_foreign);
    let foreign: BTreeSet<_> = foreign.iter().map(|record| &record.service).collect();
    let ours: BTreeMap<_, _> = ours
        .iter()
        .map(|record| (&record.service, record))
        .collect();
    for (service, interfaces) in announced {
        if foreign.contains(service) {
            continue;
        }
        let record = ours.get(service);
        let is_other = record.is_none_or(|record| record.node != node || !record.is_complete);
        if is_other || record.is_none_or(|record| record.interfaces != *interfaces) {
            steps.push(Step::Claim {
                service: service.clone(),
                interfaces: interfaces.clone(),
                is_news: is_other && !told.said.contains(service),
            });
        }
    }
    let news = told.unsaid.iter().cloned();
    steps.extend(news.map(|service| match announced.contains_key(&service) {
        true => Step::Say {
            uid: uid(&service),
            service,
        },
        false => Step::Forget { service },
    }));
    // The first live node by name cleans up after nodes that are gone.
    let live: BTreeSet<_> = live.iter().map(|it| node_label(it)).collect();
    let is_first = live.first().is_some_and(|first| first == node);
    for (name, record) in records {
        let own = record.node == node || (is_first && !live.contains(&record.node));
        let service = &record.service;
        // The node that answers for it now writes to the same object.
        let is_said = announced.contains_key(service) || elsewhere.contains(service);
        if own && !is_said && !foreign.contains(service) {
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
                uid: uid(service),
                reason: reason.clone(),
            });
        }
    }
    let healed = told.failed.keys().filter(|it| !failed.contains_key(*it));
    steps.extend(healed.cloned().map(|service| Step::Forget { service }));
    if let Some(judgement) = judgement
        && told.judged.lacks(judgement)
    {
        steps.push(Step::Judge(judgement.clone()));
    }
    steps
}

impl Step {
    /// Notes that it has been carried out.
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
                    is_complete: true,
                    interfaces,
                    is_foreign: false,
                    resource_version: None,
                };
                records.insert(status_name(&record.service), record);
            }
            Self::Remove { name, .. } => drop(records.remove(&name)),
            Self::Fail {
                service, reason, ..
            } => drop(told.failed.insert(service, reason)),
            Self::Say { service, .. } => {
                told.unsaid.remove(&service);
                told.said.insert(service);
            }
            Self::Forget { service } => {
                told.failed.remove(&service);
                told.unsaid.remove(&service);
            }
            Self::Judge(judgement) => told.judged = Said::This(judgement),
        }
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
