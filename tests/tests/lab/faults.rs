//! Faults at a port, and the frames that pass it.

use std::{
    fs,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use speaker_tests::lab::{self, Direction, Frame, Host};

use super::{MEANWHILE, SOON, frame};

#[test]
fn a_cut_cable_keeps_its_carrier_and_is_restored() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        a.ping(b.eth0.ipv4, SOON)?;
        b.eth0.port.cut()?;
        assert!(a.ping(b.eth0.ipv4, MEANWHILE).is_err());
        assert!(b.ping(a.eth0.ipv6, MEANWHILE).is_err());
        assert_eq!(carrier(&b)?, "1");
        b.eth0.port.restore()?;
        a.ping(b.eth0.ipv4, SOON)?;
        b.ping(a.eth0.ipv6, SOON)?;
        Ok(())
    });
}

#[test]
fn an_unplugged_cable_has_no_carrier() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        b.eth0.port.unplug()?;
        assert_eq!(carrier(&b)?, "0");
        assert!(a.ping(b.eth0.ipv4, MEANWHILE).is_err());
        b.eth0.port.plug()?;
        assert_eq!(carrier(&b)?, "1");
        a.ping(b.eth0.ipv4, SOON)?;
        Ok(())
    });
}

#[test]
fn a_cable_is_restored_whatever_the_host_does_at_its_end() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        b.ip("link set eth0 down")?;
        b.eth0.port.unplug()?;
        b.eth0.port.delay(Duration::from_millis(1))?;
        b.eth0.port.restore()?;
        b.ip("link set eth0 up")?;
        b.ping(a.eth0.ipv4, SOON)?;
        Ok(())
    });
}

#[test]
fn loss_is_one_way() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        for (lost, arriving) in [(Direction::FromHost, (0, 10)), (Direction::ToHost, (10, 0))] {
            a.eth0.port.restore()?;
            a.eth0.port.lose(1.0, lost)?;
            let wire = a.eth0.port.capture()?;
            let there = count_arriving(&a, &b, 10)?;
            let back = count_arriving(&b, &a, 10)?;
            assert_eq!((there, back), arriving, "{lost:?} is lost");
            let (from_a, to_a) = wire
                .frames()
                .into_iter()
                .filter(is_marked)
                .partition::<Vec<_>, _>(|frame| !frame.sent);
            assert_eq!(from_a.len(), 10, "the host did send");
            assert_eq!(to_a.len(), back, "what is lost never reached the cable");
        }
        Ok(())
    });
}

#[test]
fn loss_has_the_given_probability() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        for (direction, from, to) in [(Direction::FromHost, &a, &b), (Direction::ToHost, &b, &a)] {
            a.eth0.port.restore()?;
            a.eth0.port.lose(0.3, direction)?;
            let arrived = count_arriving(from, to, 4000)?;
            // Within seven standard deviations of 2800.
            assert!((2600..=3000).contains(&arrived), "{arrived}, {direction:?}");
            assert_eq!(count_arriving(to, from, 200)?, 200, "the other way");
        }
        let error = a.eth0.port.lose(1.5, Direction::ToHost);
        assert!(error.is_err(), "not a probability");
        Ok(())
    });
}

#[test]
fn a_delay_is_added_each_way() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let delay = Duration::from_millis(50);
        a.eth0.port.delay(delay)?;
        let first = a.ping(b.eth0.ipv4, SOON)?;
        assert!(first >= 4 * delay, "with resolution: {first:?}");
        let slow = quickest_ping(&a, &b)?;
        assert!((2 * delay..3 * delay).contains(&slow), "{slow:?}");

        a.eth0.port.delay(delay / 2)?;
        let less = quickest_ping(&a, &b)?;
        assert!((delay..2 * delay).contains(&less), "{less:?}");

        a.eth0.port.delay(Duration::ZERO)?;
        let direct = quickest_ping(&a, &b)?;
        assert!(direct < delay, "{direct:?}");
        Ok(())
    });
}

#[test]
fn a_delayed_cable_carries_all_frames_in_order() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        a.eth0.port.delay(Duration::from_millis(2))?;
        assert_eq!(count_arriving(&a, &b, 200)?, 200);
        assert_eq!(count_arriving(&b, &a, 200)?, 200);

        let (sender, receiver) = (a.raw("eth0")?, b.raw("eth0")?);
        let tag = [0x81, 0x00, 0x00, 0x64];
        for number in 0..100 {
            let mut sent = frame(b.eth0.mac, a.eth0.mac, &[number]);
            sent.splice(12..12, tag);
            sender.send(&sent)?;
        }
        for number in 0..100 {
            let seen = receiver.receive_matching(SOON, |frame| !frame.tags().is_empty())?;
            assert_eq!((seen.tags()[0].vlan, seen.payload()[0]), (100, number));
        }

        // The sender leaves this checksum to its network card, the receiver verifies it.
        let server = b.run(|| UdpSocket::bind(("0.0.0.0", 4000)))?;
        let client = a.run(|| UdpSocket::bind(("0.0.0.0", 0)))?;
        client.send_to(b"is this right?", (b.eth0.ipv4, 4000))?;
        server.set_read_timeout(Some(SOON))?;
        let mut room = [0; 64];
        let (length, _) = server.recv_from(&mut room)?;
        assert_eq!(&room[..length], b"is this right?");
        Ok(())
    });
}

#[test]
fn a_delayed_cable_has_the_other_faults_too() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let port = &a.eth0.port;
        for (lost, arriving) in [(Direction::FromHost, (0, 5)), (Direction::ToHost, (5, 0))] {
            // Loss set before the delay stays, and vice versa.
            port.lose(1.0, lost)?;
            port.delay(Duration::from_millis(2))?;
            let seen = (count_arriving(&a, &b, 5)?, count_arriving(&b, &a, 5)?);
            assert_eq!(seen, arriving, "{lost:?} is lost");
            port.delay(Duration::ZERO)?;
            let seen = (count_arriving(&a, &b, 5)?, count_arriving(&b, &a, 5)?);
            assert_eq!(seen, arriving, "{lost:?} is lost, without delay");
            port.lose(0.0, lost)?;
        }

        port.delay(Duration::from_millis(20))?;
        port.unplug()?;
        assert_eq!(carrier(&a)?, "0");
        port.plug()?;
        a.ping(b.eth0.ipv4, SOON)?;

        port.cut()?;
        port.unplug()?;
        port.restore()?;
        let direct = quickest_ping(&a, &b)?;
        assert!(direct < Duration::from_millis(40), "{direct:?}");
        Ok(())
    });
}

#[test]
fn vlan_devices_talk_on_their_vlan() {
    lab::test(|lab| {
        lab.needs("vlan")?;
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        for (host, address) in [(&a, "192.0.2.1/24"), (&b, "192.0.2.2/24")] {
            host.ip("link add link eth0 name eth0.100 type vlan id 100")?;
            host.ip("link set eth0.100 up")?;
            host.ip(&format!("address add {address} dev eth0.100"))?;
        }
        let wire = b.eth0.port.capture()?;
        a.ping([192, 0, 2, 2], SOON)?;
        wire.wait_for(
            |frame| frame.tags().first().is_some_and(|tag| tag.vlan == 100),
            SOON,
        )?;
        Ok(())
    });
}

#[test]
fn a_bond_survives_the_loss_of_a_cable() {
    lab::test(|lab| {
        lab.needs("bond")?;
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let (one, other) = (b.extra_link("eth1", 0)?, b.extra_link("eth2", 0)?);
        b.ip("link add bond0 type bond mode active-backup miimon 10")?;
        for link in [&one, &other] {
            b.ip(&format!("address flush dev {}", link.name))?;
            b.ip(&format!("link set {} down", link.name))?;
            b.ip(&format!("link set {} master bond0", link.name))?;
        }
        b.ip("link set bond0 up")?;
        b.ip("address add 10.0.0.200/32 dev bond0")?;
        let answers = || a.ping([10, 0, 0, 200], MEANWHILE).is_ok();
        super::wait_until("the bond is up", answers)?;
        one.port.unplug()?;
        super::wait_until("the other cable is used", answers)
    });
}

const MARK: &[u8] = b"a frame of the lab's tests";

fn is_marked(frame: &Frame) -> bool {
    frame.payload().starts_with(MARK)
}

/// Sends frames from one host to another, and counts those that arrive.
fn count_arriving(from: &Host, to: &Host, count: usize) -> Result<usize> {
    let arriving = to.capture("eth0")?;
    let socket = from.raw("eth0")?;
    for number in 1..=count {
        socket.send(&frame(to.eth0.mac, from.eth0.mac, MARK))?;
        // The kernel queues 1000 frames per processor, for all hosts together.
        if number.is_multiple_of(50) {
            thread::sleep(Duration::from_millis(2));
        }
    }
    let (mut arrived, mut end) = (0, Instant::now() + MEANWHILE);
    while arrived < count && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
        let frames = arriving.frames();
        let marked = frames
            .iter()
            .filter(|frame| !frame.sent && is_marked(frame))
            .count();
        if marked > arrived {
            (arrived, end) = (marked, Instant::now() + MEANWHILE);
        }
    }
    ensure!(arrived <= count, "{arrived} of {count} frames arrived");
    Ok(arrived)
}

/// The best of a few, so that a busy machine does not count as a slow cable.
fn quickest_ping(from: &Host, to: &Host) -> Result<Duration> {
    let mut quickest = SOON;
    for _ in 0..5 {
        quickest = quickest.min(from.ping(to.eth0.ipv4, SOON)?);
    }
    Ok(quickest)
}

fn carrier(host: &Host) -> Result<String> {
    let text = host.run(|| fs::read_to_string("/sys/class/net/eth0/carrier"))?;
    Ok(text.trim().to_owned())
}
