use std::{convert::Infallible, future::pending};

use axum::{
    body::Body,
    http::{Request, Response},
};
use speaker_core::{
    allocate::{Notice, Pending, StatusWrite, Told},
    intent::ObjectName,
};

use super::*;

fn web() -> ObjectName {
    ObjectName::new("shop", "web")
}

/// A controller whose API server answers everything but requests about events, and the paths of
/// these requests.
fn controller() -> (Controller, mpsc::UnboundedReceiver<String>) {
    let (asked, paths) = mpsc::unbounded_channel();
    let answer = move |request: Request<kube::client::Body>| {
        let path = request.uri().path().to_owned();
        let is_event = path.ends_with("/events");
        let _ = asked.send(path);
        async move {
            if is_event {
                pending::<()>().await;
            }
            Ok::<_, Infallible>(Response::new(Body::from("{}")))
        }
    };
    let client = Client::new(tower::service_fn(answer), "default");
    let options = Options {
        namespace: "lb".to_owned(),
        kubeconfig: None,
        class: None,
        http: ([127, 0, 0, 1], 0).into(),
        webhooks: None,
        identity: "me".to_owned(),
    };
    let (to, _) = mpsc::channel(1);
    (Controller::new(client, &options, to).unwrap(), paths)
}

#[tokio::test]
async fn pending_events_do_not_delay_addresses() {
    let (mut controller, mut paths) = controller();
    for n in 0..1_000 {
        controller.carry_out(Command::Tell(Notice {
            name: web(),
            uid: n.to_string(),
            told: Told::Allocated(Vec::new()),
        }));
    }
    controller.carry_out(Command::Write(StatusWrite {
        term: Term(1),
        id: 1,
        pending: Pending {
            name: web(),
            uid: "u-1".to_owned(),
            version: "1".to_owned(),
            addresses: Vec::new(),
        },
        pool: None,
    }));
    let written = async {
        while let Some(path) = paths.recv().await {
            if path == "/api/v1/namespaces/shop/services/web/status" {
                return;
            }
        }
    };
    timeout(REQUEST_TIMEOUT / 2, written).await.unwrap();
}
