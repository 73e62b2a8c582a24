use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn check(yaml: &str, class: Option<&str>, expect: Expect) {
    let object: core::Service = serde_saphyr::from_str(yaml).unwrap();
    expect.assert_eq(&match service(&object, class) {
        Some(service) => format!("{service:#?}"),
        None => "none of type LoadBalancer".to_owned(),
    });
}

#[test]
fn all_relevant_fields_are_read() {
    check(
        "
        metadata:
          name: web
          namespace: shop
          uid: u-1
          resourceVersion: '17'
          creationTimestamp: 1970-01-02T00:00:00Z
          labels: {app: web}
          annotations:
            metallb.io/address-pool: lan
            metallb.universe.tf/address-pool: old
            metallb.universe.tf/allow-shared-ip: key
            metallb.universe.tf/loadBalancerIPs: 10.0.0.1,fd00::1
            metallb.io/ip-allocated-from-pool: lan
        spec:
          type: LoadBalancer
          ipFamilies: [IPv6, IPv4]
          ipFamilyPolicy: RequireDualStack
          externalTrafficPolicy: Local
          selector: {b: '2', a: '1'}
          ports: [{port: 80}, {port: 53, protocol: UDP}]
        status:
          loadBalancer: {ingress: [{ip: 10.0.0.9}, {hostname: x}, {ip: 'fd00::9'}]}
        ",
        None,
        expect![[r#"
            Service {
                name: ObjectName {
                    namespace: "shop",
                    name: "web",
                },
                uid: "u-1",
                version: "17",
                created: 86400,
                is_ours: true,
                labels: {
                    "app": "web",
                },
                families: [
                    V6,
                    V4,
                ],
                policy: RequireDualStack,
                pool: Some(
                    "lan",
                ),
                requested: Ok(
                    [
                        10.0.0.1,
                        fd00::1,
                    ],
                ),
                sharing: Sharing {
                    key: "key",
                    backend: "Local:a=1,b=2",
                    ports: {
                        Port {
                            protocol: "TCP",
                            number: 80,
                        },
                        Port {
                            protocol: "UDP",
                            number: 53,
                        },
                    },
                },
                shown: [
                    10.0.0.9,
                    fd00::9,
                ],
                shown_pool: Some(
                    "lan",
                ),
                old_annotations: [
                    "metallb.universe.tf/address-pool",
                    "metallb.universe.tf/allow-shared-ip",
                    "metallb.universe.tf/loadBalancerIPs",
                ],
            }"#]],
    );
}

fn read(spec: &str) -> Service {
    let yaml = format!("metadata: {{name: web}}\nspec: {spec}");
    service(&serde_saphyr::from_str(&yaml).unwrap(), None).unwrap()
}

#[test]
fn a_service_of_another_type_is_ignored() {
    check(
        "spec: {type: ClusterIP}",
        None,
        expect!["none of type LoadBalancer"],
    );
}

#[test]
fn only_services_of_the_class_are_ours() {
    let is_ours = |spec: &str, class| {
        let yaml = format!("spec: {spec}");
        let object = serde_saphyr::from_str(&yaml).unwrap();
        service(&object, class).unwrap().is_ours
    };
    let without = "{type: LoadBalancer}";
    let with = "{type: LoadBalancer, loadBalancerClass: example.com/lb}";
    assert!(is_ours(without, None) && is_ours(with, Some("example.com/lb")));
    assert!(!is_ours(with, None) && !is_ours(without, Some("example.com/lb")));
    assert!(!is_ours(with, Some("another")));
}

#[test]
fn without_named_families_the_cluster_ips_decide() {
    let families = |spec: &str| read(spec).families;
    assert_eq!(
        families("{type: LoadBalancer, clusterIP: 'fd00::1'}"),
        [Family::V6]
    );
    assert_eq!(
        families("{type: LoadBalancer, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1']}"),
        [Family::V4, Family::V6]
    );
    assert_eq!(families("{type: LoadBalancer}"), []);
}

#[test]
fn unreadable_fields_are_named() {
    let why = read("{type: LoadBalancer, loadBalancerIP: nonsense}").requested;
    let expect = "spec.loadBalancerIP: \"nonsense\" is not an IP address";
    assert_eq!(why, Err(expect.to_owned()));
}
