//! Liveness probes: which datagrams are answered, and how.

use super::scene::{CLIENT, NODE, STRANGER, Scene};
use crate::{
    layout::Probes,
    lease::{AgentLease, INERT_AFTER_NS, PeersLease},
    probe::{
        ANYBODY, FLAG_ALONE, FLAG_DRAINING, FLAG_LAPSED, FLAG_VALID, Key, Kind, LENGTH, Probe,
    },
    respond::{Reason, Verdict},
    testing::{Checksum, Datagram, Subject, Tag, alone_until},
    wire::BROADCAST,
};

/// The present key, and the one before.
const KEYS: [Key; 2] = [Key([1, 2]), Key([3, 4])];
const UNKNOWN: Key = Key([5, 6]);
/// The node's number, and others'.
pub(super) const NUMBER: u64 = 0x1111;
const WATCHER: u64 = 0x2222;
const ANOTHER: u64 = 0x3333;
const PROBE_PORT: u16 = 7_947;
const PORTS: [u16; 2] = [40_000, PROBE_PORT];
pub(super) const SEQUENCE: u64 = 0x0123_4567_89ab_cdef;

/// A request is turned into its reply: addresses and ports swapped, both checksums right, the
/// node's own number, life and time in it.
pub fn probe_is_answered(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    for datagram in both(&request(1), &KEYS[0]) {
        let reply = answered(&mut scene, &datagram, &KEYS[0]);
        assert_eq!(reply.flags, FLAG_VALID | FLAG_ALONE);
        assert!(
            (59_000..=60_000).contains(&reply.agent_left_ms),
            "{reply:?}"
        );
    }
    // What else a packet may differ in: padding, a fragment's flag that is not set, the service.
    for datagram in both(&request(1), &KEYS[0]) {
        let padded = Datagram {
            trailer: std::vec![0x5a; 18],
            fragment: 0,
            service: 0xb9,
            ttl: 1,
            ..datagram
        };
        answered(&mut scene, &padded, &KEYS[0]);
    }
}

/// Whatever VLAN the node has an address in.
pub fn tagged_probe_is_answered_with_its_tags(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    for tags in [
        &[Tag::Customer(100)][..],
        &[Tag::Service(200), Tag::Customer(100)],
    ] {
        for datagram in both(&request(1), &KEYS[0]) {
            answered(&mut scene, &datagram.tagged(tags), &KEYS[0]);
        }
    }
}

/// A virtual link leaves the checksum half done.
pub fn probe_is_answered_with_any_udp_checksum(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    for datagram in both(&request(1), &KEYS[0]) {
        let partial = Datagram {
            checksum: Checksum::Flipped(0x1234),
            ..datagram
        };
        answered(&mut scene, &partial, &KEYS[0]);
    }
}

/// The reply tells the node's state.
pub fn probe_is_answered_regardless_of_vips_and_lease(subject: &mut impl Subject) {
    let now = subject.now_ns();
    subject.set_link(Some(crate::layout::Link::new(NODE.mac, 7)));
    subject.set_probes(probes());
    let mut scene = Scene { subject };
    let ended_for = [1, INERT_AFTER_NS + 1];
    for ended_for in ended_for.into_iter().filter(|ended| *ended < now) {
        scene.subject.set_peers(PeersLease::default());
        scene.subject.set_lease(AgentLease {
            heartbeat_ns: now - ended_for,
            flags: FLAG_DRAINING,
            ..alone_until(now - ended_for)
        });
        let [datagram, _] = both(&request(1), &KEYS[0]);
        let reply = answered(&mut scene, &datagram, &KEYS[0]);
        assert_eq!(reply.flags, FLAG_LAPSED | FLAG_ALONE | FLAG_DRAINING);
        assert_eq!(reply.agent_left_ms, 0);
        assert!(u64::from(reply.agent_age_ms) >= ended_for / 1_000_000);
    }
}

/// While a key is replaced, some nodes have the new one and some do not.
pub fn probe_reply_uses_the_key_of_the_request(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    for key in KEYS {
        for datagram in both(&request(1), &key) {
            answered(&mut scene, &datagram, &key);
        }
    }
    let only_new = Probes::new(NUMBER, PROBE_PORT, &KEYS[..1]).expect("one key fits");
    scene.subject.set_probes(only_new);
    let [old, _] = both(&request(1), &KEYS[1]);
    scene.rejects(&old.bytes(), Reason::ProbeForeign);
}

/// A tag that no key makes: another cluster's probe, or none.
pub fn probe_of_an_unknown_key_passes(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    for datagram in both(&request(1), &UNKNOWN) {
        scene.rejects(&datagram.bytes(), Reason::ProbeForeign);
    }
    let right = request(1).seal(&KEYS[0]);
    for byte in 0..LENGTH {
        let mut wrong = right;
        wrong[byte] ^= 1;
        let datagram = Datagram::v4(&CLIENT, &NODE, PORTS, &wrong);
        scene.rejects(&datagram.bytes(), Reason::ProbeForeign);
    }
    // Keys that are not counted are none.
    let no_keys = Probes::new(NUMBER, PROBE_PORT, &[]).expect("no keys fit");
    scene.subject.set_probes(no_keys);
    for datagram in both(&request(1), &Key([0, 0])) {
        scene.rejects(&datagram.bytes(), Reason::ProbeForeign);
    }
}

/// A request to any node is answered.
pub fn probe_for_anybody_is_answered(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    let scout = Probe {
        target: ANYBODY,
        life: 0,
        ..request(1)
    };
    for datagram in both(&scout, &KEYS[0]) {
        answered(&mut scene, &datagram, &KEYS[0]);
    }
}

/// Replies are for the agent, and so is what is for another node, or comes back from where it was
/// sent.
pub fn probe_not_for_the_program_passes(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    let reply = Probe {
        kind: Kind::Reply,
        ..request(1)
    };
    let elsewhere = Probe {
        target: ANOTHER,
        ..request(1)
    };
    let renews_elsewhere = Probe {
        kind: Kind::Renew,
        ..elsewhere
    };
    let own = Probe {
        watcher: NUMBER,
        ..request(1)
    };
    for probe in [reply, elsewhere, renews_elsewhere, own] {
        for datagram in both(&probe, &KEYS[0]) {
            scene.passes(&datagram.bytes());
        }
    }
}

/// The agent has not begun, or is just beginning another: there is nothing to say yet.
pub fn probe_of_a_node_without_a_life_passes(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    let now = scene.subject.now_ns();
    scene.subject.set_lease(AgentLease {
        life: 0,
        ..alone_until(2 * now)
    });
    for datagram in both(&request(0), &KEYS[0]) {
        scene.passes(&datagram.bytes());
    }
}

/// Without a cluster there is no port of probes.
pub fn probe_passes_where_no_port_is_set(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    let no_port = Probes::new(NUMBER, 0, &KEYS).expect("two keys fit");
    scene.subject.set_probes(no_port);
    for datagram in both(&request(1), &KEYS[0]) {
        for destination_port in [PROBE_PORT, 0] {
            let datagram = Datagram {
                destination_port,
                ..datagram.clone()
            };
            scene.passes(&datagram.bytes());
        }
    }
}

/// All other datagrams, at this port and others, are for the node's own sockets.
pub fn other_datagrams_pass(subject: &mut impl Subject) {
    let mut scene = scene(subject);
    for right in both(&request(1), &KEYS[0]) {
        let with = |change: &dyn Fn(&mut Datagram)| {
            let mut datagram = right.clone();
            change(&mut datagram);
            datagram.bytes()
        };
        let is_v4 = right.destination.is_ipv4();
        let mut frames = std::vec![
            with(&|it| it.destination_port += 1),
            with(&|it| (it.source_port, it.destination_port) = (PROBE_PORT, 40_000)),
            with(&|it| it.payload.push(0)),
            with(&|it| it.payload.truncate(LENGTH - 1)),
            with(&|it| it.payload.clear()),
            with(&|it| it.udp_length_error = 1),
            with(&|it| it.udp_length_error = -1),
            with(&|it| it.ip_length_error = 4),
            with(&|it| it.ip_length_error = -4),
            with(&|it| it.protocol = 6),
            with(&|it| it.ethernet.destination = STRANGER.mac),
            with(&|it| it.ethernet.destination = BROADCAST),
            with(&|it| it.ethernet.source = [0x03, 0, 0, 0, 0, 2]),
        ];
        if is_v4 {
            frames.extend([
                with(&|it| it.fragment = 0x2000),
                with(&|it| it.fragment = 0x0001),
                with(&|it| it.fragment = 0x8000),
                with(&|it| it.options = std::vec![1; 4]),
                with(&|it| it.header_checksum = Checksum::Flipped(1)),
            ]);
        } else {
            // A destination options header in front of the datagram.
            let mut extended = right.bytes();
            extended[14 + 6] = 60;
            extended.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
            frames.push(extended);
        }
        for version in [0x00, 0x50, 0xf0] {
            let mut other = right.bytes();
            other[14] = other[14] & 0x0f | version;
            frames.push(other);
        }
        for frame in &frames {
            scene.passes(frame);
        }
        let whole = right.bytes();
        for length in 14..whole.len() {
            scene.passes(&whole[..length]);
        }
        scene.subject.set_link(None);
        scene.passes(&whole);
        scene.link(NODE.mac, 7);
    }
}

/// Probes are frequent: they are counted, but not shown to a watcher of VIPs.
pub fn probe_is_not_sampled(subject: &mut impl Subject) {
    let scene = scene(subject);
    scene.subject.set_watched(true);
    let renew = Probe {
        kind: Kind::Renew,
        ..request(1)
    };
    for probe in [request(1), renew] {
        for key in [KEYS[0], UNKNOWN] {
            for datagram in both(&probe, &key) {
                scene.subject.handle(&datagram.bytes());
            }
        }
    }
    assert_eq!(scene.subject.take_events(), []);
    let counts = [
        Reason::ProbeAnswered,
        Reason::ProbeRenewed,
        Reason::ProbeForeign,
    ]
    .map(|reason| scene.subject.reason(reason));
    assert_eq!(counts, [2, 2, 4]);
}

pub(super) fn scene<S: Subject>(subject: &mut S) -> Scene<'_, S> {
    subject.set_probes(probes());
    Scene::new(subject)
}

fn probes() -> Probes {
    Probes::new(NUMBER, PROBE_PORT, &KEYS).expect("two keys fit")
}

/// A request of a watcher, about this life.
pub(super) fn request(life: u64) -> Probe {
    Probe {
        kind: Kind::Request,
        flags: 0,
        watcher: WATCHER,
        target: NUMBER,
        sequence: SEQUENCE,
        life,
        time_ns: 0,
        agent_age_ms: 0,
        agent_left_ms: 0,
    }
}

/// The probe on its way to the node over either family.
fn both(probe: &Probe, key: &Key) -> [Datagram; 2] {
    let payload = probe.seal(key);
    [
        Datagram::v4(&CLIENT, &NODE, PORTS, &payload),
        Datagram::v6(&CLIENT, &NODE, PORTS, &payload),
    ]
}

impl<S: Subject> Scene<'_, S> {
    /// What the node says.
    #[track_caller]
    pub(super) fn asks(&mut self, probe: &Probe) -> Probe {
        let [datagram, _] = both(probe, &KEYS[0]);
        answered(self, &datagram, &KEYS[0])
    }

    /// Hands a time back.
    #[track_caller]
    pub(super) fn renews(&mut self, life: u64, time_ns: u64) {
        let renew = Probe {
            kind: Kind::Renew,
            time_ns,
            ..request(life)
        };
        let [datagram, _] = both(&renew, &KEYS[0]);
        let before = self.subject.reason(Reason::ProbeRenewed);
        self.goes(&datagram.bytes(), Verdict::Drop);
        assert_eq!(self.subject.reason(Reason::ProbeRenewed), before + 1);
    }
}

/// The probe in the reply, whose every other byte is what is expected.
#[track_caller]
fn answered(scene: &mut Scene<'_, impl Subject>, datagram: &Datagram, key: &Key) -> Probe {
    let sent = Probe::open(&payload(&datagram.payload), key).expect("a probe was sent");
    let counted = scene.subject.reason(Reason::ProbeAnswered);
    let start = scene.subject.now_ns();
    let frame = datagram.bytes();
    let outcome = scene.subject.handle(&frame);
    let end = scene.subject.now_ns();
    assert_eq!(outcome.verdict, Verdict::Transmit, "of {datagram:02x?}");
    assert_eq!(scene.subject.reason(Reason::ProbeAnswered), counted + 1);
    assert_eq!(scene.subject.take_events(), []);

    let place = outcome.frame.len() - datagram.trailer.len() - LENGTH;
    let bytes = payload(&outcome.frame[place..place + LENGTH]);
    let reply = Probe::open(&bytes, key).expect("the reply is a probe under the same key");
    let mut expected = Datagram {
        source: datagram.destination,
        destination: datagram.source,
        source_port: datagram.destination_port,
        destination_port: datagram.source_port,
        service: datagram.service & 0xfc,
        ttl: 64,
        fragment: 0x4000,
        checksum: Checksum::Right,
        payload: bytes.to_vec(),
        ..datagram.clone()
    };
    expected.ethernet.source = NODE.mac;
    expected.ethernet.destination = datagram.ethernet.source;
    assert_eq!(
        super::scene::hex(&outcome.frame),
        super::scene::hex(&expected.bytes())
    );
    assert_eq!((reply.kind, reply.target), (Kind::Reply, NUMBER));
    assert_eq!(
        (reply.watcher, reply.sequence),
        (sent.watcher, sent.sequence)
    );
    assert!((start..=end).contains(&reply.time_ns), "{reply:?}");
    reply
}

fn payload(bytes: &[u8]) -> [u8; LENGTH] {
    bytes.try_into().expect("a probe's length")
}
