//! Frames as they are sent, received and recorded.

use std::{
    fs, thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use pcap_file::pcap::PcapReader;
use speaker_tests::lab::{self, Frame, Tag};

use super::{MEANWHILE, SOON, frame};

fn is_arp(frame: &&Frame) -> bool {
    frame.ether_type() == 0x0806
}

#[test]
fn a_capture_has_both_directions_in_order() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let before = SystemTime::now();
        let (inside, outside) = (a.capture("eth0")?, a.eth0.port.capture()?);
        a.ping(b.eth0.ipv4, SOON)?;

        let frames = inside.frames();
        let exchange: Vec<_> = frames
            .iter()
            .filter(is_arp)
            .map(|frame| frame.sent)
            .collect();
        assert_eq!(exchange, [true, false], "request and reply: {frames:?}");
        assert!(frames.is_sorted_by_key(|frame| frame.at), "{frames:?}");
        assert!(frames.iter().all(|frame| frame.at >= before), "{frames:?}");
        let frames = outside.frames();
        let exchange: Vec<_> = frames
            .iter()
            .filter(is_arp)
            .map(|frame| frame.sent)
            .collect();
        assert_eq!(exchange, [false, true], "seen from the switch: {frames:?}");

        let error = inside
            .wait_for(|frame| frame.ether_type() == 0x1234, MEANWHILE)
            .expect_err("there is none");
        assert!(error.to_string().contains("ARP, 42 bytes"), "{error}");
        Ok(())
    });
}

#[test]
fn a_capture_waits_for_later_frames() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let capture = b.capture("eth0")?;
        let socket = a.raw("eth0")?;
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(MEANWHILE);
                socket.send(&frame(b.eth0.mac, a.eth0.mac, b"late"))
            });
            let started = Instant::now();
            capture.wait_for(|frame| frame.payload().starts_with(b"late"), SOON)?;
            assert!(started.elapsed() >= MEANWHILE / 2);
            Ok(())
        })
    });
}

#[test]
fn a_capture_survives_unplugging() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let capture = a.capture("eth0")?;
        a.eth0.port.unplug()?;
        a.ip("link set eth0 down")?;
        a.ip("link set eth0 up")?;
        a.eth0.port.plug()?;
        b.ping(a.eth0.ipv4, SOON)?;
        capture.wait_for(|frame| frame.source() == b.eth0.mac, SOON)?;
        Ok(())
    });
}

#[test]
fn a_capture_is_saved_for_wireshark() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let capture = a.capture("eth0")?;
        a.ping(b.eth0.ipv4, SOON)?;
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("ping.pcap");
        let frames = capture.frames();
        capture.save(&path)?;

        let mut reader = PcapReader::new(fs::File::open(&path)?)?;
        let mut read = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet?;
            read.push((packet.timestamp, packet.data.into_owned()));
        }
        assert!(read.len() >= frames.len() && frames.len() >= 4);
        for (frame, (at, bytes)) in frames.iter().zip(read) {
            assert_eq!(frame.at.duration_since(UNIX_EPOCH)?, at);
            assert_eq!(frame.bytes, bytes);
        }
        Ok(())
    });
}

#[test]
fn tags_cross_the_switch_unchanged() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let (sender, receiver) = (a.raw("eth0")?, b.raw("eth0")?);
        let wire = b.eth0.port.capture()?;
        for (inline, tags) in [
            (&[0x81, 0x00, 0x20, 0x64][..], &[(0x8100, 100)][..]),
            (
                &[0x88, 0xa8, 0x00, 0x05, 0x81, 0x00, 0x0f, 0xff],
                &[(0x88a8, 5), (0x8100, 4095)],
            ),
        ] {
            let mut sent = frame(b.eth0.mac, a.eth0.mac, b"tagged");
            sent.splice(12..12, inline.iter().copied());
            sender.send(&sent)?;
            let tags: Vec<_> = tags
                .iter()
                .map(|&(protocol, vlan)| Tag { protocol, vlan })
                .collect();
            for seen in [
                receiver.receive_matching(SOON, |frame| frame.tags() == tags)?,
                wire.wait_for(|frame| frame.tags() == tags, SOON)?,
            ] {
                assert_eq!(seen.bytes, sent);
                assert!(seen.payload().starts_with(b"tagged"));
            }
        }
        Ok(())
    });
}

#[test]
fn a_raw_socket_receives_only_from_others_and_times_out() {
    lab::test(|lab| {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        let (here, there) = (a.raw("eth0")?, b.raw("eth0")?);
        let question = frame(b.eth0.mac, a.eth0.mac, b"question");
        here.send(&question)?;
        let heard = there.receive_matching(SOON, |frame| frame.bytes == question)?;
        assert!(!heard.sent);
        assert_eq!(
            (heard.source(), heard.destination()),
            (a.eth0.mac, b.eth0.mac)
        );

        let started = Instant::now();
        let own = here.receive_matching(MEANWHILE, |frame| frame.bytes == question);
        assert!(own.is_err(), "one's own frame");
        assert!((MEANWHILE..SOON).contains(&started.elapsed()));
        assert!(here.send(b"too short").is_err());
        Ok(())
    });
}
