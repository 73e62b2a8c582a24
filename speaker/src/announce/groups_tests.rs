use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use super::{
    super::testing::{Pair, in_namespace, ip, output},
    *,
};

/// The solicited-node groups of a link, by their last 24 bits, and how often each is joined.
fn kernel(link: &str) -> BTreeMap<String, u32> {
    fs::read_to_string("/proc/thread-self/net/igmp6")
        .unwrap()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[1] == link && fields[2].starts_with("ff0200000000000000000001ff"))
        .map(|fields| (fields[2][26..].to_owned(), fields[3].parse().unwrap()))
        .collect()
}

fn one(suffix: &str) -> BTreeMap<String, u32> {
    BTreeMap::from([(suffix.to_owned(), 1)])
}

fn on(link: u32, suffix: u32) -> Membership {
    let group = 0xff02_u128 << 112 | 0x1_ff00_0000 | u128::from(suffix);
    Membership {
        link,
        group: Ipv6Addr::from_bits(group),
    }
}

/// A pair without addresses: the kernel itself joins no solicited-node group there.
fn bare_pair() -> Pair {
    let pair = Pair::new("near", "far");
    for name in ["near", "far"] {
        ip(&format!("link set dev {name} addrgenmode none"));
        ip(&format!("address flush dev {name}"));
    }
    assert_eq!(kernel("near"), BTreeMap::new());
    pair
}

#[test]
fn a_group_outlives_its_agent_and_is_found_again() {
    in_namespace(|| {
        let Pair { near, far } = bare_pair();
        let groups = Groups::open().unwrap();
        let (a, b) = (on(near, 0x12_3456), on(far, 1));
        for membership in [a, a, b] {
            groups.join(membership).unwrap();
        }
        drop(groups);
        assert_eq!(kernel("near"), one("123456"));
        assert_eq!(kernel("far"), one("000001"));

        // Another program's proxy neighbour is not ours.
        ip("neighbour add proxy 2001:db8::5 dev near");
        let groups = Groups::open().unwrap();
        let joined: BTreeSet<Membership> = groups.joined().unwrap().into_iter().collect();
        assert_eq!(joined, BTreeSet::from([a, b]));
        groups.leave(b);
        groups.leave(b);
        assert_eq!(kernel("far"), BTreeMap::new());
        assert_eq!(groups.leave_all().unwrap(), 1);
        assert_eq!(kernel("near"), one("000005"));
    });
}

/// The node may be configured as a proxy for its pods.
#[test]
fn the_kernel_answers_for_no_vip_even_as_a_proxy() {
    in_namespace(|| {
        let near = bare_pair().near;
        for (setting, value) in [
            ("conf/all/forwarding", "1"),
            ("conf/near/proxy_ndp", "1"),
            ("neigh/near/proxy_delay", "0"),
            ("neigh/far/retrans_time_ms", "50"),
        ] {
            fs::write(format!("/proc/sys/net/ipv6/{setting}"), value).unwrap();
        }
        ip("address add fe80::2/64 dev far nodad");
        ip("address add fd00::2/64 dev far nodad");
        ip("address add fe80::1/64 dev near nodad");
        let before = addresses_and_routes("near");
        Groups::open().unwrap().join(on(near, 5)).unwrap();
        assert_eq!(addresses_and_routes("near"), before);

        assert!(!resolves("fd00::5", "far"));
        ip("neighbour add proxy fd00::6 dev near");
        assert!(resolves("fd00::6", "far"), "it is no proxy at all");
    });
}

/// Sends to an address, and waits for the outcome.
fn resolves(address: &str, link: &str) -> bool {
    let socket = UdpSocket::bind("[::]:0").unwrap();
    socket.send_to(b"?", (address, 9)).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let known = output(&format!("neighbour show {address} dev {link}"));
        match known.split_whitespace().last() {
            Some("REACHABLE") => return true,
            Some("FAILED") => return false,
            _ => thread::sleep(Duration::from_millis(10)),
        }
        assert!(Instant::now() < end, "no outcome: {known:?}");
    }
}

fn addresses_and_routes(link: &str) -> [String; 2] {
    [
        output(&format!("address show dev {link}")),
        output(&format!("-6 route show dev {link} table all")),
    ]
}

#[test]
fn ten_thousand_groups() {
    in_namespace(|| {
        let near = bare_pair().near;
        let groups = Groups::open().unwrap();
        let all: BTreeSet<Membership> = (0..10_000).map(|n| on(near, n)).collect();
        let started = Instant::now();
        for membership in &all {
            groups.join(*membership).unwrap();
        }
        println!("joined in {:?}", started.elapsed());
        assert_eq!(kernel("near").len(), 10_000);
        let joined = groups.joined().unwrap();
        assert_eq!(joined.into_iter().collect::<BTreeSet<_>>(), all);
        assert_eq!(groups.leave_all().unwrap(), 10_000);
        assert_eq!(kernel("near").len(), 0);
    });
}

#[test]
fn a_link_without_carrier_or_with_a_new_name_or_mac_keeps_its_groups() {
    in_namespace(|| {
        let near = bare_pair().near;
        let groups = Groups::open().unwrap();
        groups.join(on(near, 1)).unwrap();
        for change in [
            "dev far down",
            "dev far up",
            "dev near address 02:00:00:00:00:09",
            "dev near mtu 1280",
            "dev near name lan0",
        ] {
            ip(&format!("link set {change}"));
            assert_eq!(kernel(&name(near)), one("000001"), "{change}");
        }
    });
}

/// The node joins them again when it hears of it.
#[test]
fn a_link_that_goes_down_or_loses_ipv6_loses_its_groups() {
    in_namespace(|| {
        let near = bare_pair().near;
        let groups = Groups::open().unwrap();
        let membership = on(near, 1);
        for (takes, gives) in [
            ("link set dev near down", "link set dev near up"),
            ("link set dev near mtu 1279", "link set dev near mtu 1500"),
        ] {
            groups.join(membership).unwrap();
            ip(takes);
            assert_eq!(kernel("near"), BTreeMap::new(), "{takes}");
            ip(gives);
            assert!(!kernel("near").contains_key("000001"), "{gives}");
            groups.leave(membership);
            groups.join(membership).unwrap();
            assert_eq!(kernel("near").get("000001"), Some(&1), "{gives}");
        }
        let disable = |value| {
            fs::write("/proc/sys/net/ipv6/conf/near/disable_ipv6", value).unwrap();
        };
        disable("1");
        assert!(!kernel("near").contains_key("000001"));
        groups.join(membership).unwrap();
        disable("0");
        assert_eq!(kernel("near").get("000001"), Some(&1));
    });
}

#[test]
fn joining_on_a_removed_link_fails_and_its_groups_are_gone() {
    in_namespace(|| {
        let near = bare_pair().near;
        let groups = Groups::open().unwrap();
        groups.join(on(near, 1)).unwrap();
        ip("link delete dev near");
        assert_eq!(groups.joined().unwrap(), []);
        groups.leave(on(near, 1));
        let error = groups.join(on(near, 2)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot join ff02::1:ff00:2 on interface {near}, so that solicitations for \
                 its VIPs may not arrive: No such device (os error 19)"
            )
        );
    });
}

#[test]
fn joining_on_a_link_without_ipv6_fails() {
    in_namespace(|| {
        let near = bare_pair().near;
        ip("link set dev near mtu 1000");
        let error = Groups::open().unwrap().join(on(near, 1)).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("cannot join ff02::1:ff00:1 on near"),
            "{error}"
        );
        assert!(error.ends_with("its MTU may be below 1280"), "{error}");
    });
}
