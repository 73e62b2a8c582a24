use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::*;

/// An API server with one `ServiceL2Status`, whose definition is MetalLB's: its rules, in CEL, are
/// unknown to the API server that other tests run. Returns also the object.
fn api_server() -> (Client, Arc<Mutex<Option<Value>>>) {
    let stored = Arc::<Mutex<Option<Value>>>::default();
    let kept = Arc::clone(&stored);
    let serve = move |request: Request<kube::client::Body>| {
        let kept = Arc::clone(&kept);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("it is in memory").to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let mut object = kept.lock().unwrap();
            let is_status = head.uri.path().ends_with("/status");
            let (code, answer) = handle(&mut object, head.method.as_str(), is_status, &body);
            let answer = Response::builder()
                .status(code)
                .body(Body::from(answer.to_string()));
            Ok::<_, Infallible>(answer.expect("it is an answer"))
        }
    };
    (Client::new(tower::service_fn(serve), "lb"), stored)
}

fn handle(object: &mut Option<Value>, method: &str, is_status: bool, body: &Value) -> (u16, Value) {
    match (method, is_status) {
        ("PATCH", false) => {
            let object = object.get_or_insert_with(|| json!({}));
            object["metadata"] = body["metadata"].clone();
            (200, object.clone())
        }
        ("PATCH", true) => {
            let object = object.as_mut().expect("it has been created");
            let before = &object["status"]["node"];
            if !before.is_null() && *before != body["status"]["node"] {
                let refused = json!({"status": "Failure", "reason": "Invalid", "code": 422});
                return (422, refused);
            }
            object["status"] = body["status"].clone();
            (200, object.clone())
        }
        ("DELETE", false) => {
            *object = None;
            (200, json!({"kind": "Status", "status": "Success"}))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_status_names_the_next_node_even_if_metallbs_definition_forbids_it() {
    let (client, stored) = api_server();
    for (node, interface) in [("a", "eth0"), ("b", "eth0"), ("b", "eth1"), ("a", "eth1")] {
        let options = Options {
            node: node.to_owned(),
            namespace: "lb".to_owned(),
        };
        let claim = Step::Claim {
            service: ObjectName::new("shop", "web"),
            interfaces: BTreeSet::from([interface.to_owned()]),
            is_news: true,
        };
        let writer = Writer::new(client.clone(), &options);
        writer.carry_out(&claim).await.unwrap();
        let object = stored.lock().unwrap().clone().unwrap();
        assert_eq!(object["metadata"]["labels"]["metallb.io/node"], node);
        let status = json!({
            "node": node,
            "serviceName": "web",
            "serviceNamespace": "shop",
            "interfaces": [{"name": interface}],
        });
        assert_eq!(object["status"], status);
    }
}
