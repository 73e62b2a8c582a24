use std::{
    fs,
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{
    super::testing::{Pair, in_namespace, ip, output},
    *,
};

/// A checker's results for some VIPs, in no order.
fn found(checks: impl IntoIterator<Item = Request>) -> BTreeMap<IpAddr, Occupancy> {
    let (tell, told) = mpsc::channel();
    let checker = Checker::start(move |vip, occupancy| {
        tell.send((vip, occupancy)).unwrap();
    });
    let checker = checker.unwrap();
    let checks = checks.into_iter();
    let count = checks
        .map(|(vip, places)| checker.check(vip, places))
        .count();
    let result = || told.recv_timeout(Duration::from_secs(60));
    (0..count).map(|_| result().unwrap()).collect()
}

/// Its result for one VIP.
fn found_one(places: Vec<(Place, Mac)>) -> Occupancy {
    let vip = places[0].0.address;
    found([(vip, places)])[&vip]
}

const VIPS: [&str; 2] = ["10.0.0.5", "fd00::5"];

/// Two links; the second has other traffic: about other addresses, and from clients that ask for
/// the VIP.
fn two_links(test: impl FnOnce([Pair; 2]) + Send + 'static) {
    in_namespace(|| {
        let pairs = [Pair::new("near1", "far1"), Pair::new("near2", "far2")];
        for link in ["near1", "far1", "near2", "far2"] {
            // A separate host, as far as one kernel can act as two.
            for setting in [
                format!("ipv4/conf/{link}/arp_ignore=1"),
                format!("ipv6/conf/{link}/accept_dad=0"),
            ] {
                let (path, value) = setting.split_once('=').unwrap();
                fs::write(format!("/proc/sys/net/{path}"), value).unwrap();
            }
        }
        let stop = AtomicBool::new(false);
        let link = pairs[1].far;
        let chatter = open(link).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mac = [2, 0, 0, 0, 0, 9];
                let about_others = conflict_probe([10, 9, 9, 9].into(), mac);
                let mut by_a_client = conflict_probe("fd00::5".parse().unwrap(), mac);
                let source: Ipv6Addr = "fe80::9".parse().unwrap();
                by_a_client[22..38].copy_from_slice(&source.octets());
                while !stop.load(Ordering::Relaxed) {
                    for frame in [&about_others, &by_a_client] {
                        let outgoing = Outgoing { link, frame };
                        packet::send(chatter.as_fd(), &[outgoing]).unwrap();
                    }
                    thread::sleep(Duration::from_micros(500));
                }
            });
            let _stop = StopOnDrop(&stop);
            test(pairs);
        });
    });
}

/// Stops the traffic even if the test fails: until then, the scope does not end.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn places(pairs: &[Pair; 2], vip: &str) -> Vec<(Place, Mac)> {
    let address: IpAddr = vip.parse().unwrap();
    let place = |pair: &Pair| Place {
        address,
        link: pair.near,
    };
    let mac = [2, 0, 0, 0, 0, 0x77];
    pairs.iter().map(|pair| (place(pair), mac)).collect()
}

#[test]
fn a_vip_in_use_is_found_on_any_link() {
    two_links(|pairs| {
        for vip in VIPS {
            assert_eq!(found_one(places(&pairs, vip)), Occupancy::Free, "{vip}");
        }
        for thief in ["far1", "far2"] {
            for (vip, address) in VIPS.into_iter().zip(["10.0.0.5/32", "fd00::5/128"]) {
                ip(&format!("address add {address} dev {thief}"));
                let places = places(&pairs, vip);
                assert_eq!(found_one(places), Occupancy::InUse, "{vip} is on {thief}");
                ip(&format!("address del {address} dev {thief}"));
            }
        }
    });
}

/// RFC 5227 §1.1, PROBE_NUM: one probe may be lost.
#[test]
fn a_vip_is_probed_three_times_before_it_counts_as_free() {
    in_namespace(|| {
        let pair = Pair::new("near", "far");
        let mut wire = open(pair.far).unwrap();
        let mac = [2, 0, 0, 0, 0, 0x77];
        for vip in VIPS {
            let address = vip.parse().unwrap();
            let link = pair.near;
            let places = vec![(Place { address, link }, mac)];
            assert_eq!(found_one(places), Occupancy::Free);
            let probe = conflict_probe(address, mac);
            let mut buffer = [0; 256];
            let mut probes = 0;
            while let Ok(length) = wire.read(&mut buffer) {
                probes += usize::from(buffer[..length] == probe[..]);
            }
            assert_eq!(probes, 3, "{vip}");
        }
    });
}

#[test]
fn traffic_on_one_link_does_not_delay_another() {
    in_namespace(|| {
        let pairs = [Pair::new("near1", "far1"), Pair::new("near2", "far2")];
        let vip: IpAddr = VIPS[0].parse().unwrap();
        let mut heard = None;
        let mut checks = Checks::new(|vip, occupancy| heard = Some((vip, occupancy)));
        checks.begin((vip, places(&pairs, VIPS[0])));
        checks.probe();
        let link = pairs[1].far;
        let far = open(link).unwrap();
        let [other, claim] = [[10, 9, 9, 9], [10, 0, 0, 5]].map(announcement);
        for frame in [&[&other; 50][..], &[&claim]].concat() {
            packet::send(far.as_fd(), &[Outgoing { link, frame }]).unwrap();
        }
        checks.listen(Instant::now() + INTERVAL);
        assert_eq!(heard, Some((vip, Occupancy::InUse)));
    });
}

#[test]
fn the_nodes_own_frames_are_not_claims() {
    two_links(|pairs| {
        ip("address add 10.0.0.5/32 dev far2");
        let mut places = places(&pairs, "10.0.0.5");
        for (_, own) in &mut places {
            *own = mac_of("far2");
        }
        assert_eq!(found_one(places), Occupancy::Free);
    });
}

#[test]
fn thousands_of_vips_are_checked_together() {
    in_namespace(|| {
        let pairs = [Pair::new("near1", "far1"), Pair::new("near2", "far2")];
        for link in ["near1", "far1", "near2", "far2"] {
            let arp_ignore = format!("/proc/sys/net/ipv4/conf/{link}/arp_ignore");
            fs::write(arp_ignore, "1").unwrap();
        }
        let used: BTreeSet<IpAddr> = [3, 2_500, 4_999].map(address).into();
        for vip in &used {
            ip(&format!("address add {vip}/32 dev far2"));
        }
        let begun = Instant::now();
        let found = found((0..5_000).map(|number| {
            let vip = address(number);
            (vip, places(&pairs, &vip.to_string()))
        }));
        println!("checked in {:?}", begun.elapsed());
        assert_eq!(found.len(), 5_000);
        for (vip, occupancy) in found {
            let expect = match used.contains(&vip) {
                true => Occupancy::InUse,
                false => Occupancy::Free,
            };
            assert_eq!(occupancy, expect, "{vip}");
        }
    });
}

#[test]
fn a_vip_on_a_link_that_cannot_be_probed_is_neither_free_nor_in_use() {
    two_links(|pairs| {
        let mut places = places(&pairs, VIPS[0]);
        places[0].0.link = 9_999;
        assert_eq!(found_one(places.clone()), Occupancy::Unknown);
        ip("address add 10.0.0.5/32 dev far2");
        assert_eq!(found_one(places), Occupancy::InUse, "on the other one");
    });
}

#[test]
fn a_vip_is_free_on_a_link_that_is_switched_off() {
    two_links(|pairs| {
        ip("link set near1 down");
        assert_eq!(found_one(places(&pairs, VIPS[0])), Occupancy::Free);
    });
}

fn address(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    [10, 1, high, low].into()
}

/// An ARP announcement: its sender has the VIP.
fn announcement(vip: [u8; 4]) -> Vec<u8> {
    let mut frame = conflict_probe(vip.into(), [2, 0, 0, 0, 0, 9]);
    frame[28..32].copy_from_slice(&vip);
    frame.to_vec()
}

fn mac_of(link: &str) -> Mac {
    let text = output(&format!("-brief link show dev {link}"));
    let mac = text.split_whitespace().nth(2).unwrap();
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}
