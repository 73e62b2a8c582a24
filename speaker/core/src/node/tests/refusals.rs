//! What the kernel refuses, or has no room for.

use super::*;

#[test]
fn kernel_refusals_are_reported_and_retried() {
    let mut bench = Bench::new();
    (bench.full, bench.refuses_program) = (true, true);
    bench.handle(wanted(&["10.0.0.5"])).handle(links([eth0()]));
    assert_eq!(bench.state(), "failed: full");
    let told = |bench: &mut Bench| {
        let log = std::mem::take(&mut bench.log);
        let told = |line: &&String| line.contains("NotAnnounced") || line.contains("Refused");
        log.iter().filter(told).cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        told(&mut bench),
        ["NotAnnounced(10.0.0.5, \"full\")", "Refused(\"refused\")"]
    );
    bench.wait(5.1).wait(5.1);
    assert!(bench.log.iter().any(|line| line.starts_with("put")));
    assert_eq!(told(&mut bench), [""; 0], "the same again is no news");
    bench.full = false;
    bench.wait(5.1);
    assert_eq!(bench.state(), "failed: refused");
    (bench.full, bench.refuses_program) = (false, true);
    bench.refuses_program = false;
    bench.log.clear();
    bench.wait(5.1).expect(&[
        "attach 2",
        "Announcing(10.0.0.5, \"eth0\")",
        "announce 10.0.0.5",
    ]);
    assert_eq!(bench.state(), "answering");
}

#[test]
fn an_entry_that_does_not_fit_is_reported_once_and_entered_when_it_fits() {
    let most = layout::MAX_VIPS as u32;
    let v4 = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes()).to_string();
    let v6 = |n: u32| IpAddr::from((0xfd_u128 << 120 | u128::from(n)).to_be_bytes()).to_string();
    let vips = |some: std::ops::Range<u32>| -> Vec<String> {
        some.clone().map(v4).chain(some.map(v6)).collect()
    };
    let wanted = |vips: &[String]| wanted(&vips.iter().map(String::as_str).collect::<Vec<_>>());
    let mut bench = Bench::new();
    bench
        .handle(links([eth0()]))
        .handle(wanted(&vips(0..most + 1)));
    let counts = |bench: &mut Bench, word: &str| {
        let lines = std::mem::take(&mut bench.log);
        lines.iter().filter(|line| line.starts_with(word)).count()
    };
    assert_eq!(counts(&mut bench, "NotAnnounced"), 2);
    let state = |bench: &Bench, vip: String| {
        let vips = bench.node.status(bench.now).vips;
        let its = vips.iter().find(|it| it.address == vip.parse().ok());
        its.expect("it is wanted").places[0].describe()
    };
    for (last, map) in [(v4(most), "vips_v4"), (v6(most), "vips_v6")] {
        let full = format!("failed: the map {map} is full: it has room for 65536");
        assert_eq!(state(&bench, last), full);
    }
    assert_eq!(state(&bench, v6(most - 1)), "answering");

    bench.wait(30.0);
    assert_eq!(counts(&mut bench, "NotAnnounced"), 0);
    bench.handle(wanted(&vips(1..most + 1)));
    // The two that are removed are silenced first.
    assert_eq!(counts(&mut bench, "put"), 4);
    assert_eq!(state(&bench, v4(most)), "answering");
    assert_eq!(state(&bench, v6(most)), "answering");
}
