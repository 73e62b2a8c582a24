//! The program answers, and counts.

use std::net::Ipv4Addr;

use speaker_common::{layout::Counters, respond::Reason};

use crate::{MAC, SLOT, VIP, agent, alone_until, client, common::isolated, counted};

#[test]
fn a_vip_is_answered_and_counted() {
    isolated(|bpffs| {
        let (mut kernel, _, client) = agent(bpffs);
        assert_eq!(client.ask(VIP), Some(MAC));
        let counters = counted(kernel.maps());
        assert_eq!((counters.requests(), counters.answered), (1, 1));
        assert!(counters.last_request_ns > 0);
        let all = kernel.maps().counters(SLOT + 2).unwrap();
        assert_eq!(all.len(), 5);
        assert_eq!(all[SLOT as usize], counters);
        assert_eq!(all[SLOT as usize + 1], Counters::default());
        kernel.maps_mut().reset_counters(SLOT).unwrap();
        assert_eq!(counted(kernel.maps()), Counters::default());
        assert_eq!(client.ask(Ipv4Addr::new(192, 0, 2, 11)), None);
    });
}

#[test]
fn the_program_falls_silent_when_the_lease_ends() {
    isolated(|bpffs| {
        let (kernel, _, client) = agent(bpffs);
        let ended = alone_until(speaker::kernel::now());
        kernel.lease().unwrap().write(&ended);
        assert_eq!(kernel.maps().lease().unwrap(), ended);
        assert_eq!(client.ask(VIP), None);
        let counters = counted(kernel.maps());
        assert_eq!((counters.refused, counters.answered), (1, 0));
    });
}

#[test]
fn frames_that_are_not_answered_are_counted_by_reason() {
    isolated(|bpffs| {
        let (kernel, _, client) = agent(bpffs);
        let mut reply_with_odd_operation = client::request(VIP);
        reply_with_odd_operation[21] = 9;
        client.send(&reply_with_odd_operation);
        client.send(&reply_with_odd_operation);
        assert_eq!(client.ask(VIP), Some(MAC));
        let reasons = kernel.maps().reasons().unwrap();
        assert!(reasons.contains(&(Reason::ArpOperation, 2)), "{reasons:?}");
    });
}
