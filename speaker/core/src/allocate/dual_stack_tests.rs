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
fn require_with_one_family_is_refused() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/64")]);
    it.apply(require("a").with(|it| it.families.truncate(1)));
    let expect =
        "ipFamilyPolicy is RequireDualStack, but the Service has cluster IPs of only one family";
    check(&mut it, "a", expect);
}

#[test]
fn prefer_takes_both_if_both_are_free() {
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
fn prefer_takes_only_ipv4_without_ipv6() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    it.apply(prefer("a"));
    let expect = "10.0.0.0 of lan; no free IPv6 address in IPAddressPool lan";
    check(&mut it, "a", expect);
}

#[test]
fn prefer_takes_only_ipv6_without_ipv4() {
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
fn prefer_adds_nothing_from_another_pool() {
    let mut it = Allocator::of([pool("four", "10.0.0.0/24")]);
    it.apply(prefer("a"));
    it.write_all();
    it.apply_pool(pool("six", "fd00::/64"));
    let expect = "10.0.0.0 of four; no free IPv6 address in IPAddressPool four";
    check(&mut it, "a", expect);
}

#[test]
fn a_service_that_becomes_dual_stack_keeps_its_address() {
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
fn prefer_with_one_requested_address_gets_that_one() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/64")]);
    it.apply(prefer("a").asking("fd00::9"));
    check(&mut it, "a", "fd00::9 of lan");
    it.write_all();
    check(&mut it, "a", "fd00::9 of lan");
}

#[test]
fn losing_one_of_two_addresses_keeps_the_other() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24 fd00::/64")]);
    it.apply(prefer("a").asking(""));
    it.write_all();
    it.apply_pool(pool("lan", "10.0.0.0/24 fd01::/64"));
    check(&mut it, "a", "10.0.0.0 fd01:: of lan");
}
