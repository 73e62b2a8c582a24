use expect_test::{Expect, expect};

use super::*;

fn name(service: &str) -> ObjectName {
    ObjectName::new("ns", service)
}

fn record(service: &str, node: &str) -> (String, Record) {
    let record = Record {
        service: name(service),
        node: node.to_owned(),
        is_complete: true,
        interfaces: BTreeSet::from(["eth0".to_owned()]),
        is_foreign: false,
        resource_version: Some("7".to_owned()),
    };
    (status_name(&name(service)), record)
}

/// Of node `b`.
fn publication(announced: &[&str], elsewhere: &[&str], live: &[&str]) -> Publication {
    let eth0 = BTreeSet::from(["eth0".to_owned()]);
    Publication {
        announced: announced
            .iter()
            .map(|it| (name(it), eth0.clone()))
            .collect(),
        elsewhere: elsewhere.iter().map(|it| name(it)).collect(),
        live: live.iter().map(|it| (*it).to_owned()).collect(),
        ..Publication::default()
    }
}

#[track_caller]
fn check(publication: &Publication, records: &[(String, Record)], expect: Expect) {
    let mut told = Told::default();
    let mut records: BTreeMap<_, _> = records.iter().cloned().collect();
    let todo = steps("b", publication, &records, &told);
    let mut text = String::new();
    for step in &todo {
        text += &match step {
            Step::Claim {
                service, is_news, ..
            } => format!("claim {service}, news: {is_news}\n"),
            Step::Remove { name, .. } => format!("remove {name}\n"),
            other => format!("{other:?}\n"),
        };
    }
    expect.assert_eq(&text);
    for step in todo {
        step.note("b", &mut records, &mut told);
    }
    let said = steps("b", publication, &records, &told);
    assert!(said.iter().all(|step| matches!(step, Step::Say { .. })));
    for step in said {
        step.note("b", &mut records, &mut told);
    }
    let more = steps("b", publication, &records, &told);
    assert_eq!(more, [], "nothing is left to be done");
}

const ALL: &[&str] = &["a", "b", "c"];

#[test]
fn an_announced_service_is_claimed_once() {
    let announced = publication(&["web"], &[], ALL);
    check(
        &announced,
        &[],
        expect![[r#"
        claim ns/web, news: true
    "#]],
    );
    check(&announced, &[record("web", "b")], expect![[""]]);
}

#[test]
fn a_take_over_is_news_and_a_change_of_links_is_not() {
    let announced = publication(&["web"], &[], ALL);
    check(
        &announced,
        &[record("web", "a")],
        expect![[r#"
        claim ns/web, news: true
    "#]],
    );
    let mut moved = record("web", "b");
    moved.1.interfaces = BTreeSet::from(["eth1".to_owned()]);
    check(
        &announced,
        &[moved],
        expect![[r#"
        claim ns/web, news: false
    "#]],
    );
}

#[test]
fn a_status_is_removed_by_its_former_announcer() {
    let nothing = publication(&[], &[], ALL);
    check(
        &nothing,
        &[record("web", "b")],
        expect![[r#"
        remove l2-4cd4af21ba
    "#]],
    );
    check(&nothing, &[record("web", "a")], expect![[""]]);
}

#[test]
fn services_of_other_nodes_are_left_alone() {
    let moved = publication(&[], &["web"], ALL);
    check(&moved, &[record("web", "b")], expect![[""]]);
}

#[test]
fn statuses_of_a_gone_node_are_removed_by_the_first_other_node() {
    let left = [record("web", "x")];
    check(
        &publication(&[], &[], &["b", "c"]),
        &left,
        expect![[r#"
        remove l2-4cd4af21ba
    "#]],
    );
    check(&publication(&[], &[], &["a", "b"]), &left, expect![[""]]);
}

#[test]
fn a_node_whose_name_is_too_long_for_a_label_is_live() {
    let long = "x".repeat(64);
    let left = [record("web", &node_label(&long))];
    check(&publication(&[], &[], &["b", &long]), &left, expect![[""]]);
}

#[test]
fn a_service_with_a_metallb_status_is_left_alone() {
    let announced = publication(&["web", "db"], &[], ALL);
    let of_metallb = |node: &str| {
        let (_, mut record) = record("web", node);
        record.is_foreign = true;
        ("l2-x7k2p".to_owned(), record)
    };
    for node in ["a", "b", "x"] {
        check(
            &announced,
            &[of_metallb(node), record("db", "b")],
            expect![[""]],
        );
        check(
            &publication(&[], &[], &["b"]),
            &[of_metallb(node), record("web", "b")],
            expect![[""]],
        );
    }
    // MetalLB's speaker has taken this one over.
    let mut adopted = record("web", "b");
    adopted.1.interfaces.clear();
    adopted.1.is_foreign = true;
    check(&announced, &[adopted, record("db", "b")], expect![[""]]);
    // And when nothing of it is left:
    check(
        &announced,
        &[record("db", "b")],
        expect![[r#"
        claim ns/web, news: true
    "#]],
    );
}

#[test]
fn a_failure_is_reported_once_and_when_it_changes() {
    let failing = |reason: &str| Publication {
        failed: BTreeMap::from([(name("web"), reason.to_owned())]),
        uids: BTreeMap::from([(name("web"), "u-1".to_owned())]),
        ..Publication::default()
    };
    let mut told = Told::default();
    let mut records = BTreeMap::new();
    let mut tell = |publication: &Publication| {
        let todo = steps("b", publication, &records, &told);
        let text: Vec<_> = todo.iter().map(|step| format!("{step:?}")).collect();
        for step in todo {
            step.note("b", &mut records, &mut told);
        }
        text.join("\n")
    };
    let no_nic = r#"Fail { service: ObjectName { namespace: "ns", name: "web" }, uid: Some("u-1"), reason: "no NIC" }"#;
    let no_pool = no_nic.replace("NIC", "pool");
    assert_eq!(tell(&failing("no NIC")), no_nic);
    assert_eq!(tell(&failing("no NIC")), "");
    assert_eq!(tell(&failing("no pool")), no_pool);
    expect![[r#"Forget { service: ObjectName { namespace: "ns", name: "web" } }"#]]
        .assert_eq(&tell(&Publication::default()));
    assert_eq!(tell(&failing("no pool")), no_pool);
}

#[test]
fn a_deleted_verdict_is_written_again() {
    let judgement = Judgement::new(["overlaps".to_owned()], Some("u-1".to_owned()));
    let publication = Publication {
        judgement: Some(judgement.clone()),
        ..Publication::default()
    };
    let is_written = |said: Said| {
        let told = Told {
            judged: said,
            ..Told::default()
        };
        let steps = steps("b", &publication, &BTreeMap::new(), &told);
        assert!(steps.iter().all(|it| *it == Step::Judge(judgement.clone())));
        !steps.is_empty()
    };
    let other_node = Judgement::new(["overlaps".to_owned()], Some("u-2".to_owned()));
    assert!(!is_written(Said::Unknown), "it may say so");
    assert!(!is_written(Said::Foreign));
    assert!(!is_written(Said::This(judgement.clone())));
    assert!(is_written(Said::Nothing));
    assert!(is_written(Said::This(other_node)));
}

#[test]
fn a_take_over_has_one_event_after_the_status() {
    let announced = publication(&["web"], &[], ALL);
    let mut told = Told::default();
    let mut records = BTreeMap::new();
    let mut kinds = Vec::new();
    for _ in 0..4 {
        for step in steps("b", &announced, &records, &told) {
            kinds.push(step.to_string());
            step.note("b", &mut records, &mut told);
        }
    }
    assert_eq!(
        kinds,
        [
            "write the ServiceL2Status of ns/web",
            "write an event of Service ns/web"
        ]
    );
    // It is gone, and nothing has moved.
    records.clear();
    let again = steps("b", &announced, &records, &told);
    let is_news = |step: &Step| matches!(step, Step::Claim { is_news: true, .. });
    assert!(again.len() == 1 && !again.iter().any(is_news), "{again:?}");
}
