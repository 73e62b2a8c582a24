//! What the leader watches.

use std::{collections::BTreeSet, fmt::Debug, mem, pin::pin};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client, Resource,
    api::PartialObjectMeta,
    runtime::watcher::{Event, ListSemantic},
};
use serde::de::DeserializeOwned;
use speaker_core::{
    allocate::{Change, Input, Term, Usage},
    intent::ObjectName,
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{ControllerEvent, service};
use crate::kubernetes::{IPAddressPool, IPAddressPoolStatus, convert, watch, watch_config};

/// The number of watches, and so of lists to complete.
pub(super) const WATCHES: usize = 3;

/// The lists and watches of a term, which end when this is dropped.
pub(super) struct Feed {
    _watches: JoinSet<()>,
}

/// Where the objects are, which of them count, and where to report them.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) class: Option<String>,
    pub(super) to: mpsc::Sender<ControllerEvent>,
}

impl Feed {
    pub(super) fn start(sources: &Sources, term: Term) -> Self {
        let client = || sources.client.clone();
        let services = Api::<core::Service>::all(client());
        let namespaces = Api::<PartialObjectMeta<core::Namespace>>::all(client());
        let pools = Api::<IPAddressPool>::namespaced(client(), &sources.namespace);
        let mut watches = JoinSet::new();
        watches.spawn(follow(services, sources.clone(), term));
        watches.spawn(follow(namespaces, sources.clone(), term));
        watches.spawn(follow(pools, sources.clone(), term));
        Self { _watches: watches }
    }
}

/// A kind of object that the leader watches.
trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// The object is new or has changed; Services of this class count.
    fn change(&self, class: Option<&str>) -> Change;

    /// The object of this name is gone.
    fn gone(name: ObjectName) -> Change;
}

impl Watched for core::Service {
    fn change(&self, class: Option<&str>) -> Change {
        match service::service(self, class) {
            Some(service) => Change::Service(Box::new(service)),
            None => Change::ServiceGone(convert::name(&self.metadata)),
        }
    }

    fn gone(name: ObjectName) -> Change {
        Change::ServiceGone(name)
    }
}

impl Watched for PartialObjectMeta<core::Namespace> {
    fn change(&self, _: Option<&str>) -> Change {
        let labels = self.metadata.labels.clone().unwrap_or_default();
        Change::Namespace(convert::name(&self.metadata).name, labels)
    }

    fn gone(name: ObjectName) -> Change {
        Change::NamespaceGone(name.name)
    }
}

impl Watched for IPAddressPool {
    fn change(&self, _: Option<&str>) -> Change {
        match convert::pool(&self.metadata, &self.spec) {
            Ok(pool) => Change::Pool(pool, self.status.as_ref().map(usage)),
            Err(invalid) => Change::PoolRefused(invalid.object.name.clone(), invalid.to_string()),
        }
    }

    fn gone(name: ObjectName) -> Change {
        Change::PoolGone(name)
    }
}

fn usage(status: &IPAddressPoolStatus) -> Usage {
    Usage {
        assigned_v4: status.assigned_ipv4,
        assigned_v6: status.assigned_ipv6,
        available_v4: status.available_ipv4,
        available_v6: status.available_ipv6,
    }
}

/// Reports all objects of a list and its watch, and those missing from a later list as gone.
async fn follow<K: Watched>(api: Api<K>, sources: Sources, term: Term) {
    let Sources { class, to, .. } = sources;
    // The leader must not decide based on anything older than its term.
    let config = watch_config().list_semantic(ListSemantic::MostRecent);
    let until_then = "until then, changes have no effect";
    let mut events = pin!(watch::attempts(api, config, until_then));
    let changed = |it| ControllerEvent::Input(Box::new(Input::Changed(term, it)));
    let mut known = Known::default();
    let mut is_listed = false;
    while let Some(event) = events.next().await {
        let is_first_list = matches!(event, Some(Event::InitDone)) && !is_listed;
        is_listed |= is_first_list;
        let mut incoming = match event {
            None => vec![ControllerEvent::WatchFailed],
            Some(event) => known
                .changes(event, class.as_deref())
                .map(changed)
                .collect(),
        };
        incoming.extend(is_first_list.then_some(ControllerEvent::Listed(term)));
        for event in incoming {
            if to.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// The names of the objects that the leader has been told of.
#[derive(Debug, Default)]
struct Known {
    names: BTreeSet<ObjectName>,
    /// Those in the list that has begun.
    listed: BTreeSet<ObjectName>,
}

impl Known {
    /// What an event of a watch changes.
    fn changes<K: Watched>(
        &mut self,
        event: Event<K>,
        class: Option<&str>,
    ) -> impl Iterator<Item = Change> + use<K> {
        let (mut change, mut gone) = (None, Vec::new());
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                let name = convert::name(object.meta());
                self.listed.insert(name.clone());
                // Before the list is complete: it may break off, and the next one lack the object.
                self.names.insert(name);
                change = Some(object.change(class));
            }
            Event::InitDone => {
                let known = mem::replace(&mut self.names, mem::take(&mut self.listed));
                gone.extend(known.difference(&self.names).cloned());
            }
            Event::Apply(object) => {
                self.names.insert(convert::name(object.meta()));
                change = Some(object.change(class));
            }
            Event::Delete(object) => {
                let name = convert::name(object.meta());
                self.names.remove(&name);
                gone.push(name);
            }
        }
        change.into_iter().chain(gone.into_iter().map(K::gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::IPAddressPoolSpec;

    fn pool(name: &str) -> IPAddressPool {
        let spec = IPAddressPoolSpec {
            addresses: vec!["10.0.0.0/24".to_owned()],
            auto_assign: true,
            avoid_buggy_ips: false,
            service_allocation: None,
        };
        IPAddressPool::new(name, spec)
    }

    #[test]
    fn an_object_that_the_next_list_lacks_is_gone_even_if_the_last_list_broke_off() {
        let mut known = Known::default();
        let mut hear = |event| {
            let changes = known.changes(event, None).map(|change| match change {
                Change::Pool(pool, _) => format!("+{}", pool.name().name),
                Change::PoolGone(name) => format!("-{}", name.name),
                other => format!("{other:?}"),
            });
            changes.collect::<Vec<_>>().join(" ")
        };
        hear(Event::Init);
        assert_eq!(hear(Event::InitApply(pool("a"))), "+a");
        assert_eq!(hear(Event::InitApply(pool("b"))), "+b");
        hear(Event::Init);
        assert_eq!(hear(Event::InitApply(pool("b"))), "+b");
        assert_eq!(hear(Event::InitDone), "-a");
        assert_eq!(hear(Event::Apply(pool("c"))), "+c");
        assert_eq!(hear(Event::Delete(pool("b"))), "-b");
        hear(Event::Init);
        assert_eq!(hear(Event::InitDone), "-c");
    }
}
