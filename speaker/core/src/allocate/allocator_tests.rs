use std::time::Duration;

use super::*;
use crate::allocate::{
    Family, FamilyPolicy,
    testing::{ips, name, pool, service},
};

#[track_caller]
fn check(allocator: &mut Allocator, of: &str, expect: &str) {
    assert_eq!(allocator.tell(of), expect, "{of}");
}

#[test]
fn the_lowest_free_address_in_listed_order() {
    let mut it = Allocator::of([pool("lan", "10.0.9.0/31 10.0.1.7-10.0.1.8")]);
    for (of, expect) in [
        ("a", "10.0.9.0 of lan"),
        ("b", "10.0.9.1 of lan"),
        ("c", "10.0.1.7 of lan"),
        ("d", "10.0.1.8 of lan"),
        ("e", "no free IPv4 address in IPAddressPool lan"),
    ] {
        it.apply(service(of));
        check(&mut it, of, expect);
    }
}

#[test]
fn the_oldest_service_is_served_first() {
    for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]] {
        let mut it = Allocator::of([pool("lan", "10.0.0.1-10.0.0.2")]);
        for of in order {
            let created = if of == "c" { 1 } else { 2 };
            it.apply(service(of).created(created));
        }
        check(&mut it, "c", "10.0.0.1 of lan");
        check(&mut it, "a", "10.0.0.2 of lan");
        check(&mut it, "b", "no free IPv4 address in IPAddressPool lan");
    }
}

#[test]
fn a_restart_of_the_controller_moves_nothing() {
    let shown = [("a", "10.0.0.7"), ("b", "10.0.0.3"), ("z", "10.0.0.1")];
    for reverse in [false, true] {
        let mut it = Allocator::default();
        let mut services = shown.map(|(of, at)| service(of).showing(at)).to_vec();
        services.push(service("new").created(-5));
        if reverse {
            services.reverse();
        }
        services.into_iter().for_each(|of| it.apply(of));
        it.apply_pool(pool("lan", "10.0.0.0/24"));
        for (of, at) in shown {
            check(&mut it, of, &format!("{at} of lan"));
        }
        check(&mut it, "new", "10.0.0.0 of lan");
    }
}

#[test]
fn an_address_freed_by_deletion_goes_to_a_waiting_service() {
    let mut it = Allocator::of([pool("lan", "10.0.0.1/32")]);
    it.apply(service("a"));
    it.apply(service("b").created(2));
    it.apply(service("c").created(1));
    it.write_all();
    check(&mut it, "c", "no free IPv4 address in IPAddressPool lan");
    it.delete(&name("a"));
    check(&mut it, "c", "10.0.0.1 of lan");
    check(&mut it, "b", "no free IPv4 address in IPAddressPool lan");
}

/// For the index, a Service of another type is deleted.
#[test]
fn an_address_freed_by_a_change_of_type_goes_to_a_waiting_service() {
    let mut it = Allocator::of([pool("lan", "10.0.0.1/32")]);
    it.apply(service("a").showing("10.0.0.1"));
    it.apply(service("b"));
    check(&mut it, "b", "no free IPv4 address in IPAddressPool lan");
    it.delete(&name("a"));
    check(&mut it, "b", "10.0.0.1 of lan");
}

#[test]
fn an_address_is_free_only_once_the_status_no_longer_has_it() {
    let mut it = Allocator::of([pool("lan", "10.0.0.1-10.0.0.2")]);
    it.apply(service("a").showing("10.0.0.1"));
    check(&mut it, "a", "10.0.0.1 of lan");
    it.apply(service("a").showing("10.0.0.1").asking("10.0.0.2"));
    check(&mut it, "a", "10.0.0.2 of lan");
    it.apply(service("b").asking("10.0.0.1"));
    let expect = "10.0.0.1 is in use by Service default/a: both need the same annotation \
                  metallb.io/allow-shared-ip to share it";
    check(&mut it, "b", expect);
    it.apply(service("a").showing("10.0.0.2").asking("10.0.0.2"));
    check(&mut it, "b", "10.0.0.1 of lan");
}

#[test]
fn requested_addresses_are_assigned_if_possible() {
    let mut it = Allocator::of([
        pool("lan", "10.0.0.0/24 fd00::/64"),
        pool("dmz", "10.1.0.0/24"),
    ]);
    it.apply(service("a").asking("10.0.0.9"));
    check(&mut it, "a", "10.0.0.9 of lan");
    it.apply(service("b").asking("10.0.0.9"));
    let expect = "10.0.0.9 is in use by Service default/a: both need the same annotation \
                  metallb.io/allow-shared-ip to share it";
    check(&mut it, "b", expect);
    it.apply(service("c").asking("10.2.0.1"));
    check(
        &mut it,
        "c",
        "no IPAddressPool holds 10.2.0.1: add it to one",
    );
    it.apply(service("d").asking("fd00::1"));
    check(
        &mut it,
        "d",
        "fd00::1 is not in an IP family of the Service",
    );
    it.apply(
        service("e")
            .asking("fd00::5 10.0.0.5")
            .dual(FamilyPolicy::RequireDualStack),
    );
    check(&mut it, "e", "fd00::5 10.0.0.5 of lan");
    it.apply(
        service("f")
            .asking("10.1.0.6 fd00::6")
            .dual(FamilyPolicy::RequireDualStack),
    );
    let expect = "10.1.0.6 and fd00::6 are in different IPAddressPools: request both from one";
    check(&mut it, "f", expect);
    it.apply(service("g").asking("10.0.0.8").of_pool("dmz"));
    let expect = "10.0.0.8 is in IPAddressPool speaker-system/lan, but the Service requests dmz";
    check(&mut it, "g", expect);
    it.apply(
        service("h")
            .asking("10.0.0.7")
            .dual(FamilyPolicy::RequireDualStack),
    );
    check(
        &mut it,
        "h",
        "ipFamilyPolicy requires an address of each family",
    );
    it.apply(
        service("i")
            .asking("10.0.0.7 10.0.0.6")
            .dual(FamilyPolicy::PreferDualStack),
    );
    check(
        &mut it,
        "i",
        "ipFamilyPolicy requires one address of a family",
    );
}

#[test]
fn an_unreadable_request_takes_nothing_away() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    let unreadable = |of: Service| of.with(|it| it.requested = Err("twice".to_owned()));
    it.apply(unreadable(service("new")));
    check(&mut it, "new", "twice");
    it.apply(unreadable(service("old").showing("10.0.0.3")));
    check(&mut it, "old", "10.0.0.3 of lan; twice");
}

#[test]
fn two_services_can_swap_addresses() {
    let mut it = Allocator::of([pool("lan", "10.0.0.1-10.0.0.2")]);
    it.apply(service("a").showing("10.0.0.1").asking("10.0.0.2"));
    it.apply(service("b").showing("10.0.0.2").asking("10.0.0.1"));
    it.write_all();
    it.write_all();
    check(&mut it, "a", "10.0.0.2 of lan");
    check(&mut it, "b", "10.0.0.1 of lan");
}

#[test]
fn a_service_of_another_class_gets_nothing_and_keeps_its_address() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(
        service("foreign")
            .with(|it| it.is_ours = false)
            .showing("10.0.0.0"),
    );
    check(&mut it, "foreign", "");
    it.apply(service("a"));
    check(&mut it, "a", "10.0.0.1 of lan");
    it.apply(service("b").asking("10.0.0.0"));
    let expect = "10.0.0.0 is in use by Service default/foreign: another load balancer assigned \
                  it that address";
    check(&mut it, "b", expect);
}

#[test]
fn a_recreated_service_inherits_nothing() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(service("a").asking("10.0.0.9"));
    check(&mut it, "a", "10.0.0.9 of lan");
    it.apply(service("a").with(|it| it.uid = "another".to_owned()));
    check(&mut it, "a", "10.0.0.0 of lan");
}

#[test]
fn a_service_with_unknown_families_waits() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(service("a").with(|it| it.families.clear()));
    check(
        &mut it,
        "a",
        "the Service has no cluster IP yet, so its IP families are unknown",
    );
    it.apply(
        service("b")
            .with(|it| it.families.clear())
            .showing("10.0.0.8"),
    );
    check(&mut it, "b", "10.0.0.8 of lan");
}

#[path = "dual_stack_tests.rs"]
mod dual_stack;
#[path = "pool_tests.rs"]
mod pools;
#[path = "sharing_tests.rs"]
mod sharing;

#[test]
fn an_irrelevant_change_costs_nothing() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(service("a"));
    it.settle();
    it.take_changed();
    it.apply(service("a").with(|it| it.version = "2".to_owned()));
    it.apply_pool(pool("lan", "10.0.0.0/24"));
    assert!(it.touched.is_empty() && !it.are_pools_new);
    assert_eq!(it.service(&name("a")).unwrap().1.addresses, ips("10.0.0.0"));
}

/// A /8 and a /64 are never enumerated, and one more change does not affect the rest.
#[test]
fn ten_thousand_services_get_addresses_at_once() {
    for (addresses, family) in [("10.0.0.0/8", Family::V4), ("fd00::/64", Family::V6)] {
        let of = |n: i64| {
            let service = service(&format!("ns-{}/svc-{n}", n % 50)).created(n);
            service.with(|it| it.families = vec![family])
        };
        let mut it = Allocator::of([pool("lan", addresses)]);
        let began = processor_time();
        (0..10_000).for_each(|n| it.apply(of(n)));
        it.settle();
        let all = processor_time() - began;
        it.write_all();
        let began = processor_time();
        for n in 0..100 {
            it.delete(&of(n).name);
            it.apply(of(10_000 + n));
            it.settle();
        }
        let each = (processor_time() - began) / 100;
        println!("{addresses}: {all:?} for all, {each:?} for each change");
        assert!(all.as_secs() < 5, "{all:?}");
        assert!(each.as_millis() < 20, "{each:?}");
    }
}

/// The time that this thread has run: on a busy machine, it waits for longer than it runs.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let (ran_ns, _) = stat.split_once(' ').unwrap();
    Duration::from_nanos(ran_ns.parse().unwrap())
}
