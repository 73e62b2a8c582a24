//! The API server's admission reviews, and the answers.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use kube::{
    Api, Client,
    api::ListParams,
    core::{
        DynamicObject,
        admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation},
    },
};
use serde::de::DeserializeOwned;
use speaker_core::intent::{ObjectName, Pool, admission::Admission};

use crate::kubernetes::{IPAddressPool, L2Advertisement, convert};

#[derive(Clone)]
struct Known {
    client: Client,
    namespace: String,
}

pub(super) fn routes(client: Client, namespace: &str) -> Router {
    let known = Known {
        client,
        namespace: namespace.to_owned(),
    };
    Router::new()
        .route("/validate-metallb-io-v1beta1-ipaddresspool", post(pool))
        .route(
            "/validate-metallb-io-v1beta1-l2advertisement",
            post(advertisement),
        )
        .with_state(known)
}

type Review = Json<AdmissionReview<DynamicObject>>;

async fn pool(State(known): State<Known>, Json(review): Review) -> Response {
    let Ok(request) = review.try_into() else {
        return no_review();
    };
    let Some(object) = object(&request) else {
        return answer(&request, Ok(()));
    };
    // As the API server has them now: a watch may be behind.
    let pools = Api::<IPAddressPool>::namespaced(known.client, &known.namespace);
    let others = match pools.list(&ListParams::default()).await {
        Ok(others) => others.items,
        Err(error) => {
            let text = format!("cannot list the other IPAddressPools: {error}");
            return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
        }
    };
    let judged = object.and_then(|object| judge_pool(&object, &known.namespace, &others));
    answer(&request, judged)
}

async fn advertisement(State(known): State<Known>, Json(review): Review) -> Response {
    let Ok(request) = review.try_into() else {
        return no_review();
    };
    let judged = match object(&request) {
        Some(object) => object.and_then(|it| judge_advertisement(&it, &known.namespace)),
        None => Ok(()),
    };
    answer(&request, judged)
}

/// The object to validate; `None` for a delete, which is always allowed. So are updates of an
/// object that is being deleted: the last of them removes its finalizers.
fn object<T: DeserializeOwned>(
    request: &AdmissionRequest<DynamicObject>,
) -> Option<Result<T, String>> {
    if request.operation == Operation::Delete {
        return None;
    }
    let object = request.object.as_ref()?;
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let value = serde_json::to_value(object).map_err(|error| error.to_string());
    Some(value.and_then(|it| serde_json::from_value(it).map_err(|error| error.to_string())))
}

fn judge_pool(
    object: &IPAddressPool,
    namespace: &str,
    others: &[IPAddressPool],
) -> Result<(), String> {
    let name = convert::name(&object.metadata);
    check_namespace("IPAddressPool", &name, namespace)?;
    let pool = convert::pool(&object.metadata, &object.spec).map_err(|error| error.to_string())?;
    let mut admission = Admission::<ObjectName, Pool>::default();
    let others = others.iter();
    for other in others.filter_map(|it| convert::pool(&it.metadata, &it.spec).ok()) {
        if *other.name() != name {
            admission.offer(other.name().clone(), other);
        }
    }
    admission.settle();
    admission.offer(name.clone(), pool);
    match admission.settle().remove(&name) {
        Some(conflict) => Err(conflict.to_string()),
        None => Ok(()),
    }
}

fn judge_advertisement(object: &L2Advertisement, namespace: &str) -> Result<(), String> {
    let name = convert::name(&object.metadata);
    check_namespace("L2Advertisement", &name, namespace)?;
    let converted = convert::advertisement(&object.metadata, &object.spec.spec);
    converted.map(drop).map_err(|error| error.to_string())
}

fn check_namespace(kind: &str, name: &ObjectName, namespace: &str) -> Result<(), String> {
    if name.namespace == namespace {
        return Ok(());
    }
    Err(format!(
        "{kind} {name}: metadata.namespace: outside of the system's namespace, where it has no \
         effect: create it in {namespace}"
    ))
}

fn answer(request: &AdmissionRequest<DynamicObject>, judged: Result<(), String>) -> Response {
    let allowed = AdmissionResponse::from(request);
    let response = match judged {
        Ok(()) => allowed,
        Err(why) => allowed.deny(why),
    };
    Json(response.into_review()).into_response()
}

fn no_review() -> Response {
    (StatusCode::BAD_REQUEST, "not an AdmissionReview").into_response()
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
