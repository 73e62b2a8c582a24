//! Watching all objects of a kind, or one of them.

use std::{fmt::Debug, future::ready};

use futures::{Stream, StreamExt as _};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::watch_config;
use crate::causes::causes;

/// The events of a watch. Never ends: a failed watch is restarted after a while.
///
/// A failure is logged once, with `until_then`: its consequence until the watch works again.
pub(super) fn events<K>(
    api: Api<K>,
    config: watcher::Config,
    until_then: &'static str,
) -> impl Stream<Item = Event<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    attempts(api, config, until_then).filter_map(ready)
}

/// The same, with a `None` for each failure.
pub(crate) fn attempts<K>(
    api: Api<K>,
    config: watcher::Config,
    until_then: &'static str,
) -> impl Stream<Item = Option<Event<K>>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let kind = K::plural(&());
    let mut failing = false;
    let events = watcher(api, config).default_backoff();
    events.map(move |event| match event {
        Ok(event) => {
            let works = matches!(event, Event::InitDone | Event::Apply(_) | Event::Delete(_));
            if failing && works {
                failing = false;
                info!("watching {kind} again");
            }
            Some(event)
        }
        Err(error) => {
            if !failing {
                let error = causes(&error).join(": ");
                warn!("cannot watch {kind}: {error}; {until_then}");
            }
            failing = true;
            None
        }
    })
}

/// An object, now and whenever it changes; `None` while it does not exist. Otherwise like
/// [`events`].
pub(crate) fn object<K>(
    api: Api<K>,
    name: &str,
    until_then: &'static str,
) -> impl Stream<Item = Option<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watch_config().fields(&format!("metadata.name={name}"));
    let mut listed = None;
    events(api, config, until_then).filter_map(move |event| {
        let object = match event {
            Event::Init => {
                listed = None;
                None
            }
            Event::InitApply(object) => {
                listed = Some(object);
                None
            }
            Event::InitDone => Some(listed.take()),
            Event::Apply(object) => Some(Some(object)),
            Event::Delete(_) => Some(None),
        };
        ready(object)
    })
}
