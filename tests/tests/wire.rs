//! The wire rules on the loaded program.

use speaker_common::{
    layout::{Action, EVENT_RING_BYTES, Event, Link, Vip, VipKeyV4, VipKeyV6, Vlan},
    respond::{Reason, Verdict},
    testing::{Arp, Host, Nd, Subject as _, alone_until, rows},
};
use speaker_tests::program::{self, TEST_RUN_IFINDEX, object};

macro_rules! on_the_loaded_program {
    ($($row:ident,)+) => {
        $(
            #[test]
            fn $row() {
                program::test(object::SPEAKER, rows::$row);
            }
        )+
    };
}
speaker_common::wire_rows!(on_the_loaded_program);

/// What the host function cannot have: a full ring. Lost events are counted, and the frame is
/// handled as usual.
#[test]
fn events_that_do_not_fit_the_ring_are_counted() {
    /// Bytes that the kernel puts before each record.
    const RECORD_HEADER: usize = 8;
    const MOST: usize = EVENT_RING_BYTES / (RECORD_HEADER + size_of::<Event>());

    program::test(object::SPEAKER, |program| {
        let (node, stranger) = (Host::number(1), Host::number(3));
        let address = Host::number(100).v4;
        let (port, vlan) = (TEST_RUN_IFINDEX, Vlan::default());
        program.set_link(Some(Link::new(node.mac, port)));
        program.set_lease(alone_until(u64::MAX));
        let key = VipKeyV4 {
            address,
            port,
            vlan,
        };
        program.set_vip_v4(key, Some(Vip::new(Action::Answer, 0)));

        let claim = Arp::announcement(&stranger, address).bytes();
        for _ in 0..MOST + 10 {
            assert_eq!(program.handle(&claim).verdict, Verdict::Pass);
        }
        let told = program.take_events().len();
        let lost = program.reason(Reason::EventLost);
        assert!(told > MOST - 10 && told <= MOST, "{told} of {MOST}");
        assert_eq!(told as u64 + lost, MOST as u64 + 10);

        program.handle(&claim);
        assert_eq!(program.take_events().len(), 1, "there is room again");
    });
}

/// Nor a frame in several buffers (Linux 5.18): the program sees only the first, and resizing would
/// change the last.
#[test]
fn a_solicitation_in_several_buffers_passes_unchanged() {
    program::test(object::SPEAKER, |program| {
        let (node, client) = (Host::number(1), Host::number(2));
        let address = Host::number(100).v6;
        let (port, vlan) = (TEST_RUN_IFINDEX, Vlan::default());
        program.set_link(Some(Link::new(node.mac, port)));
        program.set_lease(alone_until(u64::MAX));
        let key = VipKeyV6 {
            address,
            port,
            vlan,
        };
        program.set_vip_v6(key, Some(Vip::new(Action::Answer, 0)));

        let request = Nd {
            options: Vec::new(),
            trailer: vec![0x5a; 9_000],
            ..Nd::solicitation(&client, address)
        };
        let outcome = program.handle(&request.bytes());
        assert_eq!(outcome.verdict, Verdict::Pass);
        assert!(outcome.frame == request.bytes(), "it was changed");
        assert_eq!(program.reason(Reason::NoRoom), 1);
    });
}
