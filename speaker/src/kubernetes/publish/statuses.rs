//! The statuses that exist, as the watch reports them.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;

use super::steps::Record;
use crate::kubernetes::ServiceL2Status;

/// The existing statuses. Writes count before the watch reports them.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    /// By the name of the object.
    pub(super) records: BTreeMap<String, Record>,
    /// The statuses in a list that has begun.
    listing: Option<BTreeMap<String, Record>>,
    is_listed: bool,
    /// By the name of the object, the version between the two writes of the latest claim.
    passing: BTreeMap<String, String>,
}

impl Statuses {
    /// Whether all have been listed.
    pub(super) const fn is_listed(&self) -> bool {
        self.is_listed
    }

    pub(super) fn hear(&mut self, event: Event<ServiceL2Status>) {
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(status) => {
                if let Some(listing) = &mut self.listing {
                    listing.extend(Record::of(&status));
                }
            }
            Event::InitDone => {
                self.records = self.listing.take().unwrap_or_default();
                self.is_listed = true;
            }
            Event::Apply(status) => {
                let record = Record::of(&status).filter(|it| !self.is_passing(it));
                self.records.extend(record);
            }
            Event::Delete(status) => {
                let name = status.metadata.name.as_deref().unwrap_or_default();
                self.records.remove(name);
                self.passing.remove(name);
            }
        }
    }

    /// A claim of this node gave the object this version, and then another one.
    pub(super) fn pass(&mut self, name: String, version: String) {
        self.passing.insert(name, version);
    }

    /// Whether this is the state of a claim of this node when half written, while it is complete by
    /// now.
    fn is_passing(&self, (name, record): &(String, Record)) -> bool {
        let passing = self.passing.get(name);
        passing.is_some() && passing == record.resource_version.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use kube::ResourceExt as _;
    use speaker_core::intent::ObjectName;

    use super::*;
    use crate::kubernetes::{
        InterfaceInfo, ServiceL2StatusStatus,
        publish::{
            Publication,
            names::status_name,
            steps::{Step, Told, steps},
        },
    };

    fn web() -> ObjectName {
        ObjectName::new("ns", "web")
    }

    /// The status of `web` whose label and whose content name these nodes, on eth0.
    fn status(version: &str, label: &str, node: &str) -> ServiceL2Status {
        let content = ServiceL2StatusStatus {
            node: node.to_owned(),
            service_name: web().name,
            service_namespace: web().namespace,
            interfaces: vec![InterfaceInfo {
                name: "eth0".to_owned(),
            }],
        };
        let mut status = ServiceL2Status::new(&status_name(&web()), Default::default());
        status.status = Some(content);
        status.metadata.resource_version = Some(version.to_owned());
        for (key, value) in [
            (ServiceL2Status::NODE_LABEL, label),
            (ServiceL2Status::SERVICE_NAME_LABEL, "web"),
            (ServiceL2Status::SERVICE_NAMESPACE_LABEL, "ns"),
        ] {
            status.labels_mut().insert(key.to_owned(), value.to_owned());
        }
        status
    }

    fn listed(status: ServiceL2Status) -> Statuses {
        let mut statuses = Statuses::default();
        statuses.hear(Event::Init);
        statuses.hear(Event::InitApply(status));
        statuses.hear(Event::InitDone);
        statuses
    }

    /// What node `b` must write if it answers for `web` on eth0.
    fn todo(statuses: &Statuses) -> Vec<Step> {
        let publication = Publication {
            announced: BTreeMap::from([(web(), BTreeSet::from(["eth0".to_owned()]))]),
            ..Publication::default()
        };
        steps("b", &publication, &statuses.records, &Told::default())
    }

    fn claim(is_news: bool) -> Vec<Step> {
        vec![Step::Claim {
            service: web(),
            interfaces: BTreeSet::from(["eth0".to_owned()]),
            is_news,
        }]
    }

    #[test]
    fn a_status_that_metallb_named_or_owns_is_foreign() {
        let is_foreign = |status: &ServiceL2Status| Record::of(status).unwrap().1.is_foreign;
        let mut status = status("1", "b", "b");
        assert!(!is_foreign(&status));
        status
            .owner_references_mut()
            .push(OwnerReference::default());
        assert!(is_foreign(&status));
        status.owner_references_mut().clear();
        status.metadata.name = Some("l2-x7k2p".to_owned());
        assert!(is_foreign(&status));
    }

    #[test]
    fn a_half_written_claim_is_completed() {
        assert_eq!(todo(&listed(status("1", "b", "b"))), []);
        assert_eq!(todo(&listed(status("1", "b", "a"))), claim(true));
        assert_eq!(todo(&listed(status("1", "a", "b"))), claim(true));
        let mut empty = status("1", "b", "b");
        empty.status = None;
        assert_eq!(todo(&listed(empty)), claim(true));
    }

    #[test]
    fn a_completed_claim_is_not_written_again() {
        let mut statuses = listed(status("1", "a", "a"));
        let [step] = &todo(&statuses)[..] else {
            panic!("it is A's");
        };
        let (step, mut told) = (step.clone(), Told::default());
        step.note("b", &mut statuses.records, &mut told);
        statuses.pass(status_name(&web()), "2".to_owned());
        statuses.hear(Event::Apply(status("2", "b", "a")));
        assert_eq!(todo(&statuses), []);
        statuses.hear(Event::Apply(status("3", "b", "b")));
        assert_eq!(todo(&statuses), []);
        // Somebody else's change counts.
        statuses.hear(Event::Apply(status("4", "b", "a")));
        assert_eq!(todo(&statuses), claim(true));
    }
}
