//! The watches, as one stream of news.

use std::{fmt::Debug, net::IpAddr};

use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use speaker_core::intent::{Object, ObjectName};

use super::objects::{Item, News, Resource, Valid, What};
use crate::kubernetes::{
    AGENTS, IPAddressPool, Invalid, L2Advertisement,
    client::watch_config,
    convert::{self, Source},
    watch,
};

/// Everything that an agent follows. Never ends: a failed watch is restarted after a while.
pub(super) fn all(client: &Client, namespace: &str) -> impl Stream<Item = News> + Send + 'static {
    use Resource::{Advertisements, Agents, Endpoints, Nodes, Pools, Services};
    let config = watch_config();
    let everywhere = || client.clone();
    let slices = Api::<EndpointSlice>::all(everywhere());
    let pools = Api::<IPAddressPool>::namespaced(client.clone(), namespace);
    let advertisements = Api::<L2Advertisement>::namespaced(client.clone(), namespace);
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    stream::select_all([
        news(Services, Api::all(everywhere()), config.clone(), service).boxed(),
        news(Endpoints, slices, config.clone(), endpoints).boxed(),
        news(Nodes, Api::all(everywhere()), config.clone(), node).boxed(),
        news(Pools, pools, config.clone(), pool).boxed(),
        news(
            Advertisements,
            advertisements,
            config.clone(),
            advertisement,
        )
        .boxed(),
        news(Agents, pods, config.labels(AGENTS), agent).boxed(),
    ])
}

fn service(service: &Service) -> Item {
    match convert::service(service, Source::Cluster) {
        Ok(service) => service.map_or(Item::Nothing, |it| valid(Object::Service(it))),
        Err(reason) => invalid(&reason),
    }
}

fn endpoints(slice: &EndpointSlice) -> Item {
    let slice = convert::endpoints(slice);
    slice.map_or(Item::Nothing, |it| valid(Object::Endpoints(it)))
}

fn node(node: &Node) -> Item {
    valid(Object::Node(convert::node(node)))
}

fn pool(pool: &IPAddressPool) -> Item {
    match convert::pool(&pool.metadata, &pool.spec) {
        Ok(pool) => valid(Object::Pool(pool)),
        Err(reason) => invalid(&reason),
    }
}

fn advertisement(advertisement: &L2Advertisement) -> Item {
    match convert::advertisement(&advertisement.metadata, &advertisement.spec.spec) {
        Ok(advertisement) => valid(Object::Advertisement(advertisement)),
        Err(reason) => invalid(&reason),
    }
}

fn agent(pod: &Pod) -> Item {
    let status = pod.status.as_ref();
    let ended = |phase: &str| matches!(phase, "Succeeded" | "Failed");
    let runs = status.is_some_and(|it| !it.phase.as_deref().is_some_and(ended));
    let address = status.and_then(|it| it.pod_ip.as_ref()?.parse::<IpAddr>().ok());
    match address {
        Some(address) if runs => Item::Valid(Valid::Agent(address)),
        _ => Item::Nothing,
    }
}

fn valid(object: Object) -> Item {
    Item::Valid(Valid::Object(object))
}

fn invalid(reason: &Invalid) -> Item {
    Item::Invalid(reason.to_string())
}

/// The news from the watch of one kind. Its failures are only logged: what was known stays.
fn news<K>(
    of: Resource,
    api: Api<K>,
    config: watcher::Config,
    item: fn(&K) -> Item,
) -> impl Stream<Item = News> + Send + 'static
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watch::events(api, config, "what is known of them stays").map(move |event| {
        let what = match event {
            Event::Init => What::ListBegins,
            Event::InitDone => What::ListEnds,
            Event::InitApply(it) | Event::Apply(it) => What::There(name(it.meta()), item(&it)),
            Event::Delete(it) => What::Gone(name(it.meta())),
        };
        News { of, what }
    })
}

/// Of an object of the API server: one without a namespace belongs to none.
fn name(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}
