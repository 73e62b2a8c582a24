//! Random frames and tables, valid enough to get past the first checks.

use std::{collections::BTreeMap, vec::Vec};

use fastrand::Rng;

use super::{Arp, Checksum, Datagram, Ethernet, Host, Nd, Subject, Tag, option};
use crate::{
    layout::{Action, Link, Probes, Vip, VipKeyV4, VipKeyV6, Vlan},
    lease::{AgentLease, INERT_AFTER_NS, PeersLease},
    probe::{ANYBODY, FLAG_DRAINING, FLAG_OVER, FLAG_RENEWS, FLAG_RESTARTING, Key, Kind, Probe},
    wire::{BROADCAST, Mac, nd},
};

/// Few hosts, links and VLANs, so that tables and frames often refer to the same ones.
const HOSTS: u8 = 6;
const PORTS: [u32; 4] = [7, 7, 7, 8];
const VLAN_IDS: [u16; 3] = [0, 100, 200];
/// The VLANs of VIPs: mostly none, as most frames have no tag.
const VLANS: [Vlan; 6] = {
    const NONE: Vlan = Vlan { id: 0, service: 0 };
    [
        NONE,
        NONE,
        NONE,
        NONE,
        Vlan { id: 100, ..NONE },
        Vlan {
            id: 100,
            service: 200,
        },
    ]
};
const PROBE_PORT: u16 = 7_947;
const KEYS: [Key; 3] = [Key([1, 2]), Key([3, 4]), Key([5, 6])];
/// Node numbers: mostly the few that exist, and [`ANYBODY`].
const NUMBERS: [u64; 4] = [11, 11, 12, ANYBODY];
const LIVES: [u64; 4] = [0, 1, 2, 2];
const FOREVER: u64 = u64::MAX;
/// Counter slots that tables use.
pub const SLOTS: u32 = 8;
/// Bytes of the longest frame.
pub const FRAME_BYTES_MAX: usize = 1_024;

/// What a node's tables hold.
#[derive(Clone, Debug)]
pub struct World {
    link: Option<Link>,
    vips_v4: BTreeMap<VipKeyV4, Vip>,
    vips_v6: BTreeMap<VipKeyV6, Vip>,
    lease_ends_in_ns: i64,
    lease: AgentLease,
    peers: PeersLease,
    probes: Probes,
    watched: bool,
}

impl World {
    /// Any world. The agent's lease ends a minute from now or has ended a minute ago, so that
    /// subjects whose clocks differ a little judge it alike.
    pub fn random(rng: &mut Rng) -> Self {
        const MINUTE_NS: i64 = 60_000_000_000;
        let mut world = Self {
            link: (!once_in(rng, 16)).then(|| Link::new(host(rng).mac, pick(rng, &PORTS))),
            vips_v4: BTreeMap::new(),
            vips_v6: BTreeMap::new(),
            lease_ends_in_ns: pick(
                rng,
                &[
                    MINUTE_NS,
                    MINUTE_NS,
                    MINUTE_NS,
                    -MINUTE_NS,
                    -MINUTE_NS - INERT_AFTER_NS as i64,
                ],
            ),
            lease: AgentLease {
                life: pick(rng, &[0, 1, 1, 1, 1, 2, 2, 2, 2]),
                agent_deadline_ns: 0,
                heartbeat_ns: 0,
                peers_lease_ns: pick(rng, &[0, FOREVER]),
                alone: pick(rng, &[0, 0, 1, 1, 1]),
                flags: rng.u32(..) & (FLAG_DRAINING | FLAG_RESTARTING),
            },
            peers: PeersLease {
                life: pick(rng, &LIVES),
                deadline_ns: pick(rng, &[0, FOREVER - 1, FOREVER - 1]),
                over: pick(rng, &[0, 0, 0, 0, 0, 0, 1, 2]),
                company: pick(rng, &[0, 0, 0, 1]),
                unused: 0,
            },
            probes: {
                let port = pick(rng, &[0, PROBE_PORT, PROBE_PORT, PROBE_PORT]);
                let keys = &KEYS[..rng.usize(..=KEYS.len())];
                Probes::new(pick(rng, &NUMBERS), port, keys).expect("there are not too many")
            },
            watched: rng.bool(),
        };
        for _ in 0..rng.u8(0..128) {
            let port = pick(rng, &PORTS);
            let vlan = pick(rng, &VLANS);
            let action = pick(rng, &[Action::Answer, Action::Answer, Action::Suppress]);
            let vip = Vip::new(action, rng.u32(..SLOTS));
            if rng.bool() {
                let address = v4(rng);
                let key = VipKeyV4 {
                    address,
                    port,
                    vlan,
                };
                world.vips_v4.insert(key, vip);
            } else {
                let address = v6(rng);
                let key = VipKeyV6 {
                    address,
                    port,
                    vlan,
                };
                world.vips_v6.insert(key, vip);
            }
        }
        world
    }

    /// The link that frames come in on.
    pub fn link(&self) -> Option<Link> {
        self.link
    }

    /// Whether an IPv4 address is owned on the link.
    pub fn owns_v4(&self, address: [u8; 4], vlan: Vlan) -> bool {
        self.link.is_some_and(|Link { port, .. }| {
            let key = VipKeyV4 {
                address,
                port,
                vlan,
            };
            owns(self.vips_v4.get(&key))
        })
    }

    /// Whether an IPv6 address is owned on the link.
    pub fn owns_v6(&self, address: [u8; 16], vlan: Vlan) -> bool {
        self.link.is_some_and(|Link { port, .. }| {
            let key = VipKeyV6 {
                address,
                port,
                vlan,
            };
            owns(self.vips_v6.get(&key))
        })
    }

    /// Makes these the tables of a subject that has none.
    pub fn enter(&self, subject: &mut impl Subject) {
        subject.set_link(self.link);
        for (key, vip) in &self.vips_v4 {
            subject.set_vip_v4(*key, Some(*vip));
        }
        for (key, vip) in &self.vips_v6 {
            subject.set_vip_v6(*key, Some(*vip));
        }
        let now = subject.now_ns();
        subject.set_lease(AgentLease {
            agent_deadline_ns: now.saturating_add_signed(self.lease_ends_in_ns),
            ..self.lease
        });
        subject.set_peers(self.peers);
        subject.set_probes(self.probes);
        subject.set_watched(self.watched);
    }

    /// Removes them.
    pub fn leave(&self, subject: &mut impl Subject) {
        for key in self.vips_v4.keys() {
            subject.set_vip_v4(*key, None);
        }
        for key in self.vips_v6.keys() {
            subject.set_vip_v6(*key, None);
        }
    }
}

fn owns(vip: Option<&Vip>) -> bool {
    vip.is_some_and(|vip| vip.action == Action::Answer)
}

/// The probe in a frame and where its payload begins, if there is one under any of the keys.
pub fn probe_in(frame: &[u8]) -> Option<(usize, Probe)> {
    // Behind up to two tags and either header.
    const PLACES: [usize; 6] = [42, 46, 50, 62, 66, 70];
    PLACES.into_iter().find_map(|place| {
        let payload = frame.get(place..)?.first_chunk()?;
        let probe = KEYS.iter().find_map(|key| Probe::open(payload, key))?;
        Some((place, probe))
    })
}

/// Any frame of at least 14 bytes: mostly ARP, Neighbor Discovery and probes, mostly right, often
/// changed afterwards.
pub fn frame(rng: &mut Rng) -> Vec<u8> {
    let mut frame = match rng.u8(0..24) {
        0..8 => arp(rng).bytes(),
        8..18 => neighbor_discovery(rng).bytes(),
        18..22 => datagram(rng).bytes(),
        22 => {
            let ether_type = pick(rng, &[0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x88cc]);
            let payload = bytes(rng, 100);
            ethernet(rng).frame(ether_type, &payload)
        }
        _ => bytes(rng, FRAME_BYTES_MAX),
    };
    while once_in(rng, 4) {
        mutate(rng, &mut frame);
    }
    frame.truncate(FRAME_BYTES_MAX);
    frame.resize(frame.len().max(14), 0);
    frame
}

fn mutate(rng: &mut Rng, frame: &mut Vec<u8>) {
    if frame.is_empty() {
        return;
    }
    let at = rng.usize(..frame.len());
    match rng.u8(0..5) {
        0 | 1 => frame[at] ^= 1 << rng.u8(..8),
        2 => frame[at] = rng.u8(..),
        3 => frame.truncate(at),
        _ => {
            let more = bytes(rng, 40);
            frame.extend(more);
        }
    }
}

fn arp(rng: &mut Rng) -> Arp {
    let sender = host(rng);
    let address = v4(rng);
    let mut arp = match rng.u8(0..4) {
        0 => Arp::probe(&sender, address),
        1 => Arp::announcement(&sender, address),
        2 => Arp::reply(&sender, address, &host(rng)),
        _ => Arp::request(&sender, address),
    };
    arp.ethernet = Ethernet {
        tags: tags(rng),
        ..arp.ethernet
    };
    if once_in(rng, 4) {
        arp.ethernet.destination = mac(rng);
    }
    if once_in(rng, 8) {
        arp.sha = mac(rng);
    }
    if once_in(rng, 8) {
        arp.spa = v4(rng);
    }
    if once_in(rng, 16) {
        arp.operation = rng.u16(..4);
    }
    if rng.bool() {
        arp.trailer = std::vec![0; 18];
    }
    arp
}

fn neighbor_discovery(rng: &mut Rng) -> Nd {
    let sender = host(rng);
    let target = v6(rng);
    let mut nd = match rng.u8(0..6) {
        0 => Nd::duplicate_detection(&sender, target),
        1 => Nd::unreachability_probe(&sender, mac(rng), target),
        2 => Nd::advertisement(&sender, target),
        _ => Nd::solicitation(&sender, target),
    };
    nd.ethernet = Ethernet {
        tags: tags(rng),
        ..nd.ethernet
    };
    if once_in(rng, 8) {
        nd.ethernet.destination = mac(rng);
    }
    if once_in(rng, 4) {
        nd.options = options(rng);
    }
    if once_in(rng, 8) {
        nd.source = v6(rng);
    }
    if once_in(rng, 8) {
        nd.destination = v6(rng);
    }
    if once_in(rng, 16) {
        nd.extensions = extensions(rng);
    }
    if once_in(rng, 16) {
        nd.checksum = Checksum::Flipped(rng.u16(..));
    }
    if once_in(rng, 16) {
        nd.length_error = rng.i16(-40..40);
    }
    if once_in(rng, 32) {
        nd.hop_limit = rng.u8(..);
    }
    if once_in(rng, 32) {
        nd.code = rng.u8(..);
    }
    if once_in(rng, 32) {
        nd.kind = rng.u8(130..140);
    }
    if once_in(rng, 32) {
        nd.version = rng.u8(..16);
    }
    if once_in(rng, 16) {
        nd.trailer = bytes(rng, 40);
    }
    nd
}

fn datagram(rng: &mut Rng) -> Datagram {
    let payload = probe(rng).seal(&pick(rng, &KEYS));
    let (from, to) = (host(rng), host(rng));
    let ports = [rng.u16(..), PROBE_PORT];
    let mut datagram = if rng.bool() {
        Datagram::v4(&from, &to, ports, &payload)
    } else {
        Datagram::v6(&from, &to, ports, &payload)
    };
    datagram.ethernet.tags = tags(rng);
    if once_in(rng, 16) {
        datagram.ethernet.destination = mac(rng);
    }
    if once_in(rng, 16) {
        datagram.destination_port = pick(rng, &[0, 53, PROBE_PORT + 1]);
    }
    if once_in(rng, 16) {
        datagram.fragment = rng.u16(..);
    }
    if once_in(rng, 16) {
        datagram.options = std::vec![1; 4];
    }
    if once_in(rng, 16) {
        datagram.payload = bytes(rng, 100);
    }
    if once_in(rng, 32) {
        datagram.protocol = rng.u8(..);
    }
    if once_in(rng, 16) {
        datagram.udp_length_error = rng.i16(-8..8);
    }
    if once_in(rng, 16) {
        datagram.ip_length_error = rng.i16(-8..8);
    }
    if once_in(rng, 8) {
        datagram.trailer = bytes(rng, 40);
    }
    if once_in(rng, 4) {
        datagram.checksum = Checksum::Flipped(rng.u16(..));
    }
    datagram.service = rng.u8(..);
    datagram.ttl = rng.u8(..);
    datagram
}

/// Times that mean the same to all clocks: never, long ago, in the far future.
fn probe(rng: &mut Rng) -> Probe {
    Probe {
        kind: pick(
            rng,
            &[Kind::Request, Kind::Request, Kind::Renew, Kind::Reply],
        ),
        flags: rng.u32(..) & (FLAG_OVER | FLAG_RENEWS),
        watcher: pick(rng, &NUMBERS),
        target: pick(rng, &NUMBERS),
        sequence: rng.u64(..),
        life: pick(rng, &LIVES),
        time_ns: pick(rng, &[0, 1, 1, FOREVER]),
        agent_age_ms: 0,
        agent_left_ms: 0,
    }
}

fn options(rng: &mut Rng) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..rng.u8(0..5) {
        if rng.bool() {
            options.extend(option(rng.u8(..3), mac(rng)));
        } else {
            let units = rng.u8(..6);
            let mut other = bytes(rng, 8 * usize::from(units) + 1);
            other.resize(8 * usize::from(units.max(1)), 0);
            other[0] = rng.u8(..16);
            other[1] = units;
            options.extend(other);
        }
    }
    options
}

fn extensions(rng: &mut Rng) -> Vec<(u8, Vec<u8>)> {
    (0..rng.u8(1..6))
        .map(|_| {
            let units = rng.u8(..3);
            let mut rest = bytes(rng, 8 * usize::from(units) + 8);
            rest.resize(8 * usize::from(units) + 7, 0);
            rest[0] = units;
            (pick(rng, &[0, 43, 44, 60, 51, 6]), rest)
        })
        .collect()
}

fn ethernet(rng: &mut Rng) -> Ethernet {
    Ethernet {
        tags: tags(rng),
        ..Ethernet::new(mac(rng), mac(rng))
    }
}

fn tags(rng: &mut Rng) -> Vec<Tag> {
    let [one, two] = [(); 2].map(|()| pick(rng, &VLAN_IDS) | rng.u16(..16) << 12);
    match rng.u8(0..8) {
        0 => [Tag::Customer(one)].to_vec(),
        1 => [Tag::Service(one), Tag::Customer(two)].to_vec(),
        2 if once_in(rng, 4) => [Tag::Service(one)].to_vec(),
        2 if once_in(rng, 4) => [Tag::Customer(one), Tag::Customer(two)].to_vec(),
        _ => Vec::new(),
    }
}

fn host(rng: &mut Rng) -> Host {
    Host::number(rng.u8(..HOSTS))
}

fn mac(rng: &mut Rng) -> Mac {
    match rng.u8(0..16) {
        0 => BROADCAST,
        1 => nd::ALL_NODES_MAC,
        2 => [0; 6],
        _ => host(rng).mac,
    }
}

fn v4(rng: &mut Rng) -> [u8; 4] {
    match rng.u8(0..16) {
        0 => [0; 4],
        1 => [255; 4],
        _ => host(rng).v4,
    }
}

fn v6(rng: &mut Rng) -> [u8; 16] {
    match rng.u8(0..16) {
        0 => nd::UNSPECIFIED,
        1 => nd::ALL_NODES,
        2 => nd::solicited_node(&host(rng).v6),
        _ => host(rng).v6,
    }
}

/// Fewer than `bound` bytes.
fn bytes(rng: &mut Rng, bound: usize) -> Vec<u8> {
    let length = rng.usize(..bound);
    (0..length).map(|_| rng.u8(..)).collect()
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

fn once_in(rng: &mut Rng, times: usize) -> bool {
    rng.usize(..times) == 0
}
