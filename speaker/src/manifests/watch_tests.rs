use std::{fs, os::unix::fs::symlink};

use tempfile::TempDir;
use tokio::{sync::mpsc::Receiver, task::JoinHandle};

use super::*;

/// A directory that is watched, with a state directory, as long as this lives.
struct Watched {
    root: TempDir,
    changes: Receiver<Change>,
    task: JoinHandle<()>,
}

impl Watched {
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("manifests")).unwrap();
        prepare(&root.path().join("manifests"));
        Self::start(root)
    }

    fn start(root: TempDir) -> Self {
        let (sender, changes) = mpsc::channel(8);
        let (directory, state) = (root.path().join("manifests"), root.path().join("state"));
        let task = tokio::spawn(watch(directory, state, sender));
        Self {
            root,
            changes,
            task,
        }
    }

    async fn restart(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self {
            root,
            changes,
            task,
        } = self;
        drop(changes);
        task.await.unwrap();
        meanwhile(&root.path().join("manifests"));
        Self::start(root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// What changes within a second: `+name` applied, `-name` deleted, and errors.
    async fn change(&mut self) -> String {
        let change = time::timeout(Duration::from_secs(1), self.changes.recv());
        let Change {
            apply,
            delete,
            refused,
            peers: _,
        } = change.await.expect("a change within a second").unwrap();
        let root = self.root.path().to_str().unwrap();
        let refused = refused.iter().map(|it| it.replace(root, ""));
        let lines: Vec<_> = (delete.iter().map(|it| format!("-{}", it.name.name)))
            .chain(apply.iter().map(|it| format!("+{}", it.name().name)))
            .chain(refused)
            .collect();
        lines.join("\n")
    }

    async fn no_change(&mut self) {
        let change = time::timeout(Duration::from_millis(700), self.changes.recv()).await;
        assert!(change.is_err(), "{change:?}");
    }
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  type: LoadBalancer\n"
    )
}

const BAD: &str = "\
/manifests/a.yaml:1: not a Kubernetes object: it has no apiVersion; \
its last good content stays in force";

#[tokio::test]
async fn files_are_added_changed_and_removed() {
    let mut watched = Watched::new(|directory| {
        fs::write(directory.join("a.yaml"), service("a")).unwrap();
    });
    assert_eq!(watched.change().await, "+a");
    watched.write("b.yml", &service("b"));
    assert_eq!(watched.change().await, "+b");
    watched.write("b.yml", &service("c"));
    assert_eq!(watched.change().await, "-b\n+c");
    fs::remove_file(watched.path("a.yaml")).unwrap();
    assert_eq!(watched.change().await, "-a");
    watched.no_change().await;
}

#[tokio::test]
async fn the_first_change_arrives_even_if_empty() {
    let mut watched = Watched::new(|_| ());
    assert_eq!(watched.change().await, "");
    watched.no_change().await;
}

#[tokio::test]
async fn a_file_may_be_replaced_atomically() {
    let mut watched = Watched::new(|directory| {
        fs::write(directory.join("a.yaml"), service("a")).unwrap();
    });
    assert_eq!(watched.change().await, "+a");
    watched.write(".a.yaml.tmp", &service("b"));
    fs::rename(watched.path(".a.yaml.tmp"), watched.path("a.yaml")).unwrap();
    assert_eq!(watched.change().await, "-a\n+b");
}

#[tokio::test]
async fn editor_leftovers_do_not_count() {
    let mut watched = Watched::new(|_| ());
    assert_eq!(watched.change().await, "");
    for name in [
        ".a.yaml",
        "#a.yaml",
        "a.yaml~",
        "a.yaml.swp",
        "a.txt",
        "4913",
    ] {
        watched.write(name, &service("a"));
    }
    symlink("user@host", watched.path(".#a.yaml")).unwrap();
    fs::create_dir(watched.path("sub.yaml")).unwrap();
    watched.no_change().await;
}

#[tokio::test]
async fn a_bad_file_is_refused_until_fixed_even_across_a_restart() {
    let mut watched = Watched::new(|directory| {
        fs::write(directory.join("a.yaml"), service("a")).unwrap();
    });
    assert_eq!(watched.change().await, "+a");
    watched.write("a.yaml", "kind: Service\n");
    assert_eq!(watched.change().await, BAD);
    let mut watched = watched.restart(|_| ()).await;
    assert_eq!(watched.change().await, format!("+a\n{BAD}"));
    watched.write("a.yaml", &service("a2"));
    assert_eq!(watched.change().await, "-a\n+a2");
    let mut watched = watched
        .restart(|directory| fs::remove_file(directory.join("a.yaml")).unwrap())
        .await;
    assert_eq!(watched.change().await, "", "gone while nobody watched");
}

/// This is how Kubernetes mounts a ConfigMap: files are links into `..data`, which is a link to a
/// directory that is replaced as a whole.
#[tokio::test]
async fn a_config_map_is_swapped_at_once() {
    let version = |directory: &Path, number: u32, files: &[(&str, &str)]| {
        let data = directory.join(format!("..{number}"));
        fs::create_dir(&data).unwrap();
        for (name, content) in files {
            fs::write(data.join(name), service(content)).unwrap();
        }
        symlink(format!("..{number}"), directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    };
    let mut watched = Watched::new(|directory| {
        version(directory, 1, &[("a.yaml", "a"), ("b.yaml", "b")]);
        symlink("..data/a.yaml", directory.join("a.yaml")).unwrap();
        symlink("..data/b.yaml", directory.join("b.yaml")).unwrap();
    });
    assert_eq!(watched.change().await, "+a\n+b");
    // An object moves from one file to the other.
    version(&watched.path(""), 2, &[("a.yaml", "c"), ("b.yaml", "a")]);
    assert_eq!(watched.change().await, "-b\n+c");
    fs::remove_dir_all(watched.path("..1")).unwrap();
    watched.no_change().await;
}

#[tokio::test]
async fn a_link_to_a_file_elsewhere_is_watched_there() {
    let mut watched = Watched::new(|directory| {
        let elsewhere = directory.parent().unwrap().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("x"), service("a")).unwrap();
        symlink(elsewhere.join("x"), directory.join("a.yaml")).unwrap();
    });
    assert_eq!(watched.change().await, "+a");
    watched.write("../elsewhere/x", &service("b"));
    assert_eq!(watched.change().await, "-a\n+b");
    fs::remove_file(watched.path("../elsewhere/x")).unwrap();
    assert_eq!(
        watched.change().await,
        "/manifests/a.yaml: No such file or directory (os error 2); \
         its last good content stays in force"
    );
}

#[tokio::test]
async fn the_directory_may_appear_later_and_vanish() {
    let root = tempfile::tempdir().unwrap();
    let mut watched = Watched::start(root);
    let missing = "/manifests: no such directory: create it, empty if nothing is to be announced";
    assert_eq!(
        watched.change().await,
        format!("{missing}; nothing of it is in force")
    );
    for round in ["a", "b"] {
        fs::create_dir(watched.path("")).unwrap();
        let expect = if round == "a" { "" } else { "-a" };
        assert_eq!(watched.change().await, expect);
        watched.write("a.yaml", &service(round));
        assert_eq!(watched.change().await, format!("+{round}"));
        fs::remove_dir_all(watched.path("")).unwrap();
        let expect = format!("{missing}; its last good content stays in force");
        assert_eq!(watched.change().await, expect);
    }
    fs::create_dir(watched.path(".new")).unwrap_err();
    fs::create_dir(watched.root.path().join("new")).unwrap();
    fs::write(watched.root.path().join("new/a.yaml"), service("c")).unwrap();
    fs::rename(watched.root.path().join("new"), watched.path("")).unwrap();
    assert_eq!(watched.change().await, "-b\n+c");
}

#[tokio::test]
async fn changes_in_quick_succession_are_combined() {
    let mut watched = Watched::new(|directory| {
        fs::write(directory.join("a.yaml"), service("a")).unwrap();
    });
    assert_eq!(watched.change().await, "+a");
    let text = service("a") + "  loadBalancerIP: 10.0.0.1\n";
    for end in 0..=text.len() {
        watched.write("a.yaml", &text[..end]);
    }
    assert_eq!(
        watched.change().await,
        "+a",
        "never without the object, nor with half of it"
    );
    watched.no_change().await;
}

#[tokio::test]
async fn failed_saves_are_retried() {
    let mut watched = Watched::new(|_| ());
    assert_eq!(watched.change().await, "");
    // Writes fail, as on a full disk.
    let in_the_way = watched.root.path().join("state/last-good-manifests/.new");
    fs::create_dir(&in_the_way).unwrap();
    for name in ["a", "b"] {
        watched.write(&format!("{name}.yaml"), &service(name));
        assert_eq!(watched.change().await, format!("+{name}"));
    }
    fs::remove_dir(in_the_way).unwrap();
    watched.write("c.yaml", &service("c"));
    assert_eq!(watched.change().await, "+c");
    let mut watched = watched
        .restart(|directory| fs::write(directory.join("a.yaml"), "kind: Service\n").unwrap())
        .await;
    assert_eq!(watched.change().await, format!("+a\n+b\n+c\n{BAD}"));
}

#[tokio::test]
async fn an_unusable_state_directory_is_tolerated() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("manifests")).unwrap();
    fs::write(root.path().join("state"), "not a directory").unwrap();
    let mut watched = Watched::start(root);
    assert_eq!(watched.change().await, "");
    watched.write("a.yaml", &service("a"));
    assert_eq!(watched.change().await, "+a");

    // Once it is usable, it is used, for what came earlier too.
    fs::remove_file(watched.path("../state")).unwrap();
    watched.write("b.yaml", &service("b"));
    assert_eq!(watched.change().await, "+b");
    let mut watched = watched
        .restart(|directory| fs::write(directory.join("a.yaml"), "kind: Service\n").unwrap())
        .await;
    assert_eq!(watched.change().await, format!("+a\n+b\n{BAD}"));
}

/// As in `program > file`, where the program takes its time.
#[tokio::test]
async fn a_file_that_is_emptied_counts_after_a_while() {
    let mut watched = Watched::new(|directory| {
        fs::write(directory.join("a.yaml"), service("a")).unwrap();
    });
    assert_eq!(watched.change().await, "+a");
    watched.write("a.yaml", "");
    watched.no_change().await;
    watched.write("a.yaml", &service("b"));
    assert_eq!(watched.change().await, "-a\n+b");
    watched.write("a.yaml", "");
    time::sleep(Duration::from_millis(4_500)).await;
    assert_eq!(watched.change().await, "-b");
}
