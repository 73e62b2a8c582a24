use super::*;
use crate::{
    allocate::testing::{allocating, labels},
    intent::{AllocationRule, Selector},
};

#[test]
fn a_pool_without_auto_assign_is_used_only_on_request() {
    let manual = allocating(pool("manual", "10.0.0.0/24"), |it| it.auto_assign = false);
    let mut it = Allocator::of([manual.clone()]);
    it.apply(service("a"));
    let expect = "no IPAddressPool is for this Service: each has autoAssign false or a \
                  serviceAllocation that does not match";
    check(&mut it, "a", expect);
    it.apply(service("b").of_pool("manual"));
    check(&mut it, "b", "10.0.0.0 of manual");
    it.apply(service("c").asking("10.0.0.7"));
    check(&mut it, "c", "10.0.0.7 of manual");
    it.apply(service("d").of_pool("lost"));
    let expect = "there is no IPAddressPool \"lost\", which the annotation \
                  metallb.io/address-pool names";
    check(&mut it, "d", expect);
}

#[test]
fn switching_auto_assign_off_takes_nothing_away() {
    let lan = pool("lan", "10.0.0.0/24");
    let mut it = Allocator::of([lan.clone()]);
    it.apply(service("a"));
    it.write_all();
    it.apply_pool(allocating(lan, |it| it.auto_assign = false));
    check(&mut it, "a", "10.0.0.0 of lan");
}

#[test]
fn a_request_for_another_pool_moves_the_service() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24"), pool("dmz", "10.1.0.0/24")]);
    it.apply(service("a").showing("10.0.0.4"));
    check(&mut it, "a", "10.0.0.4 of lan");
    it.apply(service("a").showing("10.0.0.4").of_pool("dmz"));
    check(&mut it, "a", "10.1.0.0 of dmz");
}

#[test]
fn a_named_pool_must_allow_the_service() {
    let gold = allocating(pool("gold", "10.0.0.0/24"), |it| {
        it.auto_assign = false;
        it.rule = rule(|it| it.service_selectors = selecting("tier=gold"));
    });
    let mut it = Allocator::of([gold]);
    it.apply(service("a").of_pool("gold"));
    let expect = "IPAddressPool speaker-system/gold is not for this Service: see its \
                  spec.serviceAllocation";
    check(&mut it, "a", expect);
    it.apply(service("b").asking("10.0.0.1"));
    check(&mut it, "b", expect);
    it.apply(service("a").of_pool("gold").labelled("tier=gold"));
    check(&mut it, "a", "10.0.0.0 of gold");
}

#[test]
fn pools_for_the_service_come_first_by_priority() {
    let of = |name: &str, priority: i64, third: u8| {
        let pool = pool(name, &format!("10.0.{third}.0/32"));
        allocating(pool, |it| it.rule = rule(|it| it.priority = priority))
    };
    let mut it = Allocator::of([
        pool("all", "10.0.0.0/32"),
        of("none", 0, 1),
        of("twenty", 20, 2),
        of("ten", 10, 3),
    ]);
    for (of, expect) in [
        ("a", "10.0.3.0 of ten"),
        ("b", "10.0.2.0 of twenty"),
        ("c", "10.0.1.0 of none"),
        ("d", "10.0.0.0 of all"),
        (
            "e",
            "no free IPv4 address in IPAddressPools ten, twenty, none, all",
        ),
    ] {
        it.apply(service(of));
        check(&mut it, of, expect);
    }
}

#[test]
fn labels_of_services_and_namespaces_select_pools_and_may_change() {
    let gold = allocating(pool("gold", "10.0.1.0/24"), |it| {
        it.rule = rule(|it| {
            it.namespaces.insert("bank".to_owned());
            it.namespace_selectors = selecting("team=web");
            it.service_selectors = selecting("tier=gold");
        });
    });
    let mut it = Allocator::of([pool("all", "10.0.0.0/24"), gold]);
    it.apply_namespace("shop".to_owned(), labels("team=ops"));
    it.apply(service("shop/a").labelled("tier=gold"));
    check(&mut it, "shop/a", "10.0.0.0 of all");
    it.apply(service("bank/b").labelled("tier=gold"));
    check(&mut it, "bank/b", "10.0.1.0 of gold");
    it.apply(service("bank/c"));
    check(&mut it, "bank/c", "10.0.0.1 of all");
    it.write_all();

    it.apply_namespace("shop".to_owned(), labels("team=web"));
    check(&mut it, "shop/a", "10.0.0.0 of all");
    it.apply(service("shop/d").labelled("tier=gold"));
    check(&mut it, "shop/d", "10.0.1.1 of gold");
    it.write_all();
    it.delete_namespace("shop");
    check(&mut it, "shop/d", "10.0.0.2 of all");
    it.apply(service("bank/b").showing("10.0.1.0").labelled("tier=lead"));
    check(&mut it, "bank/b", "10.0.0.3 of all");
}

/// Selectors that select no namespace do not mean all namespaces.
#[test]
fn a_pool_for_selected_namespaces_is_for_no_others() {
    let web = allocating(pool("web", "10.0.1.0/24"), |it| {
        it.rule = rule(|it| it.namespace_selectors = selecting("team=web"));
    });
    let mut it = Allocator::of([web]);
    it.apply(service("a"));
    let expect = "no IPAddressPool is for this Service: each has autoAssign false or a \
                  serviceAllocation that does not match";
    check(&mut it, "a", expect);
}

#[test]
fn addresses_that_old_devices_drop_are_avoided() {
    let avoiding = allocating(pool("lan", "10.0.0.255-10.0.1.1 fd00::/127"), |it| {
        it.avoid_buggy = true;
    });
    let mut it = Allocator::of([avoiding]);
    it.apply(service("a"));
    check(&mut it, "a", "10.0.1.1 of lan");
    it.apply(service("b").asking("10.0.1.0"));
    let expect =
        "IPAddressPool speaker-system/lan has avoidBuggyIPs, so it does not assign 10.0.1.0";
    check(&mut it, "b", expect);
    it.apply(service("c").showing("10.0.0.255"));
    check(&mut it, "c", "no free IPv4 address in IPAddressPool lan");
    it.apply(service("d").with(|it| it.families = vec![Family::V6]));
    check(&mut it, "d", "fd00:: of lan");
}

#[test]
fn without_pools_the_status_is_emptied() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(service("a"));
    it.write_all();
    it.delete_pool(&ObjectName::new("speaker-system", "lan"));
    check(&mut it, "a", "there is no IPAddressPool: add one");
    let (_, outcome) = it.service(&name("a")).unwrap();
    let lost = outcome.lost.as_ref().map(ToString::to_string);
    assert_eq!(
        lost.as_deref(),
        Some("no IPAddressPool holds 10.0.0.0: add it to one")
    );
}

/// As after an installation beside another allocator.
#[test]
fn until_there_is_a_pool_no_service_loses_its_addresses() {
    let mut it = Allocator::default();
    it.apply(service("a").showing("192.0.2.1"));
    it.apply(service("b").showing("192.0.2.2").asking("192.0.2.3"));
    it.apply(service("c"));
    check(&mut it, "a", "192.0.2.1 of no pool");
    check(&mut it, "b", "192.0.2.2 of no pool");
    check(&mut it, "c", "there is no IPAddressPool: add one");
    it.apply_pool(pool("lan", "10.0.0.0/24 192.0.2.3/32"));
    check(&mut it, "a", "10.0.0.0 of lan");
    check(&mut it, "b", "192.0.2.3 of lan");
    check(&mut it, "c", "10.0.0.1 of lan");
}

#[test]
fn services_of_a_deleted_pool_get_addresses_from_another() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24"), pool("zone", "10.1.0.0/24")]);
    it.apply(service("a"));
    it.write_all();
    it.delete_pool(&ObjectName::new("speaker-system", "lan"));
    check(&mut it, "a", "10.1.0.0 of zone");
}

#[test]
fn a_shrinking_pool_moves_only_services_outside_it() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/30")]);
    ["a", "b", "c"]
        .into_iter()
        .for_each(|of| it.apply(service(of)));
    it.write_all();
    it.apply_pool(pool("lan", "10.0.0.2-10.0.0.9"));
    check(&mut it, "c", "10.0.0.2 of lan");
    check(&mut it, "a", "10.0.0.3 of lan");
    check(&mut it, "b", "10.0.0.4 of lan");
}

#[test]
fn an_invalid_pool_takes_nothing_away() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    let broken = ObjectName::new("speaker-system", "broken");
    it.refuse_pool(broken.clone(), "no addresses".to_owned());
    it.apply(
        service("a")
            .showing("10.7.0.1")
            .with(|it| it.shown_pool = Some("broken".to_owned())),
    );
    check(&mut it, "a", "10.7.0.1 of broken");
    assert_eq!(it.refused().collect::<Vec<_>>(), ["no addresses"]);
    // The pool exists after all, and overlaps with another: the same.
    it.apply_pool(pool("broken", "10.7.0.0/24 10.0.0.9/32"));
    check(&mut it, "a", "10.7.0.1 of broken");
    assert!(it.is_stale());
    let refused: Vec<_> = it.refused().collect();
    let expect = "IPAddressPool speaker-system/broken: 10.0.0.9/32 overlaps 10.0.0.0/24 of \
                  IPAddressPool speaker-system/lan: give each address to one pool only";
    assert_eq!(refused, [expect]);
    it.delete_pool(&broken);
    check(&mut it, "a", "10.0.0.0 of lan");
    assert!(!it.is_stale());
    assert_eq!(it.refused().count(), 0);
}

#[test]
fn of_overlapping_pools_a_restart_keeps_the_older_in_force() {
    let (lan, aaa) = (pool("lan", "10.0.0.0/24"), pool("aaa", "10.0.0.0/25"));
    let (lan, aaa) = (lan.with_created(1), aaa.with_created(2));
    let mut it = Allocator::of([lan.clone()]);
    it.apply(service("a").of_pool("lan"));
    check(&mut it, "a", "10.0.0.0 of lan");
    it.apply_pool(aaa.clone());
    check(&mut it, "a", "10.0.0.0 of lan");

    let mut it = Allocator::of([aaa, lan]);
    it.apply(service("a").of_pool("lan").showing("10.0.0.0"));
    check(&mut it, "a", "10.0.0.0 of lan");
}

#[test]
fn a_pool_that_loses_an_overlap_at_a_restart_takes_nothing_away() {
    // The older pool was edited to overlap the newer one, which kept its addresses until now.
    let (old, new) = (pool("old", "10.0.0.0/16"), pool("new", "10.0.0.0/24"));
    let mut it = Allocator::of([old.with_created(1), new.with_created(2)]);
    let of_new = |of: &str| {
        let service = service(of).showing("10.0.0.5").of_pool("new");
        service.with(|it| it.shown_pool = Some("new".to_owned()))
    };
    it.apply(of_new("a"));
    check(&mut it, "a", "10.0.0.5 of new");
    // What its user asks for still counts.
    it.apply(of_new("a").of_pool("old"));
    check(&mut it, "a", "10.0.0.5 of old");
    it.apply(
        of_new("b")
            .showing("10.0.0.6")
            .asking("10.0.0.7")
            .of_pool("old"),
    );
    check(&mut it, "b", "10.0.0.7 of old");
    // And so does the pool's end.
    it.apply(of_new("c").showing("10.0.0.8"));
    check(&mut it, "c", "10.0.0.8 of new");
    it.delete_pool(&ObjectName::new("speaker-system", "new"));
    let expect = "there is no IPAddressPool \"new\", which the annotation \
                  metallb.io/address-pool names";
    check(&mut it, "c", expect);
}

#[test]
fn counters_show_assigned_and_available_addresses() {
    let avoiding = allocating(pool("lan", "10.0.0.0/24 fd00::/64"), |it| {
        it.avoid_buggy = true
    });
    let mut it = Allocator::of([avoiding]);
    it.apply(service("a").sharing("k", "TCP/1"));
    it.apply(service("b").sharing("k", "TCP/2"));
    it.apply(service("c").dual(FamilyPolicy::RequireDualStack));
    it.write_all();
    let usage: Vec<_> = it
        .usage()
        .map(|(name, usage)| (name.name.clone(), usage))
        .collect();
    let expect = Usage {
        assigned_v4: 2,
        assigned_v6: 1,
        available_v4: 252,
        available_v6: i64::MAX,
    };
    assert_eq!(usage, [("lan".to_owned(), expect)]);
}

fn rule(change: impl FnOnce(&mut AllocationRule)) -> Option<AllocationRule> {
    let mut rule = AllocationRule::default();
    change(&mut rule);
    Some(rule)
}

fn selecting(text: &str) -> Vec<Selector> {
    vec![Selector::by_labels(labels(text)).unwrap()]
}
