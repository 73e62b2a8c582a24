//! The program's maps, with the types of [`speaker_common::layout`].

use std::{collections::BTreeSet, io::ErrorKind};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf},
    util::nr_cpus,
};
use speaker_common::{
    layout::{Counters, Event, FilterBit, Link, LinkCell, Probes, Tap, Vip, VipKeyV4, VipKeyV6},
    lease::{AgentLease, PeersLease},
    respond::Reason,
};
use zerocopy::{TryFromBytes as _, transmute};

/// A key or value as the bytes that the kernel holds.
trait Layout {
    type Bytes: Pod;
    fn bytes(self) -> Self::Bytes;
}

macro_rules! layout {
    ($($type:ty),+) => {
        $(impl Layout for $type {
            type Bytes = [u8; size_of::<$type>()];
            fn bytes(self) -> Self::Bytes {
                transmute!(self)
            }
        })+
    };
}
layout!(
    LinkCell, VipKeyV4, VipKeyV6, Vip, Counters, AgentLease, PeersLease, Probes, Tap
);

type Bytes<T> = <T as Layout>::Bytes;

/// All maps of one loaded program.
pub struct Maps {
    links: Array<MapData, Bytes<LinkCell>>,
    filter: Array<MapData, u64>,
    vips_v4: HashMap<MapData, Bytes<VipKeyV4>, Bytes<Vip>>,
    vips_v6: HashMap<MapData, Bytes<VipKeyV6>, Bytes<Vip>>,
    counters: Array<MapData, Bytes<Counters>>,
    reasons: PerCpuArray<MapData, u64>,
    lease: Array<MapData, Bytes<AgentLease>>,
    peers: Array<MapData, Bytes<PeersLease>>,
    probes: Array<MapData, Bytes<Probes>>,
    tap: Array<MapData, Bytes<Tap>>,
    events: RingBuf<MapData>,
    /// Those of the VIPs that were entered.
    slots: BTreeSet<u32>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            links: take(ebpf, "links")?,
            filter: take(ebpf, "filter")?,
            vips_v4: take(ebpf, "vips_v4")?,
            vips_v6: take(ebpf, "vips_v6")?,
            counters: take(ebpf, "counters")?,
            reasons: take(ebpf, "reasons")?,
            lease: take(ebpf, "lease")?,
            peers: take(ebpf, "peers")?,
            probes: take(ebpf, "probes")?,
            tap: take(ebpf, "tap")?,
            events: take(ebpf, "events")?,
            slots: BTreeSet::new(),
        })
    }

    /// Resets the maps to their state when the program was loaded, except for the links, and for
    /// `filter`, whose bits stay.
    pub(super) fn clear(&mut self) -> Result<()> {
        for key in self.vips_v4.keys().collect::<Result<Vec<_>, _>>()? {
            self.vips_v4.remove(&key)?;
        }
        for key in self.vips_v6.keys().collect::<Result<Vec<_>, _>>()? {
            self.vips_v6.remove(&key)?;
        }
        for slot in std::mem::take(&mut self.slots) {
            self.clear_counters(slot)?;
        }
        let zero = vec![0; nr_cpus().map_err(|(_, error)| error)?];
        for reason in Reason::ALL {
            let zero = PerCpuValues::try_from(zero.clone())?;
            self.reasons.set(*reason as u32, zero, 0)?;
        }
        self.set_lease(AgentLease::default())?;
        self.set_peers(PeersLease::default())?;
        self.set_probes(Probes::NONE)?;
        self.set_watched(false)?;
        while self.events.next().is_some() {}
        Ok(())
    }

    /// Enters a link, or removes it, in a map with no other.
    pub fn set_link(&mut self, ifindex: u32, link: Option<Link>) -> Result<()> {
        let cell = link.map_or(LinkCell::FREE, |link| LinkCell { link, ifindex });
        let index = LinkCell::of(ifindex).next();
        let index = index.context("a link has cells")?;
        Ok(self.links.set(index, cell.bytes(), 0)?)
    }

    /// Enters an IPv4 VIP, or removes it.
    pub fn set_vip_v4(&mut self, key: VipKeyV4, vip: Option<Vip>) -> Result<()> {
        self.list(FilterBit::v4(&key.address))?;
        self.slots.extend(vip.map(|vip| vip.slot));
        let key = key.bytes();
        match vip {
            Some(vip) => self.vips_v4.insert(key, vip.bytes(), 0)?,
            None => absent_is_fine(self.vips_v4.remove(&key))?,
        }
        Ok(())
    }

    /// Enters an IPv6 VIP, or removes it.
    pub fn set_vip_v6(&mut self, key: VipKeyV6, vip: Option<Vip>) -> Result<()> {
        self.list(FilterBit::v6(&key.address))?;
        self.slots.extend(vip.map(|vip| vip.slot));
        let key = key.bytes();
        match vip {
            Some(vip) => self.vips_v6.insert(key, vip.bytes(), 0)?,
            None => absent_is_fine(self.vips_v6.remove(&key))?,
        }
        Ok(())
    }

    fn list(&mut self, bit: FilterBit) -> Result<()> {
        let word = self.filter.get(&bit.word, 0)?;
        if word & bit.mask == 0 {
            self.filter.set(bit.word, word | bit.mask, 0)?;
        }
        Ok(())
    }

    /// Writes the agent's side of the lease.
    pub fn set_lease(&mut self, lease: AgentLease) -> Result<()> {
        Ok(self.lease.set(0, lease.bytes(), 0)?)
    }

    /// Writes the peers' side of the lease.
    pub fn set_peers(&mut self, peers: PeersLease) -> Result<()> {
        Ok(self.peers.set(0, peers.bytes(), 0)?)
    }

    /// The peers' side of the lease.
    pub fn peers(&self) -> Result<PeersLease> {
        Ok(transmute!(self.peers.get(&0, 0)?))
    }

    /// Says which probes are answered.
    pub fn set_probes(&mut self, probes: Probes) -> Result<()> {
        Ok(self.probes.set(0, probes.bytes(), 0)?)
    }

    /// Turns the sample of every frame on or off.
    pub fn set_watched(&mut self, watched: bool) -> Result<()> {
        let tap = Tap {
            watched: u32::from(watched),
        };
        Ok(self.tap.set(0, tap.bytes(), 0)?)
    }

    /// The counters of a slot.
    pub fn counters(&self, slot: u32) -> Result<Counters> {
        Ok(transmute!(self.counters.get(&slot, 0)?))
    }

    /// Sets the counters of a slot to zero.
    pub fn clear_counters(&mut self, slot: u32) -> Result<()> {
        Ok(self.counters.set(slot, Counters::default().bytes(), 0)?)
    }

    /// How often a reason was counted, on all CPUs.
    pub fn reason(&self, reason: Reason) -> Result<u64> {
        let counts = self.reasons.get(&(reason as u32), 0)?;
        Ok(counts.iter().sum())
    }

    /// Takes the oldest event out of the ring.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        let Some(item) = self.events.next() else {
            return Ok(None);
        };
        let event = Event::try_read_from_bytes(&item)
            .map_err(|error| anyhow!("a record of the event ring is no event: {error:?}"))?;
        Ok(Some(event))
    }
}

fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the object has no map `{name}`"))?;
    M::try_from(map).with_context(|| format!("the map `{name}`"))
}

fn absent_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}
