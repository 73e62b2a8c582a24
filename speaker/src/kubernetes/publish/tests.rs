use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Request, Response},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use super::{names::status_name, *};

/// Looking at all of them for each that changes would take minutes.
const SERVICES: usize = 5_000;
const SOON: Duration = Duration::from_secs(20);

fn service(number: usize) -> ObjectName {
    ObjectName::new("shop", format!("web-{number}"))
}

/// The status of a Service that this node announces on eth0.
fn status(of: &ObjectName, node: &str, version: usize) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "ServiceL2Status",
        "metadata": {
            "name": status_name(of),
            "resourceVersion": version.to_string(),
            "labels": {
                "metallb.io/node": node,
                "metallb.io/service-name": of.name,
                "metallb.io/service-namespace": of.namespace,
            },
        },
        "status": {
            "node": node,
            "serviceName": of.name,
            "serviceNamespace": of.namespace,
            "interfaces": [{ "name": "eth0" }],
        },
    })
}

/// An API server whose list holds the status of Service 0, of node `a`, and whose watch then reports
/// those of all others, of node `b`, and at last that somebody has given the first one to `b` too.
/// Returns also the paths of the requests that are neither.
fn api_server() -> (Client, mpsc::UnboundedReceiver<String>) {
    let (asked, others) = mpsc::unbounded_channel();
    let serve = move |request: Request<kube::client::Body>| {
        let path = request.uri().path().to_owned();
        let is_watch = request
            .uri()
            .query()
            .is_some_and(|it| it.contains("watch="));
        let is_status = path.ends_with("/servicel2statuses");
        let body = if is_watch {
            let numbers = (1..SERVICES).chain([0]).filter(move |_| is_status);
            let changes = numbers.map(|number| {
                let object = status(&service(number), "b", number + 2);
                let change = json!({ "type": "MODIFIED", "object": object });
                Ok::<_, Infallible>(Bytes::from(format!("{change}\n")))
            });
            Body::from_stream(stream::iter(changes).chain(stream::pending()))
        } else if is_status || path.ends_with("/configurationstates") {
            let items: Vec<_> = is_status
                .then(|| status(&service(0), "a", 1))
                .into_iter()
                .collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": items });
            Body::from(list.to_string())
        } else {
            let _ = asked.send(path);
            Body::from(status(&service(0), "a", SERVICES + 2).to_string())
        };
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    };
    (Client::new(tower::service_fn(serve), "lb"), others)
}

#[tokio::test]
async fn thousands_of_statuses_that_change_at_once_are_looked_at_together() {
    let (client, mut written) = api_server();
    let eth0 = BTreeSet::from(["eth0".to_owned()]);
    let (publisher, publications) = watch::channel(None);
    publisher.send_replace(Some(Publication {
        announced: BTreeMap::from([(service(0), eth0)]),
        elsewhere: (1..SERVICES).map(service).collect(),
        live: ["a", "b"].map(str::to_owned).into(),
        ..Publication::default()
    }));
    let options = Options {
        node: "a".to_owned(),
        namespace: "lb".to_owned(),
    };
    tokio::spawn(publish(client, options, publications));
    let path = timeout(SOON, written.recv()).await.unwrap().unwrap();
    assert!(path.ends_with(&status_name(&service(0))), "{path}");
}
