//! Hosts, their addresses and their view of the system.

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use speaker_tests::lab::{self, Lab};

use super::{MEANWHILE, SOON, frame};

#[test]
fn hosts_reach_each_other() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        a.ping(b.eth0.ipv4, SOON)?;
        a.ping(b.eth0.ipv6, SOON)?;
        a.ping(b.eth0.link_local, SOON)?;
        b.ping(a.eth0.ipv4, SOON)?;
        assert!(
            a.ping([10, 0, 0, 99], MEANWHILE).is_err(),
            "nobody has this address"
        );
        Ok(())
    });
}

#[test]
fn addresses_follow_the_order_of_hosts() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let other = b.extra_link("eth1", 7)?;
        assert_eq!(a.eth0.ipv4.to_string(), "10.0.0.1");
        assert_eq!(b.eth0.ipv6.to_string(), "fd00::2");
        assert_eq!(b.eth0.link_local.to_string(), "fe80::ff:fe00:2");
        assert_eq!(other.ipv4.to_string(), "10.0.7.1");
        assert_eq!(other.mac, [2, 0, 0, 0, 7, 1]);
        let shown = b.ip("-oneline address show dev eth1")?;
        for address in [
            other.ipv4.to_string(),
            other.ipv6.to_string(),
            other.link_local.to_string(),
        ] {
            assert!(shown.contains(&address), "{address} is not in {shown}");
        }
        Ok(())
    });
}

#[test]
fn lans_are_separate() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let (a1, b1) = (a.extra_link("eth1", 1)?, b.extra_link("eth1", 1)?);
        a.ping(b1.ipv4, SOON)?;
        let stranger = b.capture("eth0")?;
        a.raw(&a1.name)?
            .send(&frame([0xff; 6], a1.mac, b"to everybody"))?;
        thread::sleep(MEANWHILE);
        let frames = stranger.frames();
        assert!(frames.iter().all(|frame| frame.source() != a1.mac));
        Ok(())
    });
}

#[test]
fn a_host_sees_its_own_system() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let words = String::from("borrowed by the closure");
        a.run(|| fs::write("/run/note", &words))?;
        assert_eq!(a.run(|| fs::read_to_string("/run/note"))?, words);
        assert!(b.run(|| fs::read_to_string("/run/note")).is_err());
        assert!(fs::read_to_string("/run/note").is_err());

        assert_eq!(a.name(), "a");
        assert_eq!(a.command("hostname").run()?, "a\n");
        let here = env::current_dir()?;
        let there = a.command("pwd").run()?;
        assert_eq!(there.trim(), here.to_str().context("not UTF-8")?);

        let seen = |link: &str| a.run(|| fs::exists(format!("/sys/class/net/{link}")));
        assert!(seen("eth0")? && !seen("lan0port1")?);
        let mounts = a.run(|| fs::read_to_string("/proc/thread-self/mounts"))?;
        assert!(mounts.contains(" /sys/fs/bpf bpf "), "{mounts}");
        Ok(())
    });
}

#[test]
fn settings_are_the_hosts_own() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        a.sysctl("net.ipv4.ip_forward", "1")?;
        let forwards = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
        assert_eq!(
            (a.run(forwards)?, b.run(forwards)?),
            ("1\n".into(), "0\n".into())
        );
        let error = a.sysctl("net.no_such", "1").expect_err("there is none");
        assert!(
            error.to_string().contains("/proc/sys/net/no_such of a"),
            "{error}"
        );
        Ok(())
    });
}

#[test]
#[should_panic(expected = "as the closure said")]
fn a_panic_in_a_host_is_passed_on() {
    let outcome = Lab::new().and_then(|lab| lab.host("a"));
    match outcome {
        Ok(host) => host.run(|| panic!("as the closure said")),
        // Nothing is visible outside the lab.
        Err(error) => panic!("as the closure said, but {error:?}"),
    }
}

#[test]
fn many_labs_can_exist_at_once() {
    lab::test(|_| {
        thread::scope(|scope| {
            let labs: Vec<_> = (0..6)
                .map(|number| scope.spawn(move || one_of_many(number)))
                .collect();
            labs.into_iter()
                .try_for_each(|lab| lab.join().expect("it returns its errors"))
        })
    });
}

/// Every lab has an address that the others lack.
fn one_of_many(number: u8) -> Result<()> {
    let lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    b.ip(&format!("address add 10.0.0.{}/32 dev eth0", 100 + number))?;
    for other in 0..6 {
        let limit = if other == number { SOON } else { MEANWHILE };
        let answer = a.ping([10, 0, 0, 100 + other], limit);
        ensure!(
            answer.is_ok() == (other == number),
            "lab {number} asked for {other}"
        );
    }
    Ok(())
}

#[test]
fn three_nodes_and_a_client_are_up_within_a_second() {
    lab::test(|_| {
        let build = || -> Result<Duration> {
            let started = Instant::now();
            let lab = Lab::new()?;
            let mut hosts = Vec::new();
            for name in ["node-a", "node-b", "node-c", "client"] {
                hosts.push(lab.host(name)?);
            }
            Ok(started.elapsed())
        };
        let mut times = Vec::new();
        // Once without interference from other tests is enough.
        for _ in 0..5 {
            let time = build()?;
            if time < Duration::from_secs(1) {
                return Ok(());
            }
            times.push(time);
        }
        bail!("it took {times:?}")
    });
}
