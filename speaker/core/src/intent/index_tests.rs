use std::collections::BTreeSet;

use expect_test::{Expect, expect};

use super::*;
use crate::intent::{Endpoints, Interfaces, Labels, Selector};

#[path = "eligibility_tests.rs"]
mod eligibility;

/// Applies one object per line, and returns whether any makes a difference:
///
/// ```text
/// pool NAME RANGE,… [KEY=VALUE]…
/// advertise NAME [pools:NAME,…] [pool:KEY=VALUE]… [node:KEY=VALUE]… [service:KEY=VALUE]… [on:NAME,…]
///     [WEIGHT:KEY=VALUE]…
/// service NAME ADDRESS,… [class:NAME] [local] [KEY=VALUE]…
/// slice NAME SERVICE NODE,…|- (the node `?` is an unnamed one)
/// node NAME [unavailable] [KEY=VALUE]…
/// delete pool|advertise|service|slice|node NAME
/// ```
fn given(intent: &mut Intent, lines: &str) -> bool {
    let mut changed = false;
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        changed |= match words[..] {
            ["delete", kind, name] => {
                let kind = match kind {
                    "pool" => Kind::Pool,
                    "advertise" => Kind::Advertisement,
                    "service" => Kind::Service,
                    "slice" => Kind::Endpoints,
                    "node" => Kind::Node,
                    other => panic!("{other}"),
                };
                let name = named(name);
                intent.delete(&Key { kind, name })
            }
            ["slice", name, service, nodes] => {
                let mut nodes: BTreeSet<String> = nodes.split(',').map(str::to_owned).collect();
                nodes.remove("-");
                intent.apply(Object::Endpoints(Endpoints {
                    name: named(name),
                    service: named(service),
                    elsewhere: nodes.remove("?"),
                    nodes,
                }))
            }
            ["node", name, ref options @ ..] => {
                let labels = options.iter().filter(|it| **it != "unavailable");
                intent.apply(Object::Node(Node {
                    name: ObjectName::new("", name),
                    uid: None,
                    labels: labels.map(|it| label(it)).collect(),
                    network_unavailable: options.contains(&"unavailable"),
                }))
            }
            ["pool", name, ranges, ref labels @ ..] => {
                let ranges = ranges.split(',').map(|range| range.parse().unwrap());
                let labels = labels.iter().map(|it| label(it)).collect();
                let pool = Pool::new(named(name), labels, ranges.collect()).unwrap();
                intent.apply(Object::Pool(pool))
            }
            ["advertise", name, ref options @ ..] => {
                let mut advertisement = Advertisement {
                    name: named(name),
                    pools: [].into(),
                    pool_selectors: Vec::new(),
                    node_selectors: Vec::new(),
                    service_selectors: Vec::new(),
                    interfaces: Interfaces::All,
                    preferences: Vec::new(),
                };
                for option in options {
                    let (option, value) = option.split_once(':').unwrap();
                    let names = || value.split(',').map(str::to_owned).collect();
                    let selector = || Selector::by_labels([label(value)].into()).unwrap();
                    match option {
                        "pools" => advertisement.pools = names(),
                        "pool" => advertisement.pool_selectors.push(selector()),
                        "node" => advertisement.node_selectors.push(selector()),
                        "service" => advertisement.service_selectors.push(selector()),
                        "on" => advertisement.interfaces = Interfaces::Named(names()),
                        weight => {
                            let weight = weight.parse().unwrap();
                            advertisement.preferences.push((weight, selector()));
                        }
                    }
                }
                intent.apply(Object::Advertisement(advertisement))
            }
            ["service", name, addresses, ref options @ ..] => {
                let local = options.contains(&"local");
                let options = options.iter().filter(|option| **option != "local");
                let (classes, labels): (Vec<&str>, Vec<&str>) =
                    options.partition(|option| option.starts_with("class:"));
                intent.apply(Object::Service(Service {
                    name: named(name),
                    uid: None,
                    labels: labels.into_iter().map(label).collect(),
                    class: classes
                        .first()
                        .map(|class| class["class:".len()..].to_owned()),
                    local,
                    addresses: match addresses {
                        "-" => Vec::new(),
                        list => list.split(',').map(|it| it.parse().unwrap()).collect(),
                    },
                }))
            }
            _ => panic!("{line}"),
        }
    }
    changed
}

fn named(name: &str) -> ObjectName {
    match name.split_once('/') {
        Some((namespace, name)) => ObjectName::new(namespace, name),
        None => ObjectName::new("ns", name),
    }
}

fn label(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap();
    (key.to_owned(), value.to_owned())
}

fn node(labels: &str) -> Node {
    Node {
        name: ObjectName::new("", "n1"),
        uid: None,
        labels: labels.split_whitespace().map(label).collect(),
        network_unavailable: false,
    }
}

fn render(wanted: &Wanted) -> String {
    let node = &wanted.node;
    let vips = wanted.vips.iter().map(|(vip, wanted)| {
        let services: Vec<_> = wanted.services.iter().map(ToString::to_string).collect();
        let services = services.join(" ");
        if let Some(reason) = wanted.refusal_on(node) {
            return format!("{vip} for {services} elsewhere: {reason}");
        }
        let interfaces = match wanted.interfaces_on(node).expect("it is not refused") {
            Interfaces::All => "all".to_owned(),
            Interfaces::Named(names) => names.iter().cloned().collect::<Vec<_>>().join(","),
        };
        let preferred = match wanted.preference {
            0 => String::new(),
            preference => format!(", preferred by {preference}"),
        };
        format!(
            "{vip} for {services} on {interfaces}, group {}{preferred}",
            wanted.group.0
        )
    });
    let refused = wanted.refused.iter().map(|refusal| match refusal.address {
        Some(address) => format!("not {address} of {}: {}", refusal.service, refusal.reason),
        None => format!("not {}: {}", refusal.service, refusal.reason),
    });
    vips.chain(refused).map(|line| line + "\n").collect()
}

/// What a node with these labels should announce.
#[track_caller]
fn check_on(labels: &str, lines: &str, expect: Expect) {
    let mut intent = Intent::default();
    given(&mut intent, lines);
    expect.assert_eq(&render(&intent.wanted(&node(labels))));
}

#[track_caller]
fn check(lines: &str, expect: Expect) {
    check_on("", lines, expect);
}

#[test]
fn a_vip_needs_a_pool_and_an_advertisement() {
    check(
        "pool lan 10.0.0.0/24,fd00::/64
         advertise all
         service web 10.0.0.1,fd00::1
         service db 10.0.1.1",
        expect![[r#"
            10.0.0.1 for ns/web on all, group 10.0.0.1
            fd00::1 for ns/web on all, group 10.0.0.1
            not 10.0.1.1 of ns/db: no IPAddressPool holds this address: add it to one
        "#]],
    );
    check(
        "pool lan 10.0.0.0/24
         service web 10.0.0.1",
        expect![[r#"
            not 10.0.0.1 of ns/web: no L2Advertisement covers IPAddressPool ns/lan: add one to its namespace that names the pool, or one that names no pools and so covers all
        "#]],
    );
}

#[test]
fn the_edges_of_a_pool_belong_to_it() {
    check(
        "pool lan 10.0.0.10-10.0.0.19,10.0.0.30/32
         advertise all
         service s 10.0.0.9,10.0.0.10,10.0.0.19,10.0.0.20,10.0.0.30,10.0.0.31,9.0.0.1,fd00::1",
        expect![[r#"
            10.0.0.10 for ns/s on all, group 9.0.0.1
            10.0.0.19 for ns/s on all, group 9.0.0.1
            10.0.0.30 for ns/s on all, group 9.0.0.1
            not 10.0.0.9 of ns/s: no IPAddressPool holds this address: add it to one
            not 10.0.0.20 of ns/s: no IPAddressPool holds this address: add it to one
            not 10.0.0.31 of ns/s: no IPAddressPool holds this address: add it to one
            not 9.0.0.1 of ns/s: no IPAddressPool holds this address: add it to one
            not fd00::1 of ns/s: no IPAddressPool holds this address: add it to one
        "#]],
    );
}

#[test]
fn an_advertisement_covers_named_and_selected_pools_of_its_namespace_or_all() {
    let pools_and_services = "
        pool a 10.0.1.0/24
        pool b 10.0.2.0/24 tier=gold
        pool c 10.0.3.0/24 tier=lead
        pool other/a 10.0.4.0/24 tier=gold
        service s 10.0.1.1,10.0.2.1,10.0.3.1,10.0.4.1
    ";
    let covered = |advertisement: &str| {
        let mut intent = Intent::default();
        given(&mut intent, pools_and_services);
        given(&mut intent, advertisement);
        let wanted = intent.wanted(&node(""));
        let vips: Vec<_> = wanted.vips.keys().map(ToString::to_string).collect();
        vips.join(" ")
    };
    assert_eq!(covered("advertise all"), "10.0.1.1 10.0.2.1 10.0.3.1");
    assert_eq!(covered("advertise x pools:a,nowhere"), "10.0.1.1");
    assert_eq!(covered("advertise x pool:tier=gold"), "10.0.2.1");
    assert_eq!(
        covered("advertise x pool:tier=gold pool:tier=lead"),
        "10.0.2.1 10.0.3.1"
    );
    assert_eq!(
        covered("advertise x pools:a pool:tier=gold"),
        "10.0.1.1 10.0.2.1"
    );
    assert_eq!(covered("advertise x pool:tier=none"), "");
    assert_eq!(covered("advertise other/x"), "10.0.4.1");
}

#[test]
fn service_selectors_narrow_an_advertisement() {
    check(
        "pool lan 10.0.0.0/24
         advertise web service:app=web service:app=www
         service a 10.0.0.1 app=web
         service b 10.0.0.2 app=www
         service c 10.0.0.3 app=db",
        expect![[r#"
            10.0.0.1 for ns/a on all, group 10.0.0.1
            10.0.0.2 for ns/b on all, group 10.0.0.2
            not 10.0.0.3 of ns/c: L2Advertisement ns/web selects Services by labels that this one does not have
        "#]],
    );
}

#[test]
fn node_selectors_narrow_an_advertisement() {
    let lines = "
        pool lan 10.0.0.0/24
        advertise ab node:zone=a node:zone=b
        service web 10.0.0.1
    ";
    check_on(
        "zone=b",
        lines,
        expect![[r#"
            10.0.0.1 for ns/web on all, group 10.0.0.1
        "#]],
    );
    check_on(
        "zone=c",
        lines,
        expect![[r#"
            10.0.0.1 for ns/web elsewhere: L2Advertisement ns/ab selects nodes by labels that n1 does not have
        "#]],
    );
}

#[test]
fn interfaces_of_matching_advertisements_are_merged_and_all_wins() {
    let lines = "
        pool lan 10.0.0.0/24
        advertise a on:eth0,eth1 service:app=web
        advertise b on:eth2 service:app=web
        advertise c on:eth3 node:zone=far
        advertise d node:zone=near
        service web 10.0.0.1 app=web
    ";
    check(
        lines,
        expect![[r#"
            10.0.0.1 for ns/web on eth0,eth1,eth2, group 10.0.0.1
        "#]],
    );
    check_on(
        "zone=near",
        lines,
        expect![[r#"
            10.0.0.1 for ns/web on all, group 10.0.0.1
        "#]],
    );
}

#[test]
fn removing_one_of_two_services_on_an_address_keeps_the_other() {
    let mut intent = Intent::default();
    given(
        &mut intent,
        "pool lan 10.0.0.0/24
         advertise web on:eth0 service:app=web
         advertise dns on:eth1 service:app=dns
         service web 10.0.0.1 app=web
         service dns 10.0.0.1 app=dns
         service db 10.0.0.1",
    );
    expect![[r#"
        10.0.0.1 for ns/dns ns/web on eth0,eth1, group 10.0.0.1
        not 10.0.0.1 of ns/db: L2Advertisement ns/dns, ns/web selects Services by labels that this one does not have
    "#]]
    .assert_eq(&render(&intent.wanted(&node(""))));
    given(&mut intent, "delete service web\n delete service db");
    expect![[r#"
        10.0.0.1 for ns/dns on eth1, group 10.0.0.1
    "#]]
    .assert_eq(&render(&intent.wanted(&node(""))));
    given(&mut intent, "delete service dns");
    expect![""].assert_eq(&render(&intent.wanted(&node(""))));
}

#[test]
fn shared_addresses_join_dual_stack_groups_on_every_node_alike() {
    let lines = "
        pool lan 10.0.0.0/24,fd00::/64
        advertise all
        advertise far on:eth9 node:zone=far
        service a 10.0.0.5,fd00::5
        service b fd00::5,10.0.0.3
        service c 10.0.0.4
    ";
    for labels in ["", "zone=far"] {
        check_on(
            labels,
            lines,
            expect![[r#"
                10.0.0.3 for ns/b on all, group 10.0.0.3
                10.0.0.4 for ns/c on all, group 10.0.0.4
                10.0.0.5 for ns/a on all, group 10.0.0.3
                fd00::5 for ns/a ns/b on all, group 10.0.0.3
            "#]],
        );
    }
}

#[test]
fn only_services_of_the_class_are_served() {
    let lines = "
        pool lan 10.0.0.0/24
        advertise all
        service none 10.0.0.1
        service ours 10.0.0.2 class:ours
        service theirs 10.0.0.3 class:theirs
    ";
    check(
        lines,
        expect![[r#"
            10.0.0.1 for ns/none on all, group 10.0.0.1
            not ns/ours: the loadBalancerClass is "ours", and this speaker serves Services without one
            not ns/theirs: the loadBalancerClass is "theirs", and this speaker serves Services without one
        "#]],
    );
    let mut intent = Intent::new(Terms {
        class: Some("ours".to_owned()),
        ..Terms::default()
    });
    given(&mut intent, lines);
    expect![[r#"
        10.0.0.2 for ns/ours on all, group 10.0.0.2
        not ns/none: the Service has no loadBalancerClass, and this speaker serves "ours"
        not ns/theirs: the loadBalancerClass is "theirs", and this speaker serves "ours"
    "#]]
    .assert_eq(&render(&intent.wanted(&node(""))));
}

#[test]
fn addresses_that_cannot_be_answered_are_refused() {
    check(
        "pool everything 0.0.0.0/0,::/0
         advertise all
         service none -
         service bad 0.0.0.0,127.0.0.1,224.0.0.9,255.255.255.255,::,::1,ff02::1",
        expect![[r#"
            not 0.0.0.0 of ns/bad: no host can answer for this address: give the Service a unicast address
            not 127.0.0.1 of ns/bad: no host can answer for this address: give the Service a unicast address
            not 224.0.0.9 of ns/bad: no host can answer for this address: give the Service a unicast address
            not 255.255.255.255 of ns/bad: no host can answer for this address: give the Service a unicast address
            not :: of ns/bad: no host can answer for this address: give the Service a unicast address
            not ::1 of ns/bad: no host can answer for this address: give the Service a unicast address
            not ff02::1 of ns/bad: no host can answer for this address: give the Service a unicast address
            not ns/none: the Service has no address yet: a controller assigns one; without a controller, set its annotation metallb.io/loadBalancerIPs
        "#]],
    );
}

#[test]
fn label_changes_start_and_stop_announcing() {
    let mut intent = Intent::default();
    given(
        &mut intent,
        "pool lan 10.0.0.0/24
         advertise web service:app=web
         service s 10.0.0.1",
    );
    assert!(intent.wanted(&node("")).vips.is_empty());
    given(&mut intent, "service s 10.0.0.1 app=web");
    assert_eq!(intent.wanted(&node("")).vips.len(), 1);
    given(&mut intent, "service s 10.0.0.1");
    assert!(intent.wanted(&node("")).vips.is_empty());
}

#[test]
fn a_standalone_node_has_its_host_name_as_label() {
    assert_eq!(
        Node::standalone("n1").labels,
        Labels::from([("kubernetes.io/hostname".to_owned(), "n1".to_owned())])
    );
}

#[test]
fn sixteen_thousand_dual_stack_services() {
    let mut intent = Intent::default();
    given(
        &mut intent,
        "pool lan 10.0.0.0/16,fd00::/64\n advertise all",
    );
    for n in 0..1_u32 << 14 {
        intent.apply(Object::Service(Service {
            name: ObjectName::new("ns", n.to_string()),
            uid: None,
            labels: Labels::new(),
            class: None,
            local: false,
            addresses: vec![
                (0x0a00_0000 + n).to_be_bytes().into(),
                (0xfd00 << 112 | u128::from(n)).to_be_bytes().into(),
            ],
        }));
    }
    assert_eq!(intent.wanted(&node("")).vips.len(), 1 << 15);
}
