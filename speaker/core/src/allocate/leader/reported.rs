//! What has been reported to the users of Services.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Failure, Service};

/// What has been reported about each Service, by its UID. This outlives a term, since the next term
/// decides everything again.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// The last reason why it has no address.
    failures: BTreeMap<String, Failure>,
    /// Its old annotations have been reported.
    warned: BTreeSet<String>,
}

impl Reported {
    /// All Services are known. Those with an address got it from an earlier leader, which has
    /// reported their old annotations.
    pub(super) fn listed<'a>(&mut self, services: impl Iterator<Item = &'a Service>) {
        let mut uids = BTreeSet::new();
        for service in services {
            uids.insert(&service.uid);
            if !service.shown.is_empty() && !service.old_annotations.is_empty() {
                self.warned.insert(service.uid.clone());
            }
        }
        self.failures.retain(|uid, _| uids.contains(uid));
        self.warned.retain(|uid| uids.contains(uid));
    }

    /// Whether it is news that the Service has no address for this reason; `None`: it has one.
    pub(super) fn is_failure_news(&mut self, service: &Service, failure: Option<&Failure>) -> bool {
        let Some(failure) = failure else {
            self.failures.remove(&service.uid);
            return false;
        };
        let before = self.failures.insert(service.uid.clone(), failure.clone());
        before.as_ref() != Some(failure)
    }

    /// Whether it is news that the Service has old annotations.
    pub(super) fn is_warning_news(&mut self, service: &Service) -> bool {
        !service.old_annotations.is_empty() && self.warned.insert(service.uid.clone())
    }

    /// The Service is gone.
    pub(super) fn forget(&mut self, service: &Service) {
        self.failures.remove(&service.uid);
        self.warned.remove(&service.uid);
    }
}
