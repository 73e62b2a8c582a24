//! What the leader watches.

use std::{collections::BTreeSet, fmt::Debug};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client, Resource,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, ListSemantic},
    },
};
use speaker_core::allocate::{Change, Input, Term, Usage};
use tokio::{sync::mpsc, task::JoinSet};

use super::{Happening, service};
use crate::kubernetes::{IPAddressPool, IPAddressPoolStatus, convert, watch_config};

/// The number of watches, and so of lists to complete.
pub(super) const WATCHES: usize = 3;

/// The lists and watches of a term, which end when this is dropped.
pub(super) struct Feed {
    _watches: JoinSet<()>,
}

/// Where the objects are, which of them count, and whom to tell.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) class: Option<String>,
    pub(super) to: mpsc::Sender<Happening>,
}

impl Feed {
    pub(super) fn start(sources: &Sources, term: Term) -> Self {
        let Sources {
            client,
            namespace,
            class,
            to,
        } = sources;
        // The leader must not decide by anything older than its term.
        let config = watch_config().list_semantic(ListSemantic::MostRecent);
        let mut watches = JoinSet::new();

        let services = Api::<core::Service>::all(client.clone());
        let services = watcher::watcher(services, config.clone());
        let class = class.clone();
        let change = move |it: &core::Service| match service::service(it, class.as_deref()) {
            Some(service) => Change::Service(Box::new(service)),
            None => Change::ServiceGone(convert::name(&it.metadata)),
        };
        let name = |it: &core::Service| convert::name(&it.metadata);
        watches.spawn(follow(
            services,
            term,
            to.clone(),
            name,
            change,
            Change::ServiceGone,
        ));

        let namespaces = Api::<PartialObjectMeta<core::Namespace>>::all(client.clone());
        let namespaces = watcher::watcher(namespaces, config.clone());
        let name =
            |it: &PartialObjectMeta<core::Namespace>| it.metadata.name.clone().unwrap_or_default();
        let change = move |it: &PartialObjectMeta<core::Namespace>| {
            Change::Namespace(name(it), it.metadata.labels.clone().unwrap_or_default())
        };
        watches.spawn(follow(
            namespaces,
            term,
            to.clone(),
            name,
            change,
            Change::NamespaceGone,
        ));

        let pools = Api::<IPAddressPool>::namespaced(client.clone(), namespace);
        let pools = watcher::watcher(pools, config);
        let name = |it: &IPAddressPool| convert::name(&it.metadata);
        watches.spawn(follow(
            pools,
            term,
            to.clone(),
            name,
            pool,
            Change::PoolGone,
        ));

        Self { _watches: watches }
    }
}

fn pool(object: &IPAddressPool) -> Change {
    match convert::pool(&object.metadata, &object.spec) {
        Ok(pool) => Change::Pool(pool, object.status.as_ref().map(usage)),
        Err(invalid) => {
            tracing::error!("{invalid}; its last valid version stays in force");
            Change::PoolRefused(invalid.object.name.clone(), invalid.to_string())
        }
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

/// Reports all objects of a list and its watch, and as gone those that a later list lacks.
async fn follow<K, N>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    term: Term,
    to: mpsc::Sender<Happening>,
    name: impl Fn(&K) -> N,
    change: impl Fn(&K) -> Change,
    gone: impl Fn(N) -> Change,
) where
    K: Resource + Clone + Debug,
    N: Clone + Ord,
{
    let mut events = std::pin::pin!(events.default_backoff());
    let mut known = BTreeSet::new();
    let mut listed = BTreeSet::new();
    let mut is_first = true;
    while let Some(event) = events.next().await {
        let mut changes = Vec::new();
        let mut is_complete = false;
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(name(&object));
                changes.push(change(&object));
            }
            Ok(Event::InitDone) => {
                let listed = std::mem::take(&mut listed);
                let lost = known.difference(&listed).cloned();
                changes.extend(lost.map(&gone));
                known = listed;
                is_complete = std::mem::take(&mut is_first);
            }
            Ok(Event::Apply(object)) => {
                known.insert(name(&object));
                changes.push(change(&object));
            }
            Ok(Event::Delete(object)) => {
                known.remove(&name(&object));
                changes.push(gone(name(&object)));
            }
            Err(error) => {
                tracing::warn!("cannot watch: {error}; trying again");
                if to.send(Happening::WatchFailed).await.is_err() {
                    return;
                }
            }
        }
        let changes = changes.into_iter();
        let happenings = changes.map(|it| Happening::Input(Box::new(Input::Changed(term, it))));
        let complete = is_complete.then_some(Happening::Listed(term));
        for happening in happenings.chain(complete) {
            if to.send(happening).await.is_err() {
                return;
            }
        }
    }
}
