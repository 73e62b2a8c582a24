use expect_test::{Expect, expect};
use speaker_core::intent::{Labels, Node};

use super::*;

/// Handles one line each:
///
/// ```text
/// list KIND NAME…        list-begins KIND        list-ends KIND
/// there KIND NAME [rack=N|invalid|nothing]       gone KIND NAME
/// there pools NAME RANGE|invalid [CREATED]
/// ```
fn hear(objects: &mut Objects, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let of = match words[1] {
            "nodes" => Resource::Nodes,
            "pods" => Resource::Agents,
            "pools" => Resource::Pools,
            other => panic!("{other}"),
        };
        let what = match words[..] {
            ["list", _, ref names @ ..] => {
                objects.hear(News {
                    of,
                    what: What::ListBegins,
                });
                for name in names {
                    hear(objects, &format!("there {} {name}", words[1]));
                }
                What::ListEnds
            }
            ["list-begins", _] => What::ListBegins,
            ["list-ends", _] => What::ListEnds,
            ["gone", _, name] => What::Gone(ObjectName::new("", name)),
            ["there", "pods", address] => {
                let name = ObjectName::new("ns", format!("pod-{address}"));
                What::There(name, Item::Valid(Valid::Agent(address.parse().unwrap())))
            }
            ["there", _, name, ref options @ ..] => {
                let name_of = ObjectName::new("", name);
                let item = match options {
                    ["invalid"] => Item::Invalid(format!("{name} is invalid")),
                    ["nothing"] => Item::Nothing,
                    [range] if of == Resource::Pools => {
                        Item::Valid(Valid::Object(pool(name, range, 0)))
                    }
                    [range, created] if of == Resource::Pools => {
                        Item::Valid(Valid::Object(pool(name, range, created.parse().unwrap())))
                    }
                    labels => Item::Valid(Valid::Object(Object::Node(Node {
                        labels: labels
                            .iter()
                            .map(|label| label.split_once('=').unwrap())
                            .map(|(key, value)| (key.to_owned(), value.to_owned()))
                            .collect(),
                        ..Node::standalone(name)
                    }))),
                };
                What::There(name_of, item)
            }
            _ => panic!("{line}"),
        };
        objects.hear(News { of, what });
    }
}

fn pool(name: &str, range: &str, created: i64) -> Object {
    let ranges = vec![range.parse().unwrap()];
    let pool = Pool::new(ObjectName::new("", name), Labels::new(), ranges).unwrap();
    Object::Pool(pool.with_created(created))
}

/// With everything listed, including these.
fn synced(lines: &str) -> Objects {
    let mut objects = Objects::default();
    sync(&mut objects, lines);
    objects
}

fn sync(objects: &mut Objects, lines: &str) {
    for of in Resource::ALL {
        objects.hear(News {
            of,
            what: What::ListBegins,
        });
    }
    hear(objects, lines);
    for of in Resource::ALL {
        objects.hear(News {
            of,
            what: What::ListEnds,
        });
    }
}

/// The objects of an agent that was restarted when this was in force.
fn restarted(before: &Objects) -> Objects {
    let (objects, peers) = before.in_force();
    let mut restarted = Objects::default();
    restarted.recall(objects, peers);
    restarted
}

#[track_caller]
fn check(objects: &mut Objects, expect: Expect) {
    let mut text = String::new();
    while objects.has_change() {
        let Change {
            delete,
            apply,
            refused,
            peers,
        } = objects.take_change();
        let delete = delete.iter().map(|key| format!("delete {key}\n"));
        let apply = apply.iter().map(|object| match object {
            Object::Pool(pool) => format!("apply {} {}\n", object.key(), pool.addresses()[0]),
            _ => format!("apply {}\n", object.key()),
        });
        let refused = refused.iter().map(|it| format!("refused: {it}\n"));
        let peers = peers.map(|peers| format!("peers {peers:?}\n"));
        text.extend(delete.chain(apply).chain(refused).chain(peers));
    }
    expect.assert_eq(&text);
}

#[test]
fn nothing_is_reported_before_every_kind_is_listed() {
    let mut objects = Objects::default();
    hear(&mut objects, "list nodes n1\n list pods 192.0.2.1");
    assert!(!objects.has_change());
    let mut objects = synced("there nodes n1\n there nodes n2");
    check(
        &mut objects,
        expect![[r#"
        apply Node n1
        apply Node n2
        peers {}
    "#]],
    );
}

#[test]
fn an_empty_cluster_is_reported() {
    check(
        &mut synced(""),
        expect![[r#"
        peers {}
    "#]],
    );
}

#[test]
fn only_differences_are_reported() {
    let mut objects = synced("there nodes n1\n there nodes n2");
    objects.take_change();
    hear(&mut objects, "there nodes n1\n list nodes n1 n2");
    check(&mut objects, expect![[""]]);
    hear(&mut objects, "there nodes n1 rack=1\n gone nodes n2");
    check(
        &mut objects,
        expect![[r#"
        delete Node n2
        apply Node n1
    "#]],
    );
    hear(&mut objects, "there nodes n3\n gone nodes n3");
    check(&mut objects, expect![[""]]);
}

#[test]
fn objects_missing_from_a_new_list_are_gone() {
    let mut objects = synced("there nodes n1\n there nodes n2");
    objects.take_change();
    hear(&mut objects, "list-begins nodes\n there nodes n2");
    check(&mut objects, expect![[""]]);
    hear(&mut objects, "list-ends nodes");
    check(
        &mut objects,
        expect![[r#"
        delete Node n1
    "#]],
    );
}

#[test]
fn objects_that_no_longer_count_are_gone() {
    let mut objects = synced("there nodes n1");
    objects.take_change();
    hear(&mut objects, "there nodes n1 nothing");
    check(
        &mut objects,
        expect![[r#"
        delete Node n1
    "#]],
    );
}

#[test]
fn the_last_valid_version_of_an_invalid_object_stays() {
    let mut objects = synced("there nodes n1\n there nodes n2 invalid");
    check(
        &mut objects,
        expect![[r#"
        apply Node n1
        refused: n2 is invalid
        peers {}
    "#]],
    );
    hear(&mut objects, "there nodes n1 invalid");
    check(
        &mut objects,
        expect![[r#"
        refused: n1 is invalid
        refused: n2 is invalid
    "#]],
    );
    hear(&mut objects, "list nodes n1");
    check(&mut objects, expect![[""]]);
    hear(&mut objects, "there nodes n3 invalid\n gone nodes n3");
    check(&mut objects, expect![[""]]);
}

#[test]
fn after_a_restart_a_refused_object_keeps_its_earlier_version() {
    let mut before = synced("there nodes n1\n there pools lan 10.0.0.0/8\n there pods 192.0.2.1");
    before.take_change();
    let refused = "there nodes n1 invalid\n there nodes n2 invalid\n there pools lan invalid";
    hear(&mut before, refused);
    before.take_change();

    let mut objects = restarted(&before);
    sync(&mut objects, refused);
    check(
        &mut objects,
        expect![[r#"
            apply Node n1
            apply IPAddressPool lan 10.0.0.0/8
            refused: n1 is invalid
            refused: n2 is invalid
            refused: lan is invalid
            peers {}
        "#]],
    );
    // And once more.
    let mut objects = restarted(&objects);
    sync(&mut objects, "there pools lan invalid");
    check(
        &mut objects,
        expect![[r#"
            apply IPAddressPool lan 10.0.0.0/8
            refused: lan is invalid
            peers {}
        "#]],
    );
    hear(&mut objects, "gone pools lan");
    check(
        &mut objects,
        expect![[r#"
            delete IPAddressPool lan
        "#]],
    );
}

#[test]
fn objects_gone_since_a_restart_do_not_count() {
    let mut before = synced("there nodes n1\n there pools lan 10.0.0.0/8");
    before.take_change();
    let mut objects = restarted(&before);
    sync(&mut objects, "there pools new 10.0.0.0/24");
    check(
        &mut objects,
        expect![[r#"
            apply IPAddressPool new 10.0.0.0/24
            peers {}
        "#]],
    );
    hear(
        &mut objects,
        "there nodes n1 invalid\n there pools lan invalid",
    );
    check(
        &mut objects,
        expect![[r#"
            refused: n1 is invalid
            refused: lan is invalid
        "#]],
    );
}

#[test]
fn of_overlapping_pools_the_one_in_force_stays_even_across_a_restart() {
    let mut objects = synced("there pools lan 10.0.0.0/8\n there pools dmz 192.0.2.0/24");
    check(
        &mut objects,
        expect![[r#"
            apply IPAddressPool dmz 192.0.2.0/24
            apply IPAddressPool lan 10.0.0.0/8
            peers {}
        "#]],
    );
    hear(
        &mut objects,
        "there pools aaa 10.0.0.0/24\n there pools dmz 10.1.0.0/24",
    );
    check(
        &mut objects,
        expect![[r#"
            refused: IPAddressPool aaa: 10.0.0.0/24 overlaps 10.0.0.0/8 of IPAddressPool lan: give each address to one pool only
            refused: IPAddressPool dmz: 10.1.0.0/24 overlaps 10.0.0.0/8 of IPAddressPool lan: give each address to one pool only
        "#]],
    );
    let mut objects = restarted(&objects);
    sync(
        &mut objects,
        "there pools aaa 10.0.0.0/24\n there pools dmz 10.1.0.0/24\n there pools lan 10.0.0.0/8",
    );
    check(
        &mut objects,
        expect![[r#"
            apply IPAddressPool dmz 192.0.2.0/24
            apply IPAddressPool lan 10.0.0.0/8
            refused: IPAddressPool aaa: 10.0.0.0/24 overlaps 10.0.0.0/8 of IPAddressPool lan: give each address to one pool only
            refused: IPAddressPool dmz: 10.1.0.0/24 overlaps 10.0.0.0/8 of IPAddressPool lan: give each address to one pool only
            peers {}
        "#]],
    );
    // What waited comes into force when it is compatible with the rest.
    hear(&mut objects, "there pools lan 10.2.0.0/16");
    check(
        &mut objects,
        expect![[r#"
            apply IPAddressPool aaa 10.0.0.0/24
            apply IPAddressPool dmz 10.1.0.0/24
            apply IPAddressPool lan 10.2.0.0/16
        "#]],
    );
}

#[test]
fn of_overlapping_pools_a_new_agent_takes_the_older() {
    let mut objects = synced("there pools aaa 10.0.0.0/24 2\n there pools lan 10.0.0.0/8 1");
    check(
        &mut objects,
        expect![[r#"
            apply IPAddressPool lan 10.0.0.0/8
            refused: IPAddressPool aaa: 10.0.0.0/24 overlaps 10.0.0.0/8 of IPAddressPool lan: give each address to one pool only
            peers {}
        "#]],
    );
}

#[test]
fn changed_agents_are_reported() {
    let mut objects = synced("");
    objects.take_change();
    hear(&mut objects, "there pods 192.0.2.1\n there pods 192.0.2.2");
    check(
        &mut objects,
        expect![[r#"
        peers {192.0.2.1, 192.0.2.2}
    "#]],
    );
    hear(&mut objects, "list pods 192.0.2.2 192.0.2.1");
    check(&mut objects, expect![[""]]);
}

#[test]
fn known_objects_stand_in_until_their_kind_is_listed() {
    let known = || {
        let nodes = ["n1", "n2"].map(|name| Object::Node(Node::standalone(name)));
        (
            nodes.to_vec(),
            BTreeSet::from(["192.0.2.1".parse().unwrap()]),
        )
    };
    let mut objects = Objects::default();
    let (nodes, peers) = known();
    objects.recall(nodes, peers);
    assert!(!objects.has_change(), "the API server may answer yet");
    objects.stand_in();
    check(
        &mut objects,
        expect![[r#"
        apply Node n1
        apply Node n2
        peers {192.0.2.1}
    "#]],
    );
    hear(&mut objects, "list nodes n2 n3\n list pods 192.0.2.2");
    check(
        &mut objects,
        expect![[r#"
        delete Node n1
        apply Node n2
        apply Node n3
        peers {192.0.2.2}
    "#]],
    );

    let mut objects = Objects::default();
    let (nodes, peers) = known();
    objects.recall(nodes, peers);
    hear(&mut objects, "list nodes n3");
    objects.stand_in();
    check(
        &mut objects,
        expect![[r#"
        apply Node n3
        peers {192.0.2.1}
    "#]],
    );
}
