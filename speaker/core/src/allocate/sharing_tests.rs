use super::*;

#[test]
fn services_with_one_key_share_the_lowest_address_that_their_ports_allow() {
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
fn sharing_needs_the_same_key_and_backend_and_different_ports() {
    let held = "10.0.0.0 is in use by Service default/a:";
    let local = |of: Service, backend: &str| of.with(|it| it.sharing.backend = backend.to_owned());
    for (other, expect) in [
        (
            service("b").sharing("other", "UDP/1"),
            "its metallb.io/allow-shared-ip has a different value",
        ),
        (
            service("b").sharing("", "UDP/1"),
            "both need the same annotation metallb.io/allow-shared-ip to share it",
        ),
        (
            service("b").sharing("k", "UDP/1 TCP/80"),
            "both use port TCP/80",
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
fn sharing_is_reevaluated_when_policy_or_selector_changes() {
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
fn of_two_services_with_an_address_the_older_keeps_it() {
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
fn a_service_that_stops_sharing_keeps_its_address() {
    let mut it = Allocator::of([pool("lan", "10.0.0.0/24")]);
    let a = service("a").created(1).showing("10.0.0.0");
    let b = service("b").created(2).showing("10.0.0.1");
    it.apply(b.clone().sharing("k", "TCP/1"));
    it.apply(a.sharing("k", "TCP/2").asking("10.0.0.1"));
    check(&mut it, "a", "10.0.0.1 of lan");
    it.apply(b.sharing("", "TCP/1"));
    check(&mut it, "b", "10.0.0.1 of lan");
    let expect = "10.0.0.1 is in use by Service default/b: both need the same annotation \
                  metallb.io/allow-shared-ip to share it";
    check(&mut it, "a", expect);
}
