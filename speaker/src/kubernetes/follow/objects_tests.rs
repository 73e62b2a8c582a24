use expect_test::{Expect, expect};
use speaker_core::intent::Node;

use super::*;

/// Hears one line each:
///
/// ```text
/// list KIND NAME…        list-begins KIND        list-ends KIND
/// there KIND NAME [rack=N|invalid|nothing]       gone KIND NAME
/// ```
fn hear(objects: &mut Objects, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let of = match words[1] {
            "nodes" => Resource::Nodes,
            "pods" => Resource::Agents,
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

/// With everything listed, of which these nodes.
fn synced(nodes: &str) -> Objects {
    let mut objects = Objects::default();
    for of in Resource::ALL {
        objects.hear(News {
            of,
            what: What::ListBegins,
        });
        if of == Resource::Nodes {
            hear(&mut objects, nodes);
        }
        objects.hear(News {
            of,
            what: What::ListEnds,
        });
    }
    objects
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
        let apply = apply
            .iter()
            .map(|object| format!("apply {}\n", object.key()));
        let refused = refused.iter().map(|it| format!("refused: {it}\n"));
        let peers = peers.map(|peers| format!("peers {peers:?}\n"));
        text.extend(delete.chain(apply).chain(refused).chain(peers));
    }
    expect.assert_eq(&text);
}

#[test]
fn nothing_is_told_before_every_kind_is_listed() {
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
fn an_empty_cluster_is_told_of_too() {
    check(
        &mut synced(""),
        expect![[r#"
        peers {}
    "#]],
    );
}

#[test]
fn only_what_differs_is_told() {
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
fn what_a_new_list_does_not_name_is_gone_when_it_ends() {
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
fn what_counts_no_longer_is_gone() {
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
fn of_what_is_invalid_the_last_valid_version_stays() {
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
fn the_agents_are_told_when_they_are_others() {
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
fn what_was_known_stands_in_until_the_kind_is_listed() {
    let known = || {
        let nodes = ["n1", "n2"].map(|name| Object::Node(Node::standalone(name)));
        (
            nodes.to_vec(),
            BTreeSet::from(["192.0.2.1".parse().unwrap()]),
        )
    };
    let mut objects = Objects::default();
    let (nodes, peers) = known();
    objects.stand_in(nodes, peers);
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
    hear(&mut objects, "list nodes n3");
    let (nodes, peers) = known();
    objects.stand_in(nodes, peers);
    check(
        &mut objects,
        expect![[r#"
        apply Node n3
        peers {192.0.2.1}
    "#]],
    );
}
