//! Which nodes may own what: endpoints, nodes, preferences.

use super::*;
use crate::{
    candidates::{Host, candidates},
    cluster::{LinkInfo, NodeName, metallb_order},
};

/// An index with endpoints and nodes, as in a cluster.
fn cluster(lines: &str) -> Intent {
    let mut intent = Intent::new(Terms {
        needs_endpoints: true,
        ..Terms::default()
    });
    given(&mut intent, "pool lan 10.0.0.0/24\n advertise all");
    given(&mut intent, lines);
    intent
}

/// What the node of this name should announce.
fn on(intent: &Intent, node: &str) -> String {
    render(&intent.wanted(&intent.node(node)))
}

#[track_caller]
fn check_node(node: &str, lines: &str, expect: Expect) {
    expect.assert_eq(&on(&cluster(lines), node));
}

/// The nodes that may own the VIP of the only Service, in order, if these are all nodes and each
/// has `eth0` and `eth1`.
fn may_own(intent: &Intent, nodes: &[&str]) -> String {
    let links = ["eth0", "eth1"].map(|name| LinkInfo {
        name: name.to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        up: true,
        subnets: vec![("10.0.0.9".parse().unwrap(), 24)],
        obstacle: None,
    });
    let names: Vec<NodeName> = nodes.iter().map(|it| (*it).into()).collect();
    let wanted: Vec<Wanted> = nodes
        .iter()
        .map(|it| intent.wanted(&intent.node(it)))
        .collect();
    let hosts: Vec<Host<'_>> = names
        .iter()
        .zip(&wanted)
        .map(|(name, wanted)| Host {
            name,
            address: None,
            wanted,
            links: &links,
        })
        .collect();
    let vips = candidates(&hosts);
    let (_, vip) = vips.first_key_value().unwrap();
    let order = metallb_order(vip.first_ip, &vip.candidates);
    let names = order.iter().map(|(name, _)| name.as_str());
    names.collect::<Vec<_>>().join(" ")
}

const ABC: [&str; 3] = ["node-a", "node-b", "node-c"];

#[test]
fn the_number_of_endpoints_does_not_matter() {
    for policy in ["", "local"] {
        let service = format!("service s 10.0.0.1 {policy}");
        let few = cluster(&(service.clone() + "\n slice s-1 s node-a,node-b,node-c"));
        let many = cluster(
            &(service
                + "
                slice s-1 s node-a,node-b,node-c
                slice s-2 s node-c
                slice s-3 s node-c"),
        );
        assert_eq!(may_own(&few, &ABC), "node-b node-a node-c");
        assert_eq!(may_own(&many, &ABC), "node-b node-a node-c");
    }
}

#[test]
fn nodes_with_different_advertisements_share_one_order_and_use_their_own_interfaces() {
    let intent = cluster(
        "delete advertise all
         advertise zero node:rack=0 on:eth0
         advertise one node:rack=1 on:eth1
         node node-a rack=0
         node node-b rack=1
         node node-c rack=2
         service s 10.0.0.1
         slice s-1 s node-c",
    );
    assert_eq!(may_own(&intent, &ABC), "node-b node-a");
    expect![[r#"
        10.0.0.1 for ns/s on eth0, group 10.0.0.1
        10.0.0.1 for ns/s on eth1, group 10.0.0.1
    "#]]
    .assert_eq(&(on(&intent, "node-a") + &on(&intent, "node-b")));
}

#[test]
fn service_selectors_narrow_the_candidates() {
    let intent = |labels: &str| {
        cluster(&format!(
            "delete advertise all
             advertise web service:app=web node:rack=0
             advertise db service:app=db node:rack=1
             node node-a rack=0
             node node-b rack=1
             node node-c rack=0
             service s 10.0.0.1 {labels}
             slice s-1 s node-b"
        ))
    };
    assert_eq!(may_own(&intent("app=web"), &ABC), "node-a node-c");
    assert_eq!(may_own(&intent("app=db"), &ABC), "node-b");
}

#[test]
fn the_next_preferred_node_follows_then_the_hash_decides() {
    let mut intent = cluster(
        "advertise some 60:ssd=yes 50:rack=1
         node node-a ssd=yes rack=1
         node node-b
         node node-c rack=1
         service s 10.0.0.1
         slice s-1 s node-a",
    );
    assert_eq!(may_own(&intent, &ABC), "node-a node-c node-b");
    assert_eq!(may_own(&intent, &ABC[1..]), "node-c node-b");
    given(&mut intent, "delete advertise some");
    assert_eq!(may_own(&intent, &ABC), "node-b node-a node-c");
}

#[test]
fn with_policy_local_a_preferred_node_without_an_endpoint_is_skipped() {
    let intent = cluster(
        "advertise some 60:ssd=yes
         node node-a ssd=yes
         node node-b
         node node-c
         service s 10.0.0.1 local
         slice s-1 s node-b,node-c",
    );
    assert_eq!(may_own(&intent, &ABC), "node-b node-c");
}

#[test]
fn a_service_without_endpoints_is_not_announced() {
    check_node(
        "n1",
        "service s 10.0.0.1
         slice s-1 s -",
        expect![[r#"
            10.0.0.1 for ns/s elsewhere: the Service has no endpoint that is ready, or serving while it terminates
        "#]],
    );
    check_node(
        "n1",
        "service s 10.0.0.1
         slice s-1 s n7",
        expect![[r#"
            10.0.0.1 for ns/s on all, group 10.0.0.1
        "#]],
    );
    check_node(
        "n1",
        "service s 10.0.0.1
         slice s-1 s ?",
        expect![[r#"
            10.0.0.1 for ns/s on all, group 10.0.0.1
        "#]],
    );
}

#[test]
fn with_policy_cluster_the_location_of_endpoints_does_not_matter() {
    let intent = cluster(
        "service s 10.0.0.1
         slice s-1 s n1,n2",
    );
    assert_eq!(on(&intent, "n1"), on(&intent, "n3"));
}

#[test]
fn with_policy_local_only_nodes_with_an_endpoint_announce() {
    let lines = "
        service s 10.0.0.1 local
        slice s-1 s n1
        slice s-2 s n2,?
    ";
    check_node(
        "n1",
        lines,
        expect![[r#"
        10.0.0.1 for ns/s on all, group 10.0.0.1
    "#]],
    );
    check_node(
        "n3",
        lines,
        expect![[r#"
        10.0.0.1 for ns/s elsewhere: externalTrafficPolicy is Local, and none of the endpoints that are ready or serving is on n3
    "#]],
    );
    check_node(
        "n1",
        "service s 10.0.0.1 local
         slice s-1 s ?",
        expect![[r#"
            10.0.0.1 for ns/s elsewhere: externalTrafficPolicy is Local, and the endpoints do not say on which node they are: set nodeName in the EndpointSlices, or use externalTrafficPolicy Cluster
        "#]],
    );
}

#[test]
fn with_policy_local_endpoint_and_advertisement_must_be_on_one_node() {
    let intent = cluster(
        "delete advertise all
         advertise some node:rack=1
         node n1 rack=1
         node n2 rack=2
         service s 10.0.0.1 local
         slice s-1 s n2",
    );
    expect![[r#"
        10.0.0.1 for ns/s elsewhere: externalTrafficPolicy is Local, and none of the endpoints that are ready or serving is on n1
        10.0.0.1 for ns/s elsewhere: L2Advertisement ns/some selects nodes by labels that n2 does not have
    "#]].assert_eq(&(on(&intent, "n1") + &on(&intent, "n2")));
}

#[test]
fn two_services_on_one_address_count_twice() {
    let mut intent = cluster(
        "service s 10.0.0.1
         service t 10.0.0.1
         slice s-1 s n1",
    );
    expect![[r#"
        10.0.0.1 for ns/s ns/t on all, group 10.0.0.1
    "#]]
    .assert_eq(&on(&intent, "n1"));
    given(&mut intent, "slice t-1 t n1\n delete slice s-1");
    expect![[r#"
        10.0.0.1 for ns/s ns/t on all, group 10.0.0.1
    "#]]
    .assert_eq(&on(&intent, "n1"));
    given(&mut intent, "delete service t");
    expect![[r#"
        10.0.0.1 for ns/s elsewhere: the Service has no endpoint that is ready, or serving while it terminates
    "#]].assert_eq(&on(&intent, "n1"));
}

#[test]
fn a_service_without_endpoints_does_not_silence_one_that_shares_its_address() {
    for lines in [
        "",
        "slice t-1 t -",
        // No node could serve it, as no node knows where its endpoints are.
        "slice t-1 t ?",
    ] {
        let mut intent = cluster(
            "service s 10.0.0.1 local
             service t 10.0.0.1 local
             slice s-1 s n1",
        );
        given(&mut intent, lines);
        assert_eq!(
            on(&intent, "n1"),
            "10.0.0.1 for ns/s ns/t on all, group 10.0.0.1\n",
            "{lines}"
        );
    }
    // Served on different nodes, no node serves both.
    let intent = cluster(
        "service s 10.0.0.1 local
         service t 10.0.0.1 local
         slice s-1 s n1
         slice t-1 t n2",
    );
    expect![[r#"
        10.0.0.1 for ns/s ns/t elsewhere: externalTrafficPolicy is Local, and none of the endpoints that are ready or serving is on n1
    "#]]
    .assert_eq(&on(&intent, "n1"));
}

#[test]
fn the_exclude_label_excludes_a_node_unless_ignored() {
    let lines = "
        service s 10.0.0.1
        slice s-1 s n2
        node n1 node.kubernetes.io/exclude-from-external-load-balancers=
    ";
    check_node(
        "n1",
        lines,
        expect![[r#"
        10.0.0.1 for ns/s elsewhere: n1 has the label node.kubernetes.io/exclude-from-external-load-balancers: remove it there, or start all agents with --ignore-exclude-lb
    "#]],
    );
    let mut intent = Intent::new(Terms {
        ignore_exclude_label: true,
        ..Terms::default()
    });
    given(&mut intent, "pool lan 10.0.0.0/24\n advertise all");
    given(&mut intent, lines);
    expect![[r#"
        10.0.0.1 for ns/s on all, group 10.0.0.1
    "#]]
    .assert_eq(&on(&intent, "n1"));
}

#[test]
fn a_node_without_network_announces_nothing() {
    let mut intent = cluster(
        "service s 10.0.0.1
         slice s-1 s n2
         node n1 unavailable",
    );
    expect![[r#"
        10.0.0.1 for ns/s elsewhere: the condition NetworkUnavailable of n1 is true
    "#]]
    .assert_eq(&on(&intent, "n1"));
    assert!(given(&mut intent, "node n1"));
    expect![[r#"
        10.0.0.1 for ns/s on all, group 10.0.0.1
    "#]]
    .assert_eq(&on(&intent, "n1"));
}

#[test]
fn weights_add_up_over_matching_advertisements() {
    let intent = cluster(
        "advertise a 60:rack=1
         advertise b 50:rack=2 50:ssd=yes
         advertise other service:app=db 100:rack=1
         advertise elsewhere node:rack=3 100:rack=1
         node n1 rack=1
         node n2 rack=2
         node n3 rack=2 ssd=yes
         service s 10.0.0.1
         slice s-1 s n1",
    );
    let preference = |name: &str| {
        let wanted = intent.wanted(&intent.node(name));
        wanted.vips.values().map(|vip| vip.preference).sum::<u32>()
    };
    assert_eq!(["n1", "n2", "n3", "n4"].map(preference), [60, 50, 100, 0]);
}

#[test]
fn irrelevant_changes_report_no_difference() {
    let mut intent = cluster(
        "service s 10.0.0.1
         slice s-1 s n1,n2
         service t 10.0.0.9 local
         slice t-1 t n1
         slice u-1 u n1
         node n1 rack=1",
    );
    let before = on(&intent, "n1");
    for same in [
        "service s 10.0.0.1",
        "slice s-2 s n1",
        "slice s-2 s n3",
        "delete slice s-1",
        "slice t-2 t n1",
        "slice u-1 u -",
        "delete slice u-1",
        "node n1 rack=1",
        "delete node n9",
    ] {
        assert!(!given(&mut intent, same), "{same}");
        assert_eq!(on(&intent, "n1"), before, "{same}");
    }
    for other in [
        "service s 10.0.0.2",
        "slice t-2 t n3",
        "delete slice t-1",
        "node n1 rack=2",
        "slice s-2 u n3",
        "slice s-1 s n1",
        "delete slice s-1",
    ] {
        assert!(given(&mut intent, other), "{other}");
    }
}

#[test]
fn nodes_with_the_same_outlook_want_the_same() {
    let intent = cluster(
        "advertise some node:rack=1 7:ssd=yes
         node n1 rack=1
         node n2 rack=1 disk=yes
         node n3 rack=1 ssd=yes
         node n4 unavailable",
    );
    let outlook = |name: &str| intent.outlook(&intent.node(name));
    assert_eq!(outlook("n1"), outlook("n2"));
    assert_ne!(outlook("n1"), outlook("n3"));
    assert_ne!(outlook("n1"), outlook("n4"));
}

#[test]
fn files_need_no_endpoints() {
    let mut intent = Intent::default();
    given(
        &mut intent,
        "pool lan 10.0.0.0/24\n advertise all\n service s 10.0.0.1 local",
    );
    let wanted = intent.wanted(&node(""));
    assert!(
        wanted
            .vips
            .values()
            .all(|vip| vip.refusal_on("n1").is_none())
    );
}
