use expect_test::{Expect, expect};
use serde::de::DeserializeOwned;

use super::*;
use crate::kubernetes::{IPAddressPool, L2Advertisement};

/// The object of this YAML, converted.
#[track_caller]
fn check(yaml: &str, expect: Expect) {
    check_from(Source::Manifests, yaml, expect);
}

#[track_caller]
fn check_from(source: Source, yaml: &str, expect: Expect) {
    let kind = yaml
        .lines()
        .find_map(|line| line.trim().strip_prefix("kind: "));
    let converted = match kind {
        Some("IPAddressPool") => {
            let it: IPAddressPool = parse(yaml);
            pool(&it.metadata, &it.spec).map(|pool| {
                let addresses = pool.addresses().iter().map(ToString::to_string);
                let addresses: Vec<_> = addresses.collect();
                format!(
                    "{} {:?}: {}; {:?}",
                    pool.name(),
                    pool.labels(),
                    addresses.join(" "),
                    pool.allocation()
                )
            })
        }
        Some("L2Advertisement") => {
            let it: L2Advertisement = parse(yaml);
            advertisement(&it.metadata, &it.spec.spec).map(|it| format!("{it:#?}"))
        }
        Some("Service") => service(&parse(yaml), source).map(|service| match service {
            Some(service) => format!(
                "{} {:?} of class {:?}: {:?}",
                service.name, service.labels, service.class, service.addresses
            ),
            None => "none of ours".to_owned(),
        }),
        other => panic!("kind {other:?}"),
    };
    expect.assert_eq(&converted.unwrap_or_else(|error| error.to_string()));
}

fn parse<T: DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).unwrap()
}

#[track_caller]
fn check_pool(spec: &str, expect: Expect) {
    check(
        &format!("kind: IPAddressPool\nmetadata: {{name: lan, namespace: lb}}\nspec: {spec}"),
        expect,
    );
}

#[track_caller]
fn check_advertisement(spec: &str, expect: Expect) {
    check(
        &format!("kind: L2Advertisement\nmetadata: {{name: all, namespace: lb}}\nspec: {spec}"),
        expect,
    );
}

#[test]
fn a_pool() {
    check(
        "
        apiVersion: metallb.io/v1beta1
        kind: IPAddressPool
        metadata:
          name: lan
          namespace: lb
          labels:
            tier: gold
        spec:
          addresses:
          - 192.168.7.0/28
          - 192.168.9.1-192.168.9.5
          - fd00:7::/124
          autoAssign: false
          avoidBuggyIPs: true
          serviceAllocation:
            priority: 50
            namespaces: [shop, blog]
            namespaceSelectors:
            - matchLabels: {team: web}
            serviceSelectors:
            - matchExpressions:
              - {key: app, operator: In, values: [bar]}
        ",
        expect![[
            r#"lb/lan {"tier": "gold"}: 192.168.7.0/28 192.168.9.1-192.168.9.5 fd00:7::/124; Allocation { auto_assign: false, avoid_buggy: true, rule: Some(AllocationRule { priority: 50, namespaces: {"blog", "shop"}, namespace_selectors: [Selector { labels: {"team": "web"}, requirements: [] }], service_selectors: [Selector { labels: {}, requirements: [Requirement { key: "app", test: In({"bar"}) }] }] }) }"#
        ]],
    );
}

#[test]
fn a_pool_knows_when_it_was_created() {
    let created = |metadata: &str| {
        let it: IPAddressPool = parse(&format!(
            "kind: IPAddressPool\nmetadata: {{name: lan{metadata}}}\nspec: {{addresses: [10.0.0.0/24]}}"
        ));
        pool(&it.metadata, &it.spec).unwrap().created()
    };
    assert_eq!(created(", creationTimestamp: '1970-01-01T00:01:00Z'"), 60);
    assert_eq!(created(""), 0, "in a file");
}

#[test]
fn bad_pools_are_refused_with_field_and_reason() {
    check_pool(
        "{addresses: []}",
        expect![[
            "IPAddressPool lb/lan: spec.addresses: the pool has no addresses: list CIDR prefixes such as 10.0.0.0/24 or start-end ranges"
        ]],
    );
    check_pool(
        "{addresses: [10.0.0.0/24, 10.0.1.9-10.0.1.1]}",
        expect![[
            "IPAddressPool lb/lan: spec.addresses[1]: the start 10.0.1.9 is after the end 10.0.1.1: swap them"
        ]],
    );
    check_pool(
        "{addresses: [fd00::/64, 10.0.0.0/24, 10.0.0.9-10.0.0.12]}",
        expect![[
            "IPAddressPool lb/lan: spec.addresses[2]: 10.0.0.9-10.0.0.12 overlaps 10.0.0.0/24, which the pool also lists: remove one"
        ]],
    );
    check_pool(
        "{addresses: [10.0.0.0/24], serviceAllocation: {namespaces: [a, b, a]}}",
        expect![[
            r#"IPAddressPool lb/lan: spec.serviceAllocation.namespaces[2]: "a" is listed twice: remove one"#
        ]],
    );
    check_pool(
        "{addresses: [10.0.0.0/24], serviceAllocation: {serviceSelectors: [{matchExpressions: [{key: app, operator: Equals, values: [a]}]}]}}",
        expect![[
            r#"IPAddressPool lb/lan: spec.serviceAllocation.serviceSelectors[0].matchExpressions[0].operator: unknown operator "Equals": use In, NotIn, Exists or DoesNotExist"#
        ]],
    );
}

#[test]
fn an_advertisement() {
    check_advertisement(
        "{ipAddressPools: [lan], interfaces: [eth1, eth0], nodeSelectors: [{matchLabels: {zone: a}}],
          preferredNodeSelectors: [{weight: 100, preference: {}}]}",
        expect![[r#"
            Advertisement {
                name: ObjectName {
                    namespace: "lb",
                    name: "all",
                },
                pools: {
                    "lan",
                },
                pool_selectors: [],
                node_selectors: [
                    Selector {
                        labels: {
                            "zone": "a",
                        },
                        requirements: [],
                    },
                ],
                service_selectors: [],
                interfaces: Named(
                    {
                        "eth0",
                        "eth1",
                    },
                ),
                preferences: [
                    (
                        100,
                        Selector {
                            labels: {},
                            requirements: [],
                        },
                    ),
                ],
            }"#]],
    );
}

#[test]
fn an_advertisement_without_a_spec_announces_everything() {
    check(
        "
        apiVersion: metallb.io/v1beta1
        kind: L2Advertisement
        metadata:
          name: all
        ",
        expect![[r#"
            Advertisement {
                name: ObjectName {
                    namespace: "default",
                    name: "all",
                },
                pools: {},
                pool_selectors: [],
                node_selectors: [],
                service_selectors: [],
                interfaces: All,
                preferences: [],
            }"#]],
    );
}

#[test]
fn bad_advertisements_are_refused_with_field_and_reason() {
    check_advertisement(
        "{ipAddressPools: [lan, dmz, lan]}",
        expect![[
            r#"L2Advertisement lb/all: spec.ipAddressPools[2]: "lan" is listed twice: remove one"#
        ]],
    );
    check_advertisement(
        "{nodeSelectors: [{matchLabels: {zone: a}}, {matchLabels: {zone: a}}]}",
        expect![[
            "L2Advertisement lb/all: spec.nodeSelectors[1]: the same as item 0 of the list: remove one"
        ]],
    );
    check_advertisement(
        "{serviceSelectors: [{matchExpressions: [{key: a, operator: In, values: [b, c]}, {key: a, operator: In, values: [c, b]}]}]}",
        expect![[
            "L2Advertisement lb/all: spec.serviceSelectors[0].matchExpressions[1]: the same as item 0 of the list: remove one"
        ]],
    );
    check_advertisement(
        "{ipAddressPoolSelectors: [{matchLabels: {tier: a b}}]}",
        expect![[
            r#"L2Advertisement lb/all: spec.ipAddressPoolSelectors[0].matchLabels: "a b" is not a valid label value: use up to 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit"#
        ]],
    );
    check_advertisement(
        "{preferredNodeSelectors: [{weight: 101, preference: {}}]}",
        expect![[
            "L2Advertisement lb/all: spec.preferredNodeSelectors[0].weight: the weight 101 is not between 1 and 100"
        ]],
    );
    check_advertisement(
        "{preferredNodeSelectors: [{weight: 1, preference: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]}",
        expect![[
            "L2Advertisement lb/all: spec.preferredNodeSelectors[0].preference.matchExpressions[0].values: Exists takes no values: remove them, or use In or NotIn"
        ]],
    );
}

const ASKING: &str = "
    kind: Service
    metadata:
      name: web
      labels: {app: web}
      annotations:
        metallb.io/loadBalancerIPs: 10.0.0.1, fd00::1
    spec:
      type: LoadBalancer
      loadBalancerClass: example.com/lb
    status:
      loadBalancer:
        ingress:
        - ip: 10.0.0.9
";

#[test]
fn with_files_requested_addresses_count() {
    check(
        ASKING,
        expect![[
            r#"default/web {"app": "web"} of class Some("example.com/lb"): [10.0.0.1, fd00::1]"#
        ]],
    );
}

#[test]
fn in_a_cluster_the_status_counts() {
    check_from(
        Source::Cluster,
        ASKING,
        expect![[r#"default/web {"app": "web"} of class Some("example.com/lb"): [10.0.0.9]"#]],
    );
    check_from(
        Source::Cluster,
        &ASKING.replace("10.0.0.1,", "nonsense,"),
        expect![[r#"default/web {"app": "web"} of class Some("example.com/lb"): [10.0.0.9]"#]],
    );
}

#[track_caller]
fn check_service(annotations: &str, spec: &str, status: &str, expect: Expect) {
    let yaml = format!(
        "kind: Service
metadata: {{name: web, namespace: shop, annotations: {annotations}}}
spec: {spec}
status: {{loadBalancer: {{ingress: {status}}}}}"
    );
    check(&yaml, expect);
}

#[test]
fn requests_come_from_annotation_old_annotation_field_or_status() {
    check_service(
        "{metallb.io/loadBalancerIPs: 10.0.0.1, metallb.universe.tf/loadBalancerIPs: 10.0.0.2}",
        "{type: LoadBalancer}",
        "[]",
        expect![["shop/web {} of class None: [10.0.0.1]"]],
    );
    check_service(
        "{metallb.universe.tf/loadBalancerIPs: 10.0.0.2}",
        "{type: LoadBalancer}",
        "[]",
        expect![["shop/web {} of class None: [10.0.0.2]"]],
    );
    check_service(
        "{metallb.io/loadBalancerIPs: ''}",
        "{type: LoadBalancer, loadBalancerIP: ' 10.0.0.3'}",
        "[{ip: 10.0.0.9}]",
        expect![["shop/web {} of class None: [10.0.0.3]"]],
    );
    check_service(
        "{}",
        "{type: LoadBalancer, loadBalancerIP: ''}",
        "[{ip: '::ffff:10.0.0.9'}, {hostname: lb.example.com}, {ip: fd00::9}]",
        expect![["shop/web {} of class None: [10.0.0.9, fd00::9]"]],
    );
    check_service(
        "{}",
        "{type: LoadBalancer}",
        "[]",
        expect![["shop/web {} of class None: []"]],
    );
}

#[test]
fn other_service_types_are_ignored() {
    for spec in ["{type: ClusterIP}", "{}", ""] {
        check_service(
            "{metallb.io/loadBalancerIPs: nonsense}",
            spec,
            "[]",
            expect![["none of ours"]],
        );
    }
}

#[test]
fn bad_services_are_refused_with_field_and_reason() {
    check_service(
        "{metallb.io/loadBalancerIPs: '10.0.0.1,10.0.0.300'}",
        "{type: LoadBalancer}",
        "[]",
        expect![[
            r#"Service shop/web: metadata.annotations[metallb.io/loadBalancerIPs]: "10.0.0.300" is not an IP address"#
        ]],
    );
    check_service(
        "{metallb.io/loadBalancerIPs: '10.0.0.1,'}",
        "{type: LoadBalancer}",
        "[]",
        expect![[
            r#"Service shop/web: metadata.annotations[metallb.io/loadBalancerIPs]: "" is not an IP address"#
        ]],
    );
    check_service(
        "{metallb.universe.tf/loadBalancerIPs: '10.0.0.1, 10.0.0.1'}",
        "{type: LoadBalancer}",
        "[]",
        expect![[
            "Service shop/web: metadata.annotations[metallb.universe.tf/loadBalancerIPs]: 10.0.0.1 is listed twice: remove one"
        ]],
    );
    check_service(
        "{metallb.io/loadBalancerIPs: 10.0.0.1}",
        "{type: LoadBalancer, loadBalancerIP: 10.0.0.1}",
        "[]",
        expect![[
            "Service shop/web: spec.loadBalancerIP: the annotation metallb.io/loadBalancerIPs requests addresses too: keep only the annotation"
        ]],
    );
    check_service(
        "{}",
        "{type: LoadBalancer, loadBalancerIP: 10.0.0.1/32}",
        "[]",
        expect![[r#"Service shop/web: spec.loadBalancerIP: "10.0.0.1/32" is not an IP address"#]],
    );
    check_service(
        "{}",
        "{type: LoadBalancer}",
        "[{ip: 10.0.0.1}, {ip: x}]",
        expect![[
            r#"Service shop/web: status.loadBalancer.ingress[1].ip: "x" is not an IP address"#
        ]],
    );
}

/// The nodes of a slice whose endpoints these are.
#[track_caller]
fn check_endpoints(list: &str, expect: Expect) {
    let slice = parse(&format!(
        "metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: {list}"
    ));
    let slice = endpoints(&slice).unwrap();
    assert_eq!(slice.service, ObjectName::new("shop", "web"));
    let elsewhere = if slice.elsewhere {
        ", and elsewhere"
    } else {
        ""
    };
    expect.assert_eq(&format!("{:?}{elsewhere}", slice.nodes));
}

#[test]
fn endpoints_count_while_they_are_ready_or_serving() {
    let endpoint = |conditions: &str| {
        format!("[{{addresses: [10.1.0.1], nodeName: n1, conditions: {{{conditions}}}}}]")
    };
    for (conditions, counts) in [
        ("ready: true", true),
        ("ready: true, serving: true", true),
        ("ready: true, serving: false", true),
        ("", true),
        ("serving: false", true),
        ("ready: false, serving: true, terminating: true", true),
        ("ready: false", false),
        ("ready: false, serving: false", false),
    ] {
        let expect = if counts {
            expect![[r#"{"n1"}"#]]
        } else {
            expect!["{}"]
        };
        check_endpoints(&endpoint(conditions), expect);
    }
}

#[test]
fn endpoints_are_on_nodes_or_elsewhere() {
    check_endpoints(
        "[{addresses: [10.1.0.1], nodeName: n1}, {addresses: [10.1.0.2], nodeName: n1}, {addresses: [10.1.0.3]}]",
        expect![[r#"{"n1"}, and elsewhere"#]],
    );
}

#[test]
fn a_slice_without_a_service_is_ignored() {
    let slice = parse("{metadata: {name: other}, addressType: IPv4, endpoints: []}");
    assert_eq!(endpoints(&slice), None);
}

#[test]
fn a_node_has_its_labels_and_conditions() {
    let converted = node(&parse(
        "metadata: {name: n1, labels: {rack: '1'}}
status: {conditions: [{type: Ready, status: 'True'}, {type: NetworkUnavailable, status: 'True'}]}",
    ));
    expect![[r#"Node { name: ObjectName { namespace: "", name: "n1" }, uid: None, labels: {"rack": "1"}, network_unavailable: true }"#]]
        .assert_eq(&format!("{converted:?}"));
    let fine = node(&parse(
        "metadata: {name: n1}
status: {conditions: [{type: NetworkUnavailable, status: 'False'}]}",
    ));
    assert!(!fine.network_unavailable);
}
