use super::{
    Cause::{BondFailover, Defence, LinkUp, MacChanged, TakeOver},
    testing::{LINK, MAC, NO_REFRESH, OTHER_MAC, Wire, at, v4, v6},
    *,
};

const SECOND: u64 = 1_000;

fn burst(start: u64, cause: Cause) -> [(u64, Cause); 4] {
    [0, 1_100, 2_200, 7_200].map(|time| (start + time, cause))
}

#[test]
fn a_take_over_is_announced_three_times_in_a_row_and_once_5_s_later() {
    for vip in [v4(1), v6(1)] {
        let mut wire = Wire::new(&NO_REFRESH);
        wire.announcer.take_over(vip, LINK, at(500));
        assert_eq!(wire.run(60 * SECOND).sent(), burst(500, TakeOver));
        assert_eq!(wire.announcer.poll_timeout(), None);
    }
}

#[test]
fn a_contended_vip_is_announced_50_ms_later_and_then_as_after_a_take_over() {
    for vip in [v4(1), v6(1)] {
        let mut wire = Wire::new(&NO_REFRESH);
        wire.announcer.take_over(vip, LINK, at(0));
        wire.run(10).sent();
        wire.announcer.contend(vip, LINK, at(10));
        wire.announcer.contend(vip, LINK, at(20));
        assert_eq!(wire.run(60 * SECOND).sent(), burst(50, TakeOver));
    }
}

#[test]
fn a_vip_is_not_contended_while_its_link_is_down() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v4(1), LINK, at(0));
    wire.run(10).sent();
    wire.announcer.link_down(LINK);
    wire.announcer.contend(v4(1), LINK, at(10));
    wire.announcer.link_up(LINK, MAC, at(20));
    assert_eq!(wire.run(SECOND).sent(), []);
    assert_eq!(wire.run(60 * SECOND).sent(), burst(1_100, TakeOver));
}

#[test]
fn an_announcement_names_its_vip_link_and_mac() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v4(1), LINK, at(0));
    wire.run(0);
    let (_, announcement) = &wire.log[0];
    assert_eq!((announcement.vip, announcement.link), (v4(1), LINK));
    assert_eq!(announcement.frames, Frames::new(v4(1), MAC));
}

#[test]
fn a_vip_is_refreshed_once_a_period() {
    let config = Config {
        refresh: Duration::from_secs(150),
        ..NO_REFRESH
    };
    for vip in [v4(1), v6(1)] {
        let mut wire = Wire::new(&config);
        wire.announcer.take_over(vip, LINK, at(0));
        wire.run(10 * SECOND).sent();
        let refreshes = wire.run(2_000 * SECOND).sent();
        assert_eq!(refreshes.len(), 13);
        assert!(refreshes[0].0 <= (150 + 13) * SECOND);
        for pair in refreshes.windows(2) {
            assert_eq!(pair[1].0 - pair[0].0, 150 * SECOND);
            assert_eq!(pair[1].1, Cause::Refresh);
        }
    }
}

#[test]
fn a_vip_that_is_kept_is_only_refreshed() {
    let config = Config {
        refresh: Duration::from_secs(150),
        ..NO_REFRESH
    };
    let mut wire = Wire::new(&config);
    wire.announcer.keep(v4(1), LINK, at(0));
    let sent = wire.run(300 * SECOND).sent();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|(_, cause)| *cause == Cause::Refresh));

    wire.announcer.keep(v4(2), LINK + 1, at(300 * SECOND));
    wire.announcer.link_up(LINK + 1, MAC, at(300 * SECOND));
    assert_eq!(wire.run(300 * SECOND).sent(), [(300 * SECOND, LinkUp)]);
}

#[test]
fn no_second_of_the_period_refreshes_many_more_than_another() {
    let config = Config {
        refresh: Duration::from_secs(150),
        ..NO_REFRESH
    };
    let mut wire = Wire::new(&config);
    for n in 0..10_000 {
        wire.announcer.take_over(v6(n), LINK, at(0));
    }
    wire.run(1_000 * SECOND).sent();
    wire.run(1_150 * SECOND);
    let mut seconds = [0; 151];
    for (time, _) in &wire.log {
        seconds[(time / SECOND - 1_000) as usize] += 1;
    }
    assert_eq!(wire.log.len(), 10_000);
    assert!(
        seconds[..150].iter().all(|count| (60..=74).contains(count)),
        "{seconds:?}"
    );
}

#[test]
fn a_link_that_comes_up_announces_all_its_vips() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v4(1), LINK, at(0));
    wire.announcer.take_over(v4(2), LINK + 1, at(0));
    assert_eq!(wire.run(20 * SECOND).sent(), burst(0, TakeOver));
    wire.announcer.link_down(LINK);
    wire.announcer.link_up(LINK, MAC, at(30 * SECOND));
    assert_eq!(wire.run(60 * SECOND).sent(), burst(30 * SECOND, LinkUp));
    wire.announcer.link_up(LINK, MAC, at(60 * SECOND));
    assert_eq!(wire.run(90 * SECOND).sent(), [], "nothing is new");
}

#[test]
fn a_new_mac_is_announced_and_resets_the_advertisement_limit() {
    for vip in [v4(1), v6(1)] {
        let mut wire = Wire::new(&NO_REFRESH);
        wire.announcer.take_over(vip, LINK, at(0));
        wire.run(3 * SECOND).sent();
        wire.announcer.link_up(LINK, OTHER_MAC, at(4 * SECOND));
        wire.run(60 * SECOND);
        assert!(
            wire.log
                .iter()
                .all(|(_, sent)| sent.frames == Frames::new(vip, OTHER_MAC))
        );
        assert_eq!(wire.sent(), burst(4 * SECOND, MacChanged));
    }
}

#[test]
fn a_bond_failover_is_announced_within_the_limits() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v4(1), LINK, at(0));
    wire.run(3 * SECOND).sent();
    wire.announcer.bond_failover(LINK, at(4 * SECOND));
    assert_eq!(
        wire.run(60 * SECOND).sent(),
        burst(4 * SECOND, BondFailover)
    );

    // RFC 4861 §7.2.6: three in a row have just gone out, and the MAC is the same.
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v6(1), LINK, at(0));
    wire.run(3 * SECOND).sent();
    wire.announcer.bond_failover(LINK, at(4 * SECOND));
    assert_eq!(wire.run(60 * SECOND).sent(), burst(7_200, BondFailover));
}

#[test]
fn nothing_is_sent_while_the_link_is_down() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v4(1), LINK, at(0));
    wire.run(0).sent();
    wire.announcer.link_down(LINK);
    wire.announcer.take_over(v4(2), LINK, at(SECOND));
    wire.announcer.defend(v4(1), LINK, at(SECOND));
    assert_eq!(wire.run(30 * SECOND).sent(), []);
    wire.announcer.link_up(LINK, MAC, at(30 * SECOND));
    assert_eq!(
        wire.run(30 * SECOND).sent(),
        [(30 * SECOND, TakeOver), (30 * SECOND, LinkUp)],
        "the take-over is still to be told"
    );
}

#[test]
fn a_withdrawn_vip_is_not_announced() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v6(1), LINK, at(0));
    wire.announcer.take_over(v6(2), LINK, at(0));
    wire.run(SECOND).sent();
    wire.announcer.withdraw(v6(1), LINK);
    wire.announcer.link_gone(LINK);
    wire.announcer.link_up(LINK, MAC, at(SECOND));
    wire.announcer.defend(v6(1), LINK, at(SECOND));
    assert_eq!(wire.run(60 * SECOND).sent(), []);
}

#[test]
fn a_vip_taken_again_keeps_the_minimum_gap() {
    for vip in [v4(1), v6(1)] {
        let mut wire = Wire::new(&NO_REFRESH);
        wire.announcer.take_over(vip, LINK, at(0));
        wire.run(2_200).sent();
        wire.announcer.withdraw(vip, LINK);
        wire.announcer.take_over(vip, LINK, at(2_500));
        assert_eq!(wire.run(60 * SECOND).sent(), burst(3_300, TakeOver));
        wire.announcer.withdraw(vip, LINK);
        wire.announcer.poll(at(80 * SECOND));
        assert!(wire.announcer.withdrawn.is_empty());
    }
}

#[test]
fn rfc_5227_section_2_4_defends_once_in_ten_seconds() {
    for vip in [v4(1), v6(1)] {
        let mut wire = Wire::new(&NO_REFRESH);
        wire.announcer.take_over(vip, LINK, at(0));
        wire.run(20 * SECOND).sent();
        for time in (20..50).map(|second| second * SECOND) {
            wire.announcer.defend(vip, LINK, at(time));
            wire.run(time);
        }
        assert_eq!(
            wire.run(60 * SECOND).sent(),
            [20, 30, 40].map(|second| (second * SECOND, Defence))
        );
    }
}

#[test]
fn taking_a_vip_again_does_not_defend_it_more_often() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v4(1), LINK, at(0));
    wire.run(20 * SECOND).sent();
    wire.announcer.defend(v4(1), LINK, at(20 * SECOND));
    wire.run(20 * SECOND);
    wire.announcer.withdraw(v4(1), LINK);
    wire.announcer.take_over(v4(1), LINK, at(20 * SECOND));
    wire.announcer.defend(v4(1), LINK, at(20 * SECOND));
    wire.run(29 * SECOND).sent();
    wire.announcer.defend(v4(1), LINK, at(29 * SECOND));
    wire.announcer.defend(v4(1), LINK, at(30 * SECOND));
    assert_eq!(wire.run(60 * SECOND).sent(), [(30 * SECOND, Defence)]);
}

#[test]
fn an_announcement_that_is_due_anyway_is_the_defence() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v4(1), LINK, at(0));
    wire.run(500);
    wire.announcer.defend(v4(1), LINK, at(500));
    assert_eq!(wire.run(60 * SECOND).sent(), burst(0, TakeOver));
}

#[test]
fn ten_thousand_vips_are_announced_within_a_second_in_small_batches() {
    let config = Config::default();
    for vip in [v4, v6] {
        let mut wire = Wire::new(&config);
        for n in 0..10_000 {
            wire.announcer.take_over(vip(n), LINK, at(0));
        }
        wire.run(999);
        assert_eq!(wire.log.len(), 10_000);
        let vips: std::collections::BTreeSet<_> =
            wire.log.iter().map(|(_, sent)| sent.vip).collect();
        assert_eq!(vips.len(), 10_000);
        for batch in wire.log.chunk_by(|a, b| a.0 == b.0) {
            let frames: usize = batch
                .iter()
                .map(|(_, sent)| sent.frames.iter().count())
                .sum();
            assert!(frames <= config.batch);
        }
        for pair in wire.log.windows(2) {
            let passed = u128::from(pair[1].0 - pair[0].0);
            assert!(passed == 0 || passed >= config.interval.as_millis());
        }
    }
}

#[test]
fn take_overs_go_before_repeats_and_refreshes() {
    let config = Config {
        refresh: Duration::from_secs(6),
        batch: 2,
        interval: Duration::from_millis(100),
        ..NO_REFRESH
    };
    let mut wire = Wire::new(&config);
    // More than can be sent: a backlog of repeats and refreshes.
    for n in 0..200 {
        wire.announcer.take_over(v4(n), LINK, at(0));
    }
    wire.run(60 * SECOND).sent();
    assert!(wire.announcer.poll_timeout() <= Some(at(60 * SECOND + 100)));
    wire.announcer.take_over(v4(1_000), LINK, at(60 * SECOND));
    wire.run(60 * SECOND + 200);
    // One turn may go to an overdue announcement.
    assert!(wire.log[..2].iter().any(|(_, sent)| sent.vip == v4(1_000)));
}

#[test]
fn refreshes_are_not_starved_by_take_overs() {
    let config = Config {
        refresh: Duration::from_secs(20),
        batch: 2,
        interval: Duration::from_millis(100),
        ..NO_REFRESH
    };
    let mut wire = Wire::new(&config);
    wire.announcer.take_over(v4(0), LINK, at(0));
    wire.run(10 * SECOND).sent();
    // As many as can be sent, each withdrawn before its repetition.
    let mut last = 0;
    for tick in 100..2_000_u64 {
        let vip = v4(tick as u32);
        wire.announcer.take_over(vip, LINK, at(tick * 100));
        wire.run(tick * 100);
        if tick > 110 {
            wire.announcer.withdraw(v4(tick as u32 - 10), LINK);
        }
        for (time, sent) in wire.log.drain(..).filter(|(_, sent)| sent.vip == v4(0)) {
            assert_eq!(sent.cause, Cause::Refresh);
            last = time;
        }
        assert!(tick * 100 <= last.max(10 * SECOND) + (20 + 5 + 12) * SECOND);
    }
    assert!(last > 0);
}

#[test]
fn failed_announcements_are_retried_with_backoff() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.works = false;
    wire.announcer.take_over(v6(1), LINK, at(0));
    let tries: Vec<_> = wire
        .run(20 * SECOND)
        .sent()
        .iter()
        .map(|(time, _)| *time)
        .collect();
    assert_eq!(
        tries,
        [0, 100, 300, 700, 1_500, 3_100, 6_300, 12_700, 19_100]
    );
    wire.works = true;
    assert_eq!(
        wire.run(60 * SECOND).sent(),
        burst(25_500, TakeOver),
        "no try counts"
    );

    wire.announcer.take_over(v6(2), LINK, at(60 * SECOND));
    wire.run(60 * SECOND).sent();
    wire.works = false;
    wire.run(61_100).sent();
    wire.works = true;
    assert_eq!(
        wire.run(90 * SECOND).sent(),
        [61_200, 62_300, 67_300].map(|time| (time, TakeOver))
    );
}

#[test]
fn a_failed_defence_does_not_count() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.announcer.take_over(v4(1), LINK, at(0));
    wire.run(20 * SECOND).sent();
    wire.works = false;
    wire.announcer.defend(v4(1), LINK, at(20 * SECOND));
    wire.run(20 * SECOND).sent();
    wire.works = true;
    assert_eq!(wire.run(60 * SECOND).sent(), [(20_100, Defence)]);
}

#[test]
fn a_link_that_comes_up_ends_the_backoff() {
    let mut wire = Wire::new(&NO_REFRESH);
    wire.works = false;
    wire.announcer.take_over(v4(1), LINK, at(0));
    wire.run(7 * SECOND).sent();
    wire.works = true;
    wire.announcer.link_down(LINK);
    wire.announcer.link_up(LINK, MAC, at(7 * SECOND));
    assert_eq!(wire.run(7 * SECOND).sent(), [(7 * SECOND, TakeOver)]);
}
