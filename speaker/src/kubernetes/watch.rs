//! Watching objects of one kind, or one of them.

use std::fmt::Debug;

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

/// What happens to the objects. Never ends; a watch that fails is tried again after a while.
///
/// A failure is logged once, with what follows from it until the watch works again.
pub(super) fn events<K>(
    api: Api<K>,
    config: watcher::Config,
    until_then: &'static str,
) -> impl Stream<Item = Event<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let kind = K::plural(&());
    let mut failing = false;
    let events = watcher(api, config).default_backoff();
    events.filter_map(move |event| {
        let event = match event {
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
                    warn!("cannot watch {kind}: {}; {until_then}", full(&error));
                }
                failing = true;
                None
            }
        };
        std::future::ready(event)
    })
}

/// What an object is, now and whenever that changes; none, where there is none. Otherwise as
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
        std::future::ready(object)
    })
}

/// An error with its causes, none of them twice.
fn full(error: &watcher::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
