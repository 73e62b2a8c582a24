use expect_test::{Expect, expect};

use super::*;

/// Scans a directory of these files. Each step is `name = content`, where the content is objects
/// (see [`text`]), `bad`, `unreadable`, or nothing for a file that is gone.
struct Given {
    directory: Directory,
    files: BTreeMap<PathBuf, Seen>,
}

impl Given {
    fn new(last_good: &[(&str, &str)]) -> Self {
        let last_good = last_good
            .iter()
            .map(|(file, words)| (PathBuf::from(file), text(words)));
        Self {
            directory: Directory::new("/m".into(), last_good.collect()),
            files: BTreeMap::new(),
        }
    }

    #[track_caller]
    fn look(&mut self, steps: &[(&str, &str)], expect: Expect) -> &mut Self {
        for seen in self.files.values_mut() {
            if matches!(seen, Seen::Text(_)) {
                *seen = Seen::Unchanged;
            }
        }
        for &(file, content) in steps {
            let seen = match content {
                "" => {
                    self.files.remove(Path::new(file));
                    continue;
                }
                "unreadable" => Seen::Unreadable("Permission denied".to_owned()),
                words => Seen::Text(text(words)),
            };
            self.files.insert(file.into(), seen);
        }
        let update = self.directory.update(Ok(self.files.clone()));
        expect.assert_eq(&render(&update));
        self
    }
}

/// Two lines for each object: `web` is a Service, `lan:10.0.0.0/24` a pool, `+peer` has no effect;
/// `bad` alone is invalid.
fn text(words: &str) -> String {
    if words == "bad" {
        return words.to_owned();
    }
    let object = |word: &str| {
        if let Some(name) = word.strip_prefix('+') {
            return format!(
                "---\n{{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {{name: {name}}}}}\n"
            );
        }
        match word.split_once(':') {
            Some((name, range)) => format!(
                "---\n{{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, \
                 metadata: {{name: {name}}}, spec: {{addresses: [\"{range}\"]}}}}\n"
            ),
            None => format!(
                "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {word}}}, \
                 spec: {{type: LoadBalancer}}}}\n"
            ),
        }
    };
    words.split_whitespace().map(object).collect()
}

fn render(update: &Update) -> String {
    let Update {
        change,
        notes,
        last_good,
    } = update;
    let change = match change {
        Some(Found {
            delete,
            apply,
            refused,
        }) => (delete.iter().map(|key| format!("delete {key}")))
            .chain(apply.iter().map(|object| format!("apply {}", object.key())))
            .chain(refused.iter().map(|refused| format!("refused {refused}")))
            .collect(),
        None => vec!["no change".to_owned()],
    };
    let notes = notes
        .iter()
        .map(|(place, note)| format!("note {place}: {note}"));
    let last_good = last_good.iter().map(|(file, text)| {
        let what = if text.is_some() { "keep" } else { "forget" };
        format!("{what} {}", file.display())
    });
    let lines = change.into_iter().chain(notes).chain(last_good);
    lines.map(|line| line + "\n").collect()
}

#[test]
fn files_are_added_changed_and_removed() {
    Given::new(&[])
        .look(
            &[("a", "web lan:10.0.0.0/24"), ("b", "db +peer")],
            expect![[r#"
                apply Service default/web
                apply IPAddressPool default/lan
                apply Service default/db
                note /m/b:4: BGPPeer default/peer has no effect: VIPs are announced on layer 2 only
                keep a
                keep b
            "#]],
        )
        .look(
            &[],
            expect![[r#"
            no change
        "#]],
        )
        .look(
            &[("a", "web lan:10.0.0.0/25 new")],
            expect![[r#"
            apply IPAddressPool default/lan
            apply Service default/new
            keep a
        "#]],
        )
        .look(
            &[("a", ""), ("c", "web")],
            expect![[r#"
            delete Service default/new
            delete IPAddressPool default/lan
            forget a
            keep c
        "#]],
        )
        .look(
            &[("b", ""), ("c", "")],
            expect![[r#"
            delete Service default/db
            delete Service default/web
            forget b
            forget c
        "#]],
        );
}

#[test]
fn the_first_scan_always_has_a_change() {
    Given::new(&[]).look(&[], expect![""]).look(
        &[],
        expect![[r#"
            no change
        "#]],
    );
}

#[test]
fn a_bad_file_is_refused_as_a_whole_and_its_last_good_content_stays() {
    Given::new(&[])
        .look(&[("a", "web"), ("b", "db"), ("c", "bad")], expect![[r#"
            apply Service default/web
            apply Service default/db
            refused /m/c:1: not a Kubernetes object: the document has no fields; nothing of it is in force
            keep a
            keep b
        "#]])
        .look(&[("a", "bad"), ("b", "db new")], expect![[r#"
            apply Service default/new
            refused /m/a:1: not a Kubernetes object: the document has no fields; its last good content stays in force
            refused /m/c:1: not a Kubernetes object: the document has no fields; nothing of it is in force
            keep b
        "#]])
        .look(&[("a", "unreadable")], expect![[r#"
            refused /m/a: Permission denied; its last good content stays in force
            refused /m/c:1: not a Kubernetes object: the document has no fields; nothing of it is in force
        "#]])
        .look(&[], expect![[r#"
            no change
        "#]])
        .look(&[("a", "web"), ("c", "")], expect![[r#"
            keep a
            forget c
        "#]]);
}

#[test]
fn the_same_object_in_two_files_names_both_and_the_first_stays() {
    Given::new(&[])
        .look(&[("b", "db web")], expect![[r#"
            apply Service default/db
            apply Service default/web
            keep b
        "#]])
        .look(&[("a", "new web")], expect![[r#"
            refused /m/a:4: Service default/web is defined twice: remove one (the other is in /m/b:4); nothing of it is in force
        "#]])
        .look(&[("b", "db")], expect![[r#"
            apply Service default/new
            keep a
            keep b
        "#]]);
}

#[test]
fn the_same_object_twice_in_a_file_names_both_lines() {
    Given::new(&[]).look(&[("a", "web db web")], expect![[r#"
        refused /m/a:6: Service default/web is defined twice: remove one (the other is in /m/a:2); nothing of it is in force
    "#]]);
}

#[test]
fn pools_that_overlap_name_both_files() {
    Given::new(&[])
        .look(
            &[("a", "lan:10.0.0.0/24"), ("b", "web dmz:10.0.1.0/24")],
            expect![[r#"
                apply IPAddressPool default/lan
                apply Service default/web
                apply IPAddressPool default/dmz
                keep a
                keep b
            "#]],
        )
        .look(&[("b", "db dmz:10.0.0.128/25")], expect![[r#"
            refused /m/b:4: IPAddressPool default/dmz: 10.0.0.128/25 overlaps 10.0.0.0/24 of IPAddressPool default/lan: give each address to one pool only (the other is in /m/a:2); its last good content stays in force
        "#]])
        .look(&[("a", "lan:10.0.0.0/25")], expect![[r#"
            delete Service default/web
            apply IPAddressPool default/lan
            apply Service default/db
            apply IPAddressPool default/dmz
            keep a
            keep b
        "#]]);
}

#[test]
fn addresses_may_move_between_files_in_one_scan() {
    Given::new(&[])
        .look(
            &[("a", "lan:10.0.0.0/24"), ("b", "dmz:10.0.1.0/24")],
            expect![[r#"
                apply IPAddressPool default/lan
                apply IPAddressPool default/dmz
                keep a
                keep b
            "#]],
        )
        .look(
            &[("a", "lan:10.0.1.0/24"), ("b", "dmz:10.0.0.0/24")],
            expect![[r#"
                apply IPAddressPool default/lan
                apply IPAddressPool default/dmz
                keep a
                keep b
            "#]],
        );
}

#[test]
fn a_file_may_be_renamed() {
    Given::new(&[])
        .look(
            &[("a", "web")],
            expect![[r#"
            apply Service default/web
            keep a
        "#]],
        )
        .look(
            &[("a", ""), ("b", "web")],
            expect![[r#"
            no change
            forget a
            keep b
        "#]],
        );
}

#[test]
fn a_bad_file_does_not_restore_waiting_content() {
    Given::new(&[])
        .look(&[("a", "web"), ("b", "db")], expect![[r#"
            apply Service default/web
            apply Service default/db
            keep a
            keep b
        "#]])
        .look(&[("b", "web")], expect![[r#"
            refused /m/b:2: Service default/web is defined twice: remove one (the other is in /m/a:2); its last good content stays in force
        "#]])
        .look(&[("b", "bad")], expect![[r#"
            refused /m/b:1: not a Kubernetes object: the document has no fields; its last good content stays in force
        "#]])
        .look(&[("a", "")], expect![[r#"
            delete Service default/web
            refused /m/b:1: not a Kubernetes object: the document has no fields; its last good content stays in force
            forget a
        "#]]);
}

#[test]
fn the_last_good_contents_count_where_the_files_are_bad_at_the_start() {
    Given::new(&[("a", "web"), ("b", "db"), ("c", "old"), ("d", "bad")])
        .look(&[("a", "bad"), ("b", "new")], expect![[r#"
            apply Service default/web
            apply Service default/new
            refused /m/a:1: not a Kubernetes object: the document has no fields; its last good content stays in force
            keep b
            forget c
            forget d
        "#]]);
}

#[test]
fn an_unreadable_directory_leaves_everything_in_force() {
    let mut given = Given::new(&[]);
    given.look(&[("a", "web"), ("b", "bad")], expect![[r#"
        apply Service default/web
        refused /m/b:1: not a Kubernetes object: the document has no fields; nothing of it is in force
        keep a
    "#]]);
    let update = given.directory.update(Err("Permission denied".to_owned()));
    expect![[r#"
        refused /m: Permission denied; its last good content stays in force
        refused /m/b:1: not a Kubernetes object: the document has no fields; nothing of it is in force
    "#]].assert_eq(&render(&update));
    given.look(&[], expect![[r#"
        refused /m/b:1: not a Kubernetes object: the document has no fields; nothing of it is in force
    "#]]);
}
