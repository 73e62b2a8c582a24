use super::*;
use crate::allocate::{
    Service,
    testing::{ips, name, pool, service},
};
use std::time::Duration;

/// A controller that leads, and its API server.
struct Scene {
    leader: Leader,
    now: Instant,
    version: u64,
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn new() -> Self {
        let now = Instant::now();
        Self {
            leader: Leader::new("me".to_owned(), Timing::default(), now),
            now,
            version: 0,
        }
    }

    fn tell(&mut self, input: Input) -> Vec<Command> {
        self.leader.handle(input, self.now);
        std::iter::from_fn(|| self.leader.next_command()).collect()
    }

    fn after(&mut self, span: Duration) -> Vec<Command> {
        self.now += span;
        self.tell(Input::Tick)
    }

    fn swapped(&mut self) -> Vec<Command> {
        self.version += 1;
        self.tell(Input::Swapped(self.version.to_string()))
    }

    fn change(&mut self, change: Change) -> Vec<Command> {
        let term = self.leader.term;
        self.tell(Input::Changed(term, change))
    }

    fn service(&mut self, service: Service) -> Vec<Command> {
        self.change(Change::Service(Box::new(service)))
    }

    /// Leads, with the given entries in the Lease and one pool.
    fn leading(pending: Vec<Pending>) -> Self {
        let mut scene = Self::new();
        assert_eq!(scene.tell(Input::Tick), [Command::Read]);
        scene.lead(pending);
        scene
    }

    /// Takes the Lease that it reads.
    fn lead(&mut self, pending: Vec<Pending>) {
        let lease = Lease {
            version: Some("found".to_owned()),
            pending,
            ..Lease::default()
        };
        let [Command::Swap(taken)] = &self.tell(Input::Read(Some(lease.clone())))[..] else {
            panic!("nobody holds the Lease");
        };
        assert_eq!((&*taken.holder, &taken.pending), ("me", &lease.pending));
        let next = Term(self.leader.term.0 + 1);
        assert_eq!(self.swapped(), [Command::Watch(next)]);
        self.change(Change::Pool(pool("lan", "10.0.0.0/24"), None));
    }

    fn listed(&mut self) -> Vec<Command> {
        let term = self.leader.term;
        self.tell(Input::Listed(term))
    }
}

fn pending(of: &str, version: &str, addresses: &str) -> Pending {
    let Service { name, uid, .. } = service(of);
    Pending {
        name,
        uid,
        version: version.to_owned(),
        addresses: ips(addresses),
    }
}

fn swaps(commands: &[Command]) -> Vec<&Lease> {
    let swaps = commands.iter().filter_map(|it| match it {
        Command::Swap(lease) => Some(lease),
        _ => None,
    });
    swaps.collect()
}

fn writes(commands: &[Command]) -> Vec<&StatusWrite> {
    let writes = commands.iter().filter_map(|it| match it {
        Command::Write(write) => Some(write),
        _ => None,
    });
    writes.collect()
}

fn told(commands: &[Command]) -> Vec<String> {
    let told = commands.iter().filter_map(|it| match it {
        Command::Tell(notice) => Some(match &notice.told {
            Told::Allocated(addresses) => format!("allocated {addresses:?}"),
            Told::Failed(why) => format!("failed: {why}"),
            Told::Cleared(why) => format!("cleared: {why}"),
            Told::OldAnnotations(names) => format!("old: {names:?}"),
        }),
        _ => None,
    });
    told.collect()
}

#[test]
fn the_lease_records_a_write_before_it_is_made() {
    let mut scene = Scene::leading(Vec::new());
    scene.service(service("a"));
    let commands = scene.listed();
    let [lease] = swaps(&commands)[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(lease.pending, [pending("a", "1", "10.0.0.0")]);
    assert!(writes(&commands).is_empty());
    let commands = scene.swapped();
    let [write] = writes(&commands)[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(write.pending, pending("a", "1", "10.0.0.0"));
    assert_eq!(write.pool.as_deref(), Some("lan"));
}

#[test]
fn nothing_is_decided_before_all_lists_are_complete() {
    let mut scene = Scene::leading(Vec::new());
    let commands = scene.service(service("a"));
    assert!(swaps(&commands).is_empty(), "{commands:?}");
}

#[test]
fn an_entry_is_dropped_when_its_write_is_seen() {
    let mut scene = Scene::leading(Vec::new());
    scene.service(service("a"));
    scene.listed();
    scene.swapped();
    let seen = service("a").showing("10.0.0.0").with(|it| {
        it.version = "2".to_owned();
        it.shown_pool = Some("lan".to_owned());
    });
    let commands = scene.service(seen.clone());
    assert_eq!(told(&commands), ["allocated [10.0.0.0]"]);
    assert!(told(&scene.service(seen)).is_empty());
    let commands = scene.after(Timing::default().renew);
    let [lease] = swaps(&commands)[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(lease.pending, []);
}

#[test]
fn writes_of_an_earlier_leader_are_reserved_and_completed() {
    let mut scene = Scene::leading(vec![pending("a", "1", "10.0.0.0")]);
    scene.service(service("a").created(2));
    scene.service(service("b").created(1));
    let commands = scene.listed();
    let [write] = writes(&commands)[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(write.pending, pending("a", "1", "10.0.0.0"));
    let [lease] = swaps(&commands)[..] else {
        panic!("{commands:?}");
    };
    let expect = [pending("a", "1", "10.0.0.0"), pending("b", "1", "10.0.0.1")];
    assert_eq!(lease.pending, expect);
}

#[test]
fn addresses_of_impossible_writes_are_free() {
    for gone in [
        pending("a", "0", "10.0.0.0"),
        pending("nobody", "1", "10.0.0.0"),
        Pending {
            uid: "another".to_owned(),
            ..pending("a", "1", "10.0.0.0")
        },
    ] {
        let mut scene = Scene::leading(vec![gone]);
        scene.service(service("a").asking("10.0.0.7"));
        scene.service(service("b").asking("10.0.0.0"));
        let commands = scene.listed();
        let [lease] = swaps(&commands)[..] else {
            panic!("{commands:?}");
        };
        let expect = [pending("a", "1", "10.0.0.7"), pending("b", "1", "10.0.0.0")];
        assert_eq!(lease.pending, expect);
    }
}

#[test]
fn unwanted_writes_of_an_earlier_leader_are_ruled_out() {
    let of = |n| format!("service-{n}");
    let inherited = |n| pending(&of(n), "1", &format!("192.0.2.{}", n % 256));
    let mut scene = Scene::leading((0..ledger::CAPACITY).map(inherited).collect());
    for n in 0..ledger::CAPACITY {
        scene.service(service(&of(n)).of_pool("removed"));
    }
    scene.service(service("a"));
    let commands = scene.listed();
    assert!(swaps(&commands).is_empty(), "the Lease is full");
    let writes: Vec<_> = writes(&commands).into_iter().cloned().collect();
    assert_eq!(writes.len(), ledger::CAPACITY);
    let StatusWrite { pending, pool, .. } = &writes[0];
    assert_eq!(*pending, self::pending(&of(0), "1", ""));
    assert_eq!(pool.as_deref(), Some(" "), "something must change");
    let seen = service(&of(0)).of_pool("removed").with(|it| {
        it.version = "2".to_owned();
        it.shown_pool = pool.clone();
    });
    let commands = scene.service(seen);
    let [lease] = swaps(&commands)[..] else {
        panic!("{commands:?}");
    };
    assert!(lease.pending.contains(&self::pending("a", "1", "10.0.0.0")));
    scene.swapped();
    for id in writes.iter().map(|it| it.id).skip(1) {
        scene.tell(Input::Wrote(Term(1), id, false));
    }
    let again = scene.after(Duration::from_secs(1));
    assert_eq!(self::writes(&again).len(), ledger::CAPACITY - 1);
}

#[test]
fn a_write_of_unknown_outcome_that_is_no_longer_wanted_is_ruled_out() {
    let mut scene = Scene::leading(Vec::new());
    scene.service(service("a"));
    scene.listed();
    let id = writes(&scene.swapped())[0].id;
    let lan = pool("lan", "10.0.0.0/24").name().clone();
    assert!(writes(&scene.change(Change::PoolGone(lan))).is_empty());
    scene.tell(Input::Wrote(Term(1), id, false));
    let commands = scene.after(Duration::from_secs(1));
    let [write] = writes(&commands)[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(write.pending, pending("a", "1", ""));
    assert_eq!(write.pool.as_deref(), Some(" "), "something must change");
}

#[test]
fn a_failed_lease_write_restarts_the_term() {
    let mut scene = Scene::leading(Vec::new());
    scene.service(service("a"));
    scene.listed();
    let commands = scene.tell(Input::NotSwapped);
    assert_eq!(commands, [Command::Forget, Command::Read]);
    assert!(!scene.leader.is_leading());
    assert!(scene.service(service("a")).is_empty());
}

#[test]
fn a_leader_stalled_for_longer_than_its_lease_stops() {
    let mut scene = Scene::leading(Vec::new());
    scene.listed();
    let commands = scene.after(Timing::default().duration);
    assert_eq!(commands, [Command::Forget, Command::Read]);
}

#[test]
fn a_lease_is_left_to_its_holder_while_it_is_renewed() {
    let mut scene = Scene::new();
    let lease = |version: &str| Lease {
        version: Some(version.to_owned()),
        holder: "another".to_owned(),
        duration: Duration::from_secs(15),
        ..Lease::default()
    };
    for version in ["1", "2", "2", "3"] {
        assert_eq!(scene.after(Duration::from_secs(10)), [Command::Read]);
        assert_eq!(scene.tell(Input::Read(Some(lease(version)))), []);
    }
    scene.after(Duration::from_secs(14));
    assert_eq!(scene.tell(Input::Read(Some(lease("3")))), []);
    scene.after(Duration::from_secs(2));
    let commands = scene.tell(Input::Read(Some(lease("3"))));
    assert_eq!(swaps(&commands).len(), 1, "{commands:?}");
}

#[test]
fn a_write_of_unknown_outcome_is_retried_with_backoff() {
    let mut scene = Scene::leading(Vec::new());
    scene.service(service("a"));
    scene.listed();
    let mut id = writes(&scene.swapped())[0].id;
    for wait in [1, 2, 4] {
        scene.tell(Input::Wrote(Term(1), id, false));
        scene.swapped();
        let commands = scene.after(Duration::from_millis(wait * 1000 - 1));
        assert!(writes(&commands).is_empty(), "{commands:?}");
        let commands = scene.after(Duration::from_millis(1));
        id = writes(&commands)[0].id;
    }
}

#[test]
fn a_reason_is_reported_once_and_when_it_changes() {
    let mut scene = Scene::leading(Vec::new());
    scene.service(service("a").of_pool("lost"));
    let failed = |what: &str| {
        format!(
            "failed: there is no IPAddressPool {what:?}, which the annotation \
             metallb.io/address-pool names"
        )
    };
    assert_eq!(told(&scene.listed()), [failed("lost")]);
    let edited = service("a").of_pool("lost").labelled("x=y");
    assert_eq!(told(&scene.service(edited)), [""; 0]);
    assert_eq!(
        told(&scene.service(service("a").of_pool("gone"))),
        [failed("gone")]
    );
}

#[test]
fn a_new_term_of_the_same_leader_repeats_nothing() {
    let old = |of| service(of).with(|it| it.old_annotations = vec!["address-pool".to_owned()]);
    let mut scene = Scene::leading(Vec::new());
    scene.service(old("a").of_pool("lost"));
    assert_eq!(told(&scene.listed()).len(), 2);
    assert_eq!(
        scene.tell(Input::NotSwapped),
        [Command::Forget, Command::Read]
    );
    scene.lead(Vec::new());
    scene.service(old("a").of_pool("lost"));
    assert_eq!(told(&scene.listed()), [""; 0]);
}

#[test]
fn a_new_leader_does_not_report_old_annotations_again() {
    let old = |of| service(of).with(|it| it.old_annotations = vec!["address-pool".to_owned()]);
    let has = |it: Service| {
        it.showing("10.0.0.1")
            .with(|it| it.shown_pool = Some("lan".to_owned()))
    };
    let mut scene = Scene::leading(Vec::new());
    scene.service(has(old("a")));
    scene.service(old("c"));
    let expect = [r#"old: ["address-pool"]"#];
    assert_eq!(told(&scene.listed()), expect, "it waits for its address");
    assert_eq!(told(&scene.service(has(old("a")))), [""; 0]);
    scene.service(has(service("b")).showing("10.0.0.2"));
    let annotated = has(old("b")).showing("10.0.0.2");
    assert_eq!(
        told(&scene.service(annotated)),
        expect,
        "they have just come"
    );
}

#[test]
fn counters_are_written_once_and_after_manual_edits() {
    let mut scene = Scene::leading(Vec::new());
    let counters = |commands: &[Command]| {
        let writes = commands
            .iter()
            .filter(|it| matches!(it, Command::WritePool(_)));
        writes.count()
    };
    assert_eq!(counters(&scene.listed()), 1);
    let name = pool("lan", "10.0.0.0/24").name().clone();
    scene.tell(Input::WrotePool(Term(1), name, true));
    let commands = scene.after(Duration::from_secs(1));
    assert_eq!(counters(&commands), 0, "{commands:?}");
    let edited = crate::allocate::Usage::default();
    let commands = scene.change(Change::Pool(pool("lan", "10.0.0.0/24"), Some(edited)));
    assert_eq!(counters(&commands), 1, "{commands:?}");
}

#[test]
fn a_stopping_leader_releases_the_lease_with_its_entries() {
    let mut scene = Scene::leading(Vec::new());
    scene.service(service("a"));
    scene.listed();
    scene.swapped();
    let commands = scene.tell(Input::Stop);
    let [Command::Forget, Command::Swap(lease)] = &commands[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(lease.holder, "");
    assert_eq!(lease.pending, [pending("a", "1", "10.0.0.0")]);
    scene.swapped();
    assert!(scene.leader.is_stopped());
    assert_eq!(name("a"), lease.pending[0].name);
}

#[test]
fn a_leader_that_stops_during_a_lease_write_waits_for_nothing_else() {
    let mut scene = Scene::leading(Vec::new());
    scene.service(service("a"));
    let commands = scene.listed();
    assert_eq!(swaps(&commands).len(), 1, "it is being written");
    // The counters are due by then.
    scene.change(Change::ServiceGone(name("a")));
    scene.now += Timing::default().counters * 2;
    assert_eq!(scene.tell(Input::Stop), []);
    let wake = scene.leader.poll_timeout();
    assert!(wake > Some(scene.now), "it would spin");
    let commands = scene.swapped();
    assert_eq!(swaps(&commands)[0].holder, "");
}
