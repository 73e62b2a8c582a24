//! The lease and its probes, answered by the program or by the agent instead.

use speaker_common::{
    layout::{PROBE_KEYS, Probes},
    lease::{AgentLease, PeersLease},
    probe::{FLAG_LAPSED, FLAG_VALID, Key, Kind, Probe},
};

use crate::{MAC, VIP, agent, alone_until, common::isolated};

const KEY: Key = Key([1, 2]);
const NUMBER: u64 = 11;
const SECOND_NS: u64 = 1_000_000_000;

/// A probe at the agent's socket does the same as in the program, with immediate effect.
#[test]
fn the_agent_answers_probes_as_the_program_does() {
    isolated(|bpffs| {
        let (mut kernel, _, client) = agent(bpffs);
        let lease = kernel.lease().unwrap();
        assert_eq!(
            lease.answer(&request(Kind::Request, 0)),
            None,
            "no keys yet"
        );
        let probes = Probes::new(NUMBER, 7_947, &[Key([3, 4]), KEY]).unwrap();
        kernel.maps_mut().set_probes(&probes).unwrap();

        let now = speaker::kernel::now();
        let in_company = AgentLease {
            life: 7,
            heartbeat_ns: now,
            peers_lease_ns: 60 * SECOND_NS,
            alone: 0,
            ..alone_until(now + 3_600 * SECOND_NS)
        };
        lease.write(&in_company);
        assert_eq!(lease.agent(), in_company);
        assert_eq!(client.ask(VIP), None, "nobody has renewed it");

        let reply = lease.answer(&request(Kind::Request, 0)).unwrap();
        let reply = Probe::open(&reply, &KEY).unwrap();
        assert_eq!((reply.flags, reply.life), (0, 7));
        assert_eq!(lease.answer(&request(Kind::Renew, reply.time_ns)), None);
        let renewed = PeersLease {
            life: 7,
            deadline_ns: reply.time_ns + 60 * SECOND_NS,
            ..PeersLease::default()
        };
        assert_eq!(lease.peers(), renewed);
        assert_eq!(kernel.maps().peers().unwrap(), renewed);
        assert_eq!(client.ask(VIP), Some(MAC));

        lease.write(&AgentLease {
            agent_deadline_ns: speaker::kernel::now(),
            ..in_company
        });
        let reply = lease.answer(&request(Kind::Request, 0)).unwrap();
        assert_eq!(Probe::open(&reply, &KEY).unwrap().flags, FLAG_LAPSED);
        assert_eq!(lease.peers().over, 7);
        lease.write(&in_company);
        assert_eq!(client.ask(VIP), None, "it was said to be over");
        lease.write(&AgentLease {
            life: 8,
            alone: 1,
            ..in_company
        });
        assert_eq!(client.ask(VIP), Some(MAC));
        let reply = lease.answer(&request(Kind::Request, 0)).unwrap();
        assert_ne!(Probe::open(&reply, &KEY).unwrap().flags & FLAG_VALID, 0);
    });
}

/// As after the host was suspended: the agent's own clock was stopped.
#[test]
fn a_lease_whose_deadline_has_passed_is_not_extended() {
    isolated(|bpffs| {
        let (kernel, _, client) = agent(bpffs);
        let lease = kernel.lease().unwrap();
        let now = speaker::kernel::now();
        lease.write(&alone_until(now));
        let later = alone_until(now + 3_600 * SECOND_NS);
        lease.write(&later);
        assert_eq!(client.ask(VIP), None);
        assert_eq!(lease.peers().over, later.life);
        lease.write(&AgentLease { life: 2, ..later });
        assert_eq!(client.ask(VIP), Some(MAC));
    });
}

#[test]
fn more_keys_than_the_map_holds_are_refused() {
    let keys = [KEY; PROBE_KEYS + 1];
    assert!(Probes::new(NUMBER, 1, &keys[..PROBE_KEYS]).is_some());
    assert_eq!(Probes::new(NUMBER, 1, &keys), None);
}

fn request(kind: Kind, time_ns: u64) -> [u8; speaker_common::probe::LENGTH] {
    let probe = Probe {
        kind,
        flags: 0,
        watcher: NUMBER + 1,
        target: NUMBER,
        sequence: 5,
        life: 7,
        time_ns,
        agent_age_ms: 0,
        agent_left_ms: 0,
    };
    probe.seal(&KEY)
}
