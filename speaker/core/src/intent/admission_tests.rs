use proptest::{collection::vec, prelude::*};

use super::*;
use crate::intent::{Labels, Service};

/// Objects as words: `web` is a Service, `lan:10.0.0.0/24` a pool.
impl Claimant for Vec<Object> {
    fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        (0..)
            .zip(self)
            .flat_map(|(place, object)| Claim::of(place, object))
    }
}

fn objects(words: &str) -> Vec<Object> {
    words.split_whitespace().map(object).collect()
}

fn object(word: &str) -> Object {
    match word.split_once(':') {
        Some((name, ranges)) => {
            let ranges = ranges.split(',').map(|range| range.parse().unwrap());
            Object::Pool(Pool::new(named(name), Labels::new(), ranges.collect()).unwrap())
        }
        None => Object::Service(Service {
            name: named(word),
            uid: None,
            labels: Labels::new(),
            class: None,
            local: false,
            addresses: Vec::new(),
        }),
    }
}

fn named(name: &str) -> ObjectName {
    ObjectName::new("ns", name)
}

/// Offers `source = words`, or withdraws `source`, all steps of a line at once; after each line,
/// says what is in force (`source: names`) and what conflicts.
#[track_caller]
fn check(lines: &[(&str, &str)]) {
    let mut admission = Admission::default();
    for &(line, expect) in lines {
        for step in line.split(';').map(str::trim) {
            match step.split_once('=') {
                Some((source, words)) => admission.offer(source.trim(), objects(words)),
                None => admission.withdraw(&step),
            }
        }
        let conflicts = admission.settle();
        let in_force = admission.in_force().map(|(source, content)| {
            let names: Vec<_> = content.iter().map(|it| it.name().name.as_str()).collect();
            format!("{source}: {}", names.join(" "))
        });
        let conflicts = conflicts
            .iter()
            .map(|(source, conflict)| format!("{source} ({}): {conflict}", conflict.holder));
        let found: Vec<_> = in_force.chain(conflicts).collect();
        assert_eq!(found.join("\n"), expect, "after {line:?}");
    }
}

#[test]
fn compatible_sources_are_in_force() {
    check(&[
        ("a = web lan:10.0.0.0/24; b = db", "a: web lan\nb: db"),
        ("b = db dmz:10.0.1.0/24", "a: web lan\nb: db dmz"),
        ("a", "b: db dmz"),
    ]);
}

#[test]
fn a_duplicate_object_keeps_the_one_in_force_and_names_both() {
    check(&[
        ("b = web", "b: web"),
        (
            "a = db web",
            "b: web\na (b): Service ns/web is defined twice: remove one",
        ),
        ("b", "a: db web"),
    ]);
}

#[test]
fn initially_the_first_source_wins() {
    check(&[(
        "b = web; a = web",
        "a: web\nb (a): Service ns/web is defined twice: remove one",
    )]);
}

#[test]
fn initially_the_oldest_pool_wins() {
    let pool = |name: &str, created| {
        let ranges = vec!["10.0.0.0/24".parse().unwrap()];
        let pool = Pool::new(named(name), Labels::new(), ranges).unwrap();
        pool.with_created(created)
    };
    let mut admission = Admission::default();
    for (name, created) in [("aaa", 3), ("lan", 1), ("new", 2)] {
        admission.offer(name, pool(name, created));
    }
    let conflicts = admission.settle();
    assert_eq!(conflicts.keys().collect::<Vec<_>>(), [&"aaa", &"new"]);
    // What is in force stays, even if something older arrives.
    admission.offer("old", pool("old", 0));
    assert!(admission.settle().contains_key("old"));
    admission.withdraw(&"lan");
    admission.settle();
    let in_force: Vec<_> = admission.in_force().map(|(name, _)| *name).collect();
    assert_eq!(in_force, ["old"]);
}

#[test]
fn a_source_may_conflict_with_itself() {
    check(&[(
        "a = web db web",
        "a (a): Service ns/web is defined twice: remove one",
    )]);
}

#[test]
fn objects_of_different_kinds_may_share_a_name() {
    check(&[("a = web; b = web:10.0.0.0/24", "a: web\nb: web")]);
}

#[test]
fn the_last_valid_content_stays_until_the_conflict_is_gone() {
    check(&[
        ("a = lan:10.0.0.0/24; b = dmz:10.0.1.0/24", "a: lan\nb: dmz"),
        (
            "b = dmz2:10.0.0.128/25,10.0.1.0/24",
            "a: lan\nb: dmz\n\
             b (a): IPAddressPool ns/dmz2: 10.0.0.128/25 overlaps 10.0.0.0/24 of IPAddressPool \
             ns/lan: give each address to one pool only",
        ),
        ("a = lan:10.0.0.0/25", "a: lan\nb: dmz2"),
    ]);
}

#[test]
fn pools_may_swap_their_addresses() {
    check(&[
        ("a = lan:10.0.0.0/24; b = dmz:10.0.1.0/24", "a: lan\nb: dmz"),
        ("b = dmz:10.0.0.0/24; a = lan:10.0.1.0/24", "a: lan\nb: dmz"),
    ]);
}

#[test]
fn a_conflict_does_not_affect_other_sources() {
    check(&[
        ("a = web; b = db", "a: web\nb: db"),
        (
            "b = web; c = new",
            "a: web\nb: db\nc: new\nb (a): Service ns/web is defined twice: remove one",
        ),
    ]);
}

#[test]
fn retracted_content_does_not_come_back() {
    let mut admission = Admission::default();
    admission.offer("a", objects("web"));
    admission.offer("b", objects("db"));
    assert!(admission.settle().is_empty());
    admission.offer("b", objects("web"));
    admission.offer("c", objects("db"));
    assert_eq!(admission.settle().len(), 2);
    admission.retract(&"b");
    admission.retract(&"c");
    admission.withdraw(&"a");
    assert!(admission.settle().is_empty());
    let in_force: Vec<_> = admission.in_force().collect();
    assert_eq!(in_force, [(&"b", &objects("db"))]);
}

/// Whether no two claims of these contents conflict, by comparing all pairs.
fn go_together<'a>(contents: impl IntoIterator<Item = &'a Vec<Object>>) -> bool {
    let claims: Vec<_> = contents.into_iter().flat_map(Claimant::claims).collect();
    claims.iter().enumerate().all(|(index, a)| {
        claims[..index]
            .iter()
            .all(|b| match (a.addresses, b.addresses) {
                (Some(x), Some(y)) => x.last() < y.first() || y.last() < x.first(),
                (None, None) => (a.kind, a.name) != (b.kind, b.name),
                _ => true,
            })
    })
}

fn any_object() -> impl Strategy<Value = Object> {
    let service = "[a-d]".prop_map(|name| object(&name));
    let range = (0..2_u8, 0..40_u8, 0..8_u8).prop_map(|(family, first, length)| {
        let last = first + length;
        match family {
            0 => format!("10.0.0.{first}-10.0.0.{last}"),
            _ => format!("fd00::{first:x}-fd00::{last:x}"),
        }
    });
    let pool = ("[a-d]", range).prop_map(|(name, range)| object(&format!("{name}:{range}")));
    prop_oneof![service, pool]
}

proptest! {
    #[test]
    fn as_much_as_possible_is_in_force_without_conflicts(
        steps in vec((0..5_u8, prop::option::weighted(0.8, vec(any_object(), 0..4))), 1..20),
        batch in 1..4_usize,
    ) {
        let mut admission = Admission::default();
        let mut before = BTreeMap::new();
        for steps in steps.chunks(batch) {
            for (source, content) in steps {
                match content {
                    Some(content) => admission.offer(*source, content.clone()),
                    None => admission.withdraw(source),
                }
            }
            before.retain(|source, _| admission.in_force.contains_key(source));
            let conflicts = admission.settle();
            let (newest, in_force) = (&admission.newest, &admission.in_force);

            prop_assert!(go_together(in_force.values().map(|it| &**it)));
            if go_together(newest.values().map(|it| &**it)) {
                prop_assert_eq!(in_force, newest);
            }
            for (source, content) in newest {
                let waits = in_force.get(source) != Some(content);
                prop_assert_eq!(waits, conflicts.contains_key(source), "source {}", source);
                if waits {
                    prop_assert_eq!(in_force.get(source), before.get(source), "the last valid");
                    let mut tried = in_force.clone();
                    tried.insert(*source, Arc::clone(content));
                    prop_assert!(!go_together(tried.values().map(|it| &**it)));
                }
            }
            before = in_force.clone();
        }
    }
}
