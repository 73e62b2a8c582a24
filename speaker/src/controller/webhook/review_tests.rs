use super::*;

fn parse<T: DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).unwrap()
}

fn pool_of(name: &str, namespace: &str, addresses: &str) -> IPAddressPool {
    parse(&format!(
        "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{addresses: [{addresses}]}}"
    ))
}

#[track_caller]
fn check(object: &IPAddressPool, others: &[IPAddressPool], expect: Result<(), &str>) {
    let found = judge_pool(object, "lb", others);
    assert_eq!(found, expect.map_err(str::to_owned));
}

#[test]
fn a_pool_that_overlaps_with_another_is_refused() {
    let lan = pool_of("lan", "lb", "10.0.0.0/24");
    let others = [lan.clone(), pool_of("dmz", "lb", "10.1.0.0/24")];
    check(&pool_of("new", "lb", "10.2.0.0/24"), &others, Ok(()));
    check(
        &pool_of("new", "lb", "10.0.0.128/25"),
        &others,
        Err(
            "IPAddressPool lb/new: 10.0.0.128/25 overlaps 10.0.0.0/24 of IPAddressPool lb/lan: \
             give each address to one pool only",
        ),
    );
    // Its own earlier version does not count as another pool.
    check(&pool_of("lan", "lb", "10.0.0.0/23"), &others, Ok(()));
}

#[test]
fn a_pool_in_the_wrong_namespace_is_refused() {
    check(
        &pool_of("lan", "default", "10.0.0.0/24"),
        &[],
        Err(
            "IPAddressPool default/lan: metadata.namespace: outside of the system's namespace, \
             where it has no effect: create it in lb",
        ),
    );
}

#[test]
fn refusals_have_the_text_of_the_conversion() {
    check(
        &pool_of("lan", "lb", "10.0.0.9-10.0.0.1"),
        &[],
        Err(
            "IPAddressPool lb/lan: spec.addresses[0]: the start 10.0.0.9 is after the end \
             10.0.0.1: swap them",
        ),
    );
    let object: L2Advertisement = parse(
        "apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all, namespace: lb}
spec: {ipAddressPools: [lan, lan]}",
    );
    let expect = "L2Advertisement lb/all: spec.ipAddressPools[1]: \"lan\" is listed twice: \
                  remove one";
    assert_eq!(judge_advertisement(&object, "lb"), Err(expect.to_owned()));
}

fn review(operation: &str, object: &str) -> AdmissionRequest<DynamicObject> {
    let review: AdmissionReview<DynamicObject> = serde_json::from_str(&format!(
        r#"{{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {{
            "uid": "u-7", "operation": "{operation}", "userInfo": {{}}, "object": {object},
            "kind": {{"group": "metallb.io", "version": "v1beta1", "kind": "IPAddressPool"}},
            "resource": {{"group": "metallb.io", "version": "v1beta1", "resource": "ipaddresspools"}}
        }}}}"#
    ))
    .unwrap();
    review.try_into().unwrap()
}

#[test]
fn a_delete_is_always_allowed() {
    let request = review("DELETE", "null");
    assert!(object::<IPAddressPool>(&request).is_none());
    // A foreground delete ends with an update, which removes the finalizer.
    let update = |metadata: &str| {
        let updated = format!(
            r#"{{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {{"name": "x"{metadata}}}, "spec": {{"addresses": []}}}}"#
        );
        object::<IPAddressPool>(&review("UPDATE", &updated))
    };
    assert!(update("").is_some());
    assert!(update(r#", "deletionTimestamp": "2026-01-01T00:00:00Z""#).is_none());
}

#[test]
fn a_malformed_object_is_refused_without_an_error() {
    let request = review(
        "CREATE",
        r#"{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "x"}, "spec": {"addresses": 7}}"#,
    );
    let read = object::<IPAddressPool>(&request).unwrap();
    assert!(read.unwrap_err().contains("invalid type"));
}
