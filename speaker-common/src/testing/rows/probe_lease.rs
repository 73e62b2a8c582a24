//! What probes do to the lease, and the lease to VIPs.

use super::{
    probe::{request, scene},
    scene::{CLIENT, NODE, OURS, SECOND_NS, Scene},
};
use crate::{
    lease::{AgentLease, PeersLease},
    probe::{FLAG_ALONE, FLAG_LAPSED, FLAG_OVER, FLAG_RENEWS, FLAG_VALID, Probe},
    testing::{Arp, Subject, alone_until},
};

const MINUTE_NS: u64 = 60 * SECOND_NS;
/// How long a renewal lasts.
const LEASE_NS: u64 = 10 * SECOND_NS;
const LIFE: u64 = 7;

/// A new life answers for nothing until the first renewal, and after each renewal for one lease
/// from the time handed back.
pub fn renewal_begins_and_extends_the_lease(subject: &mut impl Subject) {
    let mut scene = in_company(subject, PeersLease::default());
    scene.is_silent();
    let asked = scene.asks(&request(LIFE));
    assert_eq!(asked.flags, 0, "neither valid nor over");
    scene.renews(LIFE, asked.time_ns);
    scene.answers_for_its_vip();
    let expected = PeersLease {
        life: LIFE,
        deadline_ns: asked.time_ns + LEASE_NS,
        ..PeersLease::default()
    };
    assert_eq!(scene.subject.peers(), expected);

    let again = scene.asks(&request(LIFE));
    assert_eq!(again.flags, FLAG_VALID);
    scene.renews(LIFE, again.time_ns);
    assert_eq!(scene.subject.peers().deadline_ns, again.time_ns + LEASE_NS);
    // A late renewal takes nothing back, and one from the future is ignored.
    scene.renews(LIFE, again.time_ns - 1);
    scene.renews(LIFE, again.time_ns + MINUTE_NS);
    scene.renews(LIFE, 0);
    assert_eq!(scene.subject.peers().deadline_ns, again.time_ns + LEASE_NS);
}

/// A lapsed lease is never extended, however recent the time handed back.
pub fn lease_that_the_peers_let_lapse_is_never_extended(subject: &mut impl Subject) {
    let now = subject.now_ns();
    let mut scene = in_company(subject, lapsed(now));
    scene.is_silent();
    scene.renews(LIFE, now);
    scene.is_silent();
    assert_eq!(scene.subject.peers().over, LIFE);
    let renewing = Probe {
        flags: FLAG_RENEWS,
        time_ns: now,
        ..request(LIFE)
    };
    assert_eq!(scene.asks(&renewing).flags, FLAG_LAPSED);
    scene.is_silent();
    assert!(scene.subject.peers().deadline_ns < now);
}

/// Nodes that were told that this life is over take its VIPs over: it never answers again.
pub fn reported_lapse_is_final(subject: &mut impl Subject) {
    let now = subject.now_ns();
    let mut scene = in_company(subject, lapsed(now));
    assert_eq!(scene.asks(&request(LIFE)).flags, FLAG_LAPSED);
    let told = scene.subject.peers();
    assert_eq!(told.over, LIFE);
    scene.subject.set_peers(PeersLease {
        deadline_ns: now + MINUTE_NS,
        ..told
    });
    scene.is_silent();
    scene.subject.set_lease(AgentLease {
        life: LIFE,
        ..alone_until(now + MINUTE_NS)
    });
    scene.is_silent();
    scene.subject.set_lease(AgentLease {
        life: LIFE + 1,
        ..alone_until(now + MINUTE_NS)
    });
    scene.answers_for_its_vip();
}

/// A request hands the time back again, in case the renewal before was lost.
pub fn request_renews_from_the_time_it_hands_back(subject: &mut impl Subject) {
    let now = subject.now_ns();
    let mut scene = in_company(subject, PeersLease::default());
    let renewing = Probe {
        flags: FLAG_RENEWS,
        time_ns: now,
        ..request(LIFE)
    };
    assert_eq!(scene.asks(&renewing).flags, FLAG_VALID);
    scene.answers_for_its_vip();
    assert_eq!(scene.subject.peers().deadline_ns, now + LEASE_NS);
}

/// A node that is alone needs no renewal.
pub fn node_that_is_alone_needs_no_renewal(subject: &mut impl Subject) {
    let now = subject.now_ns();
    let mut scene = in_company(subject, lapsed(now));
    scene.subject.set_lease(AgentLease {
        life: LIFE,
        ..alone_until(now + MINUTE_NS)
    });
    scene.answers_for_its_vip();
    // A request that renews nothing does not end the time alone.
    assert_eq!(scene.asks(&request(LIFE)).flags, FLAG_VALID | FLAG_ALONE);
    scene.answers_for_its_vip();
}

/// A node that renews ends the time alone, and has to go on renewing.
pub fn company_ends_the_time_alone_until_the_first_renewal(subject: &mut impl Subject) {
    let now = subject.now_ns();
    let mut scene = in_company(subject, lapsed(now));
    let alone = AgentLease {
        life: LIFE,
        peers_lease_ns: LEASE_NS,
        ..alone_until(now + MINUTE_NS)
    };
    scene.subject.set_lease(alone);
    let company = Probe {
        flags: FLAG_RENEWS,
        ..request(LIFE)
    };
    let reply = scene.asks(&company);
    assert_eq!(reply.flags, 0, "not alone, and not renewed yet");
    scene.is_silent();
    scene.renews(LIFE, reply.time_ns);
    scene.answers_for_its_vip();
    // The agent begins another time alone, with another number.
    scene.subject.set_peers(PeersLease {
        life: 0,
        ..scene.subject.peers()
    });
    scene.is_silent();
    scene.subject.set_lease(AgentLease { alone: 2, ..alone });
    scene.answers_for_its_vip();
}

/// A node that is alone, and was away for longer than it knows, is told that its life is over.
pub fn life_alone_that_others_consider_over_is_over(subject: &mut impl Subject) {
    let now = subject.now_ns();
    let mut scene = in_company(subject, PeersLease::default());
    let over = Probe {
        flags: FLAG_OVER,
        ..request(LIFE)
    };
    // In company the members settle it.
    assert_eq!(scene.asks(&over).flags, 0);
    assert_eq!(scene.subject.peers().over, 0);
    scene.subject.set_lease(AgentLease {
        life: LIFE,
        ..alone_until(now + MINUTE_NS)
    });
    scene.answers_for_its_vip();
    assert_eq!(scene.asks(&over).flags, FLAG_LAPSED);
    scene.is_silent();
    assert_eq!(scene.subject.peers().over, LIFE);
}

/// A renewal may arrive late, after another life has begun.
pub fn renewal_of_another_life_does_nothing(subject: &mut impl Subject) {
    let now = subject.now_ns();
    let mut scene = in_company(subject, PeersLease::default());
    scene.renews(LIFE - 1, now);
    scene.renews(0, now);
    scene.is_silent();
    assert_eq!(scene.subject.peers(), PeersLease::default());
}

/// The lease of a node that is not alone.
fn in_company<S: Subject>(subject: &mut S, peers: PeersLease) -> Scene<'_, S> {
    let scene = scene(subject);
    let now = scene.subject.now_ns();
    scene.subject.set_lease(AgentLease {
        life: LIFE,
        peers_lease_ns: LEASE_NS,
        alone: 0,
        ..alone_until(now + MINUTE_NS)
    });
    scene.subject.set_peers(peers);
    scene
}

/// A lease that was renewed once, and not again in time.
fn lapsed(now: u64) -> PeersLease {
    PeersLease {
        life: LIFE,
        deadline_ns: now - 1,
        ..PeersLease::default()
    }
}

impl<S: Subject> Scene<'_, S> {
    #[track_caller]
    fn answers_for_its_vip(&mut self) {
        let request = Arp::request(&CLIENT, OURS.v4).bytes();
        self.answers(&request, &Arp::reply(&NODE, OURS.v4, &CLIENT).bytes());
    }

    #[track_caller]
    fn is_silent(&mut self) {
        self.drops(&Arp::request(&CLIENT, OURS.v4).bytes());
    }
}
