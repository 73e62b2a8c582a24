use super::*;
use crate::{
    allocate::{
        Family, FamilyPolicy,
        testing::{allocating, ips, labels, name, pool, service},
    },
    intent::{AllocationRule, Selector},
};

#[track_caller]
fn check(allocator: &mut Allocator, of: &str, expect: &str) {
    assert_eq!(allocator.tell(of), expect, "{of}");
}

fn rule(change: impl FnOnce(&mut AllocationRule)) -> Option<AllocationRule> {
    let mut rule = AllocationRule::default();
    change(&mut rule);
    Some(rule)
}

fn selecting(text: &str) -> Vec<Selector> {
    vec![Selector::by_labels(labels(text)).unwrap()]
}

#[test]
fn the_lowest_free_address_in_the_order_of_the_list() {
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
fn who_was_created_first_is_served_first_in_whatever_order_they_come() {
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
fn an_address_freed_by_deletion_goes_to_the_waiter() {
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

/// The Service of another type is deleted from the index.
#[test]
fn an_address_freed_by_a_change_of_type_goes_to_the_waiter() {
    let mut it = Allocator::of([pool("lan", "10.0.0.1/32")]);
    it.apply(service("a").showing("10.0.0.1"));
    it.apply(service("b"));
    check(&mut it, "b", "no free IPv4 address in IPAddressPool lan");
    it.delete(&name("a"));
    check(&mut it, "b", "10.0.0.1 of lan");
}

#[test]
fn an_address_is_free_only_when_it_is_seen_to_be_gone_from_the_status() {
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
fn requested_addresses_are_given_if_they_can_be() {
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
        "fd00::1 is not of the IP families of the Service",
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
    let expect = "10.1.0.6 and fd00::6 are of different IPAddressPools: the addresses of a \
                  Service are of one";
    check(&mut it, "f", expect);
    it.apply(service("g").asking("10.0.0.8").of_pool("dmz"));
    let expect = "10.0.0.8 is of IPAddressPool speaker-system/lan, and the Service asks for dmz";
    check(&mut it, "g", expect);
    it.apply(
        service("h")
            .asking("10.0.0.7")
            .dual(FamilyPolicy::RequireDualStack),
    );
    check(
        &mut it,
        "h",
        "ipFamilyPolicy asks for an address of each family",
    );
    it.apply(
        service("i")
            .asking("10.0.0.7 10.0.0.6")
            .dual(FamilyPolicy::PreferDualStack),
    );
    check(
        &mut it,
        "i",
        "ipFamilyPolicy asks for one address of a family",
    );
}

#[test]
fn a_wish_that_cannot_be_read_takes_nothing_away() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    let unreadable = |of: Service| of.with(|it| it.requested = Err("twice".to_owned()));
    it.apply(unreadable(service("new")));
    check(&mut it, "new", "twice");
    it.apply(unreadable(service("old").showing("10.0.0.3")));
    check(&mut it, "old", "10.0.0.3 of lan; twice");
}

#[test]
fn two_services_can_swap_what_they_ask_for() {
    let mut it = Allocator::of([pool("lan", "10.0.0.1-10.0.0.2")]);
    it.apply(service("a").showing("10.0.0.1").asking("10.0.0.2"));
    it.apply(service("b").showing("10.0.0.2").asking("10.0.0.1"));
    it.write_all();
    it.write_all();
    check(&mut it, "a", "10.0.0.2 of lan");
    check(&mut it, "b", "10.0.0.1 of lan");
}

#[test]
fn a_pool_without_auto_assign_is_for_those_that_ask_for_it() {
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
fn another_pool_that_is_asked_for_is_moved_to() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24"), pool("dmz", "10.1.0.0/24")]);
    it.apply(service("a").showing("10.0.0.4"));
    check(&mut it, "a", "10.0.0.4 of lan");
    it.apply(service("a").showing("10.0.0.4").of_pool("dmz"));
    check(&mut it, "a", "10.1.0.0 of dmz");
}

#[test]
fn the_named_pool_must_be_for_the_service() {
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
fn pools_for_the_service_come_first_by_priority_and_those_without_last() {
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
fn labels_of_services_and_namespaces_decide_and_may_change() {
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
        "IPAddressPool speaker-system/lan has avoidBuggyIPs, and so does not give 10.0.1.0";
    check(&mut it, "b", expect);
    it.apply(service("c").showing("10.0.0.255"));
    check(&mut it, "c", "no free IPv4 address in IPAddressPool lan");
    it.apply(service("d").with(|it| it.families = vec![Family::V6]));
    check(&mut it, "d", "fd00:: of lan");
}

#[test]
fn services_of_one_key_share_the_lowest_address_that_their_ports_allow() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    for (of, key, ports, expect) in [
        ("a", "k", "TCP/80", "10.0.0.0 of lan"),
        ("b", "k", "TCP/443 UDP/80", "10.0.0.0 of lan"),
        ("c", "k", "TCP/443", "10.0.0.1 of lan"),
        ("d", "other", "TCP/1", "10.0.0.2 of lan"),
        ("e", "", "TCP/2", "10.0.0.3 of lan"),
        ("f", "k", "TCP/80", "10.0.0.1 of lan"),
    ] {
        it.apply(service(of).sharing(key, ports));
        check(&mut it, of, expect);
    }
}

#[test]
fn sharing_needs_the_same_key_and_backend_and_other_ports() {
    let held = "10.0.0.0 is in use by Service default/a:";
    let local = |of: Service, backend: &str| of.with(|it| it.sharing.backend = backend.to_owned());
    for (other, expect) in [
        (
            service("b").sharing("other", "UDP/1"),
            "its metallb.io/allow-shared-ip is another one",
        ),
        (
            service("b").sharing("", "UDP/1"),
            "both need the same annotation metallb.io/allow-shared-ip to share it",
        ),
        (
            service("b").sharing("k", "UDP/1 TCP/80"),
            "port TCP/80 is on both",
        ),
        (
            local(service("b").sharing("k", "UDP/1"), "app=x"),
            "to share it, both need externalTrafficPolicy Cluster, or Local with the same selector",
        ),
    ] {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
        it.apply(service("a").sharing("k", "TCP/80").showing("10.0.0.0"));
        it.apply(other.asking("10.0.0.0"));
        check(&mut it, "b", &format!("{held} {expect}"));
    }
}

#[test]
fn sharing_is_judged_again_when_policy_or_selector_changes() {
    let local = |of: Service, backend: &str| of.with(|it| it.sharing.backend = backend.to_owned());
    let a = service("a").sharing("k", "TCP/80").created(1);
    let b = service("b").sharing("k", "UDP/80").created(2);
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(a.clone());
    it.apply(b.clone());
    it.write_all();
    check(&mut it, "b", "10.0.0.0 of lan");
    // The one that changes is the older one: the younger one has to go.
    it.apply(local(a.clone(), "app=x").showing("10.0.0.0"));
    check(&mut it, "a", "10.0.0.0 of lan");
    check(&mut it, "b", "10.0.0.1 of lan");
    it.write_all();
    it.apply(
        local(b.clone(), "app=x")
            .asking("10.0.0.0")
            .showing("10.0.0.1"),
    );
    check(&mut it, "b", "10.0.0.0 of lan");
    it.write_all();
    it.apply(local(b, "app=y").asking("10.0.0.0").showing("10.0.0.0"));
    let expect = "10.0.0.0 is in use by Service default/a: to share it, both need \
                  externalTrafficPolicy Cluster, or Local with the same selector";
    check(&mut it, "b", expect);
}

#[test]
fn of_two_that_have_an_address_the_one_created_first_keeps_it() {
    for reverse in [false, true] {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
        let mut both = vec![
            service("a").created(9).showing("10.0.0.5"),
            service("b").created(3).showing("10.0.0.5"),
        ];
        if reverse {
            both.reverse();
        }
        both.into_iter().for_each(|of| it.apply(of));
        check(&mut it, "b", "10.0.0.5 of lan");
        check(&mut it, "a", "10.0.0.0 of lan");
    }
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

#[test]
fn the_services_of_a_deleted_pool_are_given_addresses_of_another() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24"), pool("zone", "10.1.0.0/24")]);
    it.apply(service("a"));
    it.write_all();
    it.delete_pool(&ObjectName::new("speaker-system", "lan"));
    check(&mut it, "a", "10.1.0.0 of zone");
}

#[test]
fn a_pool_that_shrinks_moves_only_those_that_it_no_longer_holds() {
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
    it.refuse_pool(&broken);
    it.apply(
        service("a")
            .showing("10.7.0.1")
            .with(|it| it.shown_pool = Some("broken".to_owned())),
    );
    check(&mut it, "a", "10.7.0.1 of broken");
    // The pool is there after all, and overlaps with another: the same.
    it.apply_pool(pool("broken", "10.7.0.0/24 10.0.0.9/32"));
    check(&mut it, "a", "10.7.0.1 of broken");
    assert!(it.is_stale());
    it.delete_pool(&broken);
    check(&mut it, "a", "10.0.0.0 of lan");
    assert!(!it.is_stale());
}

#[test]
fn a_service_of_another_class_is_given_nothing_and_what_it_has_is_its_own() {
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
    let expect = "10.0.0.0 is in use by Service default/foreign: another load balancer has given \
                  it that address";
    check(&mut it, "b", expect);
}

#[test]
fn a_namesake_of_a_deleted_service_inherits_nothing() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(service("a").asking("10.0.0.9"));
    check(&mut it, "a", "10.0.0.9 of lan");
    it.apply(service("a").with(|it| it.uid = "another".to_owned()));
    check(&mut it, "a", "10.0.0.0 of lan");
}

#[test]
fn a_service_whose_families_are_not_known_waits() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(service("a").with(|it| it.families.clear()));
    check(
        &mut it,
        "a",
        "the Service has no cluster IP yet, which tells its IP families",
    );
    it.apply(
        service("b")
            .with(|it| it.families.clear())
            .showing("10.0.0.8"),
    );
    check(&mut it, "b", "10.0.0.8 of lan");
}

mod dual_stack {
    use super::*;

    fn prefer(of: &str) -> Service {
        service(of).dual(FamilyPolicy::PreferDualStack)
    }

    fn require(of: &str) -> Service {
        service(of).dual(FamilyPolicy::RequireDualStack)
    }

    #[test]
    fn require_takes_both_from_one_pool_or_nothing() {
        let mut it = Allocator::of([pool("four", "10.0.0.0/24"), pool("six", "fd00::/64")]);
        it.apply(require("a"));
        let expect = "no free pair of an IPv4 and an IPv6 address in IPAddressPools four, six";
        check(&mut it, "a", expect);
        it.apply_pool(pool("two", "10.1.0.0/24 fd01::/64"));
        check(&mut it, "a", "10.1.0.0 fd01:: of two");
    }

    #[test]
    fn require_of_a_service_with_one_family_says_so() {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/64")]);
        it.apply(require("a").with(|it| it.families.truncate(1)));
        let expect =
            "ipFamilyPolicy is RequireDualStack, and the Service has cluster IPs of one family";
        check(&mut it, "a", expect);
    }

    #[test]
    fn prefer_takes_both_where_there_are_both() {
        let mut it = Allocator::of([
            pool("four", "10.0.0.0/24"),
            pool("two", "10.1.0.0/24 fd01::/64"),
        ]);
        it.apply(prefer("a"));
        check(&mut it, "a", "10.1.0.0 fd01:: of two");
        it.apply(prefer("b").with(|it| it.families.reverse()));
        check(&mut it, "b", "fd01::1 10.1.0.1 of two");
    }

    #[test]
    fn prefer_takes_ipv4_alone_where_there_is_no_ipv6() {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
        it.apply(prefer("a"));
        let expect = "10.0.0.0 of lan; no free IPv6 address in IPAddressPool lan";
        check(&mut it, "a", expect);
    }

    #[test]
    fn prefer_takes_ipv6_alone_where_there_is_no_ipv4() {
        let mut it = Allocator::of([pool("lan", "fd00::/64")]);
        it.apply(prefer("a"));
        let expect = "fd00:: of lan; no free IPv4 address in IPAddressPool lan";
        check(&mut it, "a", expect);
    }

    #[test]
    fn prefer_adds_the_other_family_when_the_pool_gets_it() {
        for (before, first) in [("10.0.0.0/24", "10.0.0.0"), ("fd00::/64", "fd00::")] {
            let mut it = Allocator::of([pool("lan", before)]);
            it.apply(prefer("a"));
            it.write_all();
            it.apply_pool(pool("lan", "10.0.0.0/24 fd00::/64"));
            let other = if first == "fd00::" {
                "10.0.0.0"
            } else {
                "fd00::"
            };
            check(&mut it, "a", &format!("{first} {other} of lan"));
        }
    }

    #[test]
    fn prefer_adds_the_other_family_when_it_is_freed() {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/128")]);
        it.apply(service("six").with(|it| it.families = vec![Family::V6]));
        it.write_all();
        it.apply(prefer("a"));
        it.write_all();
        check(
            &mut it,
            "a",
            "10.0.0.0 of lan; no free IPv6 address in IPAddressPool lan",
        );
        it.delete(&name("six"));
        check(&mut it, "a", "10.0.0.0 fd00:: of lan");
    }

    #[test]
    fn prefer_adds_nothing_of_another_pool() {
        let mut it = Allocator::of([pool("four", "10.0.0.0/24")]);
        it.apply(prefer("a"));
        it.write_all();
        it.apply_pool(pool("six", "fd00::/64"));
        let expect = "10.0.0.0 of four; no free IPv6 address in IPAddressPool four";
        check(&mut it, "a", expect);
    }

    #[test]
    fn a_service_that_becomes_dual_stack_keeps_what_it_has() {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/64")]);
        for (of, policy) in [
            ("a", FamilyPolicy::PreferDualStack),
            ("b", FamilyPolicy::RequireDualStack),
        ] {
            it.apply(service(of).showing("10.0.0.6").dual(policy));
            check(&mut it, of, "10.0.0.6 fd00:: of lan");
            it.delete(&name(of));
        }
    }

    #[test]
    fn a_service_that_becomes_single_stack_keeps_the_address_of_its_family() {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/64")]);
        it.apply(service("a").showing("fd00::6 10.0.0.6"));
        check(&mut it, "a", "10.0.0.6 of lan");
    }

    #[test]
    fn prefer_on_a_single_stack_cluster_is_single_stack() {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/64")]);
        it.apply(prefer("a").with(|it| it.families.truncate(1)));
        check(&mut it, "a", "10.0.0.0 of lan");
    }

    #[test]
    fn prefer_with_one_requested_address_has_that_one() {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/64")]);
        it.apply(prefer("a").asking("fd00::9"));
        check(&mut it, "a", "fd00::9 of lan");
        it.write_all();
        check(&mut it, "a", "fd00::9 of lan");
    }

    #[test]
    fn when_one_of_two_addresses_is_lost_the_other_stays() {
        let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/64")]);
        it.apply(prefer("a").asking(""));
        it.write_all();
        it.apply_pool(pool("lan", "10.0.0.0/24 fd01::/64"));
        check(&mut it, "a", "10.0.0.0 fd01:: of lan");
    }
}

#[test]
fn counters_tell_what_is_assigned_and_what_is_left() {
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

#[test]
fn an_object_that_changes_nothing_that_counts_costs_nothing() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(service("a"));
    it.settle();
    it.take_changed();
    it.apply(service("a").with(|it| it.version = "2".to_owned()));
    it.apply_pool(pool("lan", "10.0.0.0/24"));
    assert!(it.touched.is_empty() && !it.are_pools_new);
    assert_eq!(it.service(&name("a")).unwrap().1.addresses, ips("10.0.0.0"));
}

/// A /8 and a /64 are never listed, and one more change does not concern the rest.
#[test]
fn ten_thousand_services_are_given_addresses_at_once() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test takes the time of the core"
    )]
    let now = std::time::Instant::now;
    for (addresses, family) in [("10.0.0.0/8", Family::V4), ("fd00::/64", Family::V6)] {
        let of = |n: i64| {
            let service = service(&format!("ns-{}/svc-{n}", n % 50)).created(n);
            service.with(|it| it.families = vec![family])
        };
        let mut it = Allocator::of([pool("lan", addresses)]);
        let began = now();
        (0..10_000).for_each(|n| it.apply(of(n)));
        it.settle();
        let all = began.elapsed();
        it.write_all();
        let began = now();
        for n in 0..100 {
            it.delete(&of(n).name);
            it.apply(of(10_000 + n));
            it.settle();
        }
        let each = began.elapsed() / 100;
        println!("{addresses}: {all:?} for all, {each:?} for each change");
        assert!(all.as_secs() < 5, "{all:?}");
        assert!(each.as_millis() < 20, "{each:?}");
    }
}
