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
    let class = class.as_deref();
    // The leader must not decide based on anything older than its term.
    let config = watch_config().list_semantic(ListSemantic::MostRecent);
    let until_then = "until then, changes have no effect";
    let mut events = pin!(watch::attempts(api, config, until_then));
    let changed = |it| ControllerEvent::Input(Box::new(Input::Changed(term, it)));
    let mut known = BTreeSet::new();
    let mut listed = BTreeSet::new();
    let mut is_first = true;
    while let Some(event) = events.next().await {
        let mut incoming = Vec::new();
        match event {
            None => incoming.push(ControllerEvent::WatchFailed),
            Some(Event::Init) => listed.clear(),
            Some(Event::InitApply(object)) => {
                listed.insert(convert::name(object.meta()));
                incoming.push(changed(object.change(class)));
            }
            Some(Event::InitDone) => {
                let listed = mem::take(&mut listed);
                let lost = known.difference(&listed).cloned();
                incoming.extend(lost.map(K::gone).map(changed));
                incoming.extend(is_first.then_some(ControllerEvent::Listed(term)));
                is_first = false;
                known = listed;
            }
            Some(Event::Apply(object)) => {
                known.insert(convert::name(object.meta()));
                incoming.push(changed(object.change(class)));
            }
            Some(Event::Delete(object)) => {
                let name = convert::name(object.meta());
                known.remove(&name);
                incoming.push(changed(K::gone(name)));
            }
        }
        for event in incoming {
            if to.send(event).await.is_err() {
                return;
            }
        }
    }
}
