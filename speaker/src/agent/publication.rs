//! What this node reports to the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use speaker_core::{
    cluster::CandidateStanding,
    intent::{NotAnnounced, ObjectName, Wanted},
};
use tokio::sync::watch;

use super::{
    configuration::Configuration,
    ownership::{LocalNode, Ownership},
};
use crate::kubernetes::publish::{Judgement, Publication};

/// The shortest time between two publications.
const PACE: Duration = Duration::from_millis(100);

/// Hands publications to the task that writes to the API server.
pub(super) struct Publisher {
    publications: watch::Sender<Option<Publication>>,
    /// The versions of everything relevant, as of the last publication.
    editions: Option<[u64; 3]>,
    looked: Instant,
}

impl Publisher {
    pub(super) fn new(publications: watch::Sender<Option<Publication>>) -> Self {
        Self {
            publications,
            editions: None,
            looked: Instant::now(),
        }
    }

    /// Publishes what has changed, or returns when that is next allowed.
    pub(super) fn publish(
        &mut self,
        configuration: &Configuration,
        local: &LocalNode,
        ownership: &Ownership,
    ) -> Option<Instant> {
        let editions = Some([
            configuration.updates(),
            local.node.edition(),
            ownership.edition(),
        ]);
        if self.editions == editions {
            return None;
        }
        let now = Instant::now();
        if self.editions.is_some() && now < self.looked + PACE {
            return Some(self.looked + PACE);
        }
        self.looked = now;
        let wanted = local.node.wanted()?;
        self.editions = editions;
        let publication = publication(wanted, local, ownership, configuration);
        self.publications.send_if_modified(|last| {
            let is_news = last.as_ref() != Some(&publication);
            *last = Some(publication);
            is_news
        });
        None
    }
}

fn publication(
    wanted: &Wanted,
    local: &LocalNode,
    ownership: &Ownership,
    configuration: &Configuration,
) -> Publication {
    let name = &wanted.node;
    let intent = &configuration.intent;
    let gone = [CandidateStanding::Down, CandidateStanding::Left];
    let there = ownership
        .members()
        .filter(|it| !gone.contains(&it.standing));
    let live: BTreeSet<String> = there
        .map(|member| member.name.to_string())
        .chain([name.clone()])
        .collect();
    let mut announced: BTreeMap<ObjectName, BTreeSet<String>> = BTreeMap::new();
    for (vip, link) in local.node.answered() {
        for service in wanted
            .vips
            .get(&vip)
            .into_iter()
            .flat_map(|it| &it.services)
        {
            let links = announced.entry(service.clone()).or_default();
            links.insert(link.clone());
        }
    }
    let mut elsewhere = BTreeSet::new();
    let mut failed = BTreeMap::new();
    let speaks = live.first().is_some_and(|first| first == name);
    for (&vip, it) in &wanted.vips {
        let owner = ownership.owner(vip);
        let is_own = owner.as_ref().is_some_and(|owner| owner.as_str() == name);
        if owner.is_some() && !is_own {
            elsewhere.extend(it.services.iter().cloned());
            continue;
        }
        // A Service without endpoints is not a failure to announce.
        let unserved = it.refusal_on(name) == Some(NotAnnounced::NoEndpoint);
        let is_vacant = speaks && owner.is_none() && ownership.has_no_candidate(vip);
        if (is_own || is_vacant)
            && !unserved
            && let Some(obstacle) = local.node.obstacle(vip)
        {
            let said = format!("{vip}: {obstacle}");
            failed.extend(it.services.iter().map(|it| (it.clone(), said.clone())));
        }
    }
    if speaks {
        for refusal in &wanted.refused {
            if let (Some(vip), NotAnnounced::NoAdvertisement { .. }) =
                (refusal.address, &refusal.reason)
            {
                let said = format!("{vip}: {}", refusal.reason);
                failed.insert(refusal.service.clone(), said);
            }
        }
    }
    failed.retain(|service, _| !announced.contains_key(service));
    elsewhere.retain(|service| !announced.contains_key(service));
    let uid = |service: &ObjectName| {
        let uid = intent.service_uid(service)?;
        Some((service.clone(), uid.clone()))
    };
    let uids = announced.keys().chain(failed.keys()).filter_map(uid);
    let node = intent.node(name).uid.clone();
    let refused = configuration.refusals().iter().cloned();
    Publication {
        uids: uids.collect(),
        judgement: node.map(|node| Judgement::new(refused, Some(node))),
        announced,
        elsewhere,
        live,
        failed,
    }
}
