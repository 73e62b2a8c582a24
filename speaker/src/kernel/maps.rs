//! The maps that the program and the agent share, with their meaning.

use std::{net::IpAddr, path::Path};

use aya::maps::{MapData, PerCpuArray};
use speaker_common::{
    layout::{Counters, FilterBit, Link, LinkCell, Probes, Tap, Vip, VipKeyV4, VipKeyV6, Vlan},
    lease::{AgentLease, PeersLease},
    respond::Reason,
};
use speaker_core::plan::Entry;

use super::typed::{Array, MapsError, Table, open};

/// All maps but the ring of events; the lease is read-only here. Reading takes a shared reference,
/// writing an exclusive one.
pub struct Maps {
    links: Array<LinkCell, { size_of::<LinkCell>() }>,
    filter: Array<u64, { size_of::<u64>() }>,
    vips_v4: Table<VipKeyV4, Vip, { size_of::<VipKeyV4>() }, { size_of::<Vip>() }>,
    vips_v6: Table<VipKeyV6, Vip, { size_of::<VipKeyV6>() }, { size_of::<Vip>() }>,
    counters: Array<Counters, { size_of::<Counters>() }>,
    reasons: PerCpuArray<MapData, u64>,
    lease: Array<AgentLease, { size_of::<AgentLease>() }>,
    peers: Array<PeersLease, { size_of::<PeersLease>() }>,
    probes: ProbesMap,
    tap: Array<Tap, { size_of::<Tap>() }>,
}

/// The map `probes`.
pub(super) type ProbesMap = Array<Probes, { size_of::<Probes>() }>;

impl Maps {
    const LINKS: &'static str = "links";
    const REASONS: &'static str = "reasons";
    pub(super) const LEASE: &'static str = "lease";
    pub(super) const PEERS: &'static str = "peers";
    pub(super) const PROBES: &'static str = "probes";

    /// Opens the maps that are pinned in this directory.
    pub(super) fn open(directory: &Path) -> Result<Self, MapsError> {
        Ok(Self {
            links: Array::open(directory, Self::LINKS)?,
            filter: Array::open(directory, "filter")?,
            vips_v4: Table::open(directory, "vips_v4")?,
            vips_v6: Table::open(directory, "vips_v6")?,
            counters: Array::open(directory, "counters")?,
            reasons: open(directory, Self::REASONS)?,
            lease: Array::open(directory, Self::LEASE)?,
            peers: Array::open(directory, Self::PEERS)?,
            probes: Array::open(directory, Self::PROBES)?,
            tap: Array::open(directory, "tap")?,
        })
    }

    /// All links that the program knows, by interface index, in no order.
    pub fn links(&self) -> Result<Vec<(u32, Link)>, MapsError> {
        let cells = self.links.first(self.links.len())?.into_iter();
        Ok(cells
            .filter(|cell| *cell != LinkCell::FREE)
            .map(|LinkCell { link, ifindex }| (ifindex, link))
            .collect())
    }

    /// Makes the link known to the program, or changes it.
    ///
    /// # Errors
    ///
    /// [`MapsError::NoCell`], with nothing changed, if other links hold all cells that it may use.
    pub fn put_link(&mut self, ifindex: u32, link: &Link) -> Result<(), MapsError> {
        let free = self.link_cell(0, ifindex)?;
        let cell = self.link_cell(ifindex, ifindex)?.or(free);
        let cell = cell.ok_or(MapsError::NoCell { ifindex })?;
        let link = *link;
        self.links.set(cell, &LinkCell { link, ifindex })
    }

    /// Makes the program pass all frames from the interface.
    pub fn remove_link(&mut self, ifindex: u32) -> Result<(), MapsError> {
        match self.link_cell(ifindex, ifindex)? {
            Some(cell) => self.links.set(cell, &LinkCell::FREE),
            None => Ok(()),
        }
    }

    /// The first of an interface's cells that holds the link of this index; 0: that is free.
    fn link_cell(&self, holds: u32, ifindex: u32) -> Result<Option<u32>, MapsError> {
        for index in LinkCell::of(ifindex) {
            if self.links.get(index)?.ifindex == holds {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// All VIPs of both families, in no order. They tell a starting agent which counter slots are
    /// taken.
    pub fn vips(&self) -> Result<Vec<(Entry, Vip)>, MapsError> {
        let v4 = self.vips_v4.entries()?.into_iter().map(|(key, vip)| {
            let address = key.address.into();
            (entry(address, key.port, key.vlan), vip)
        });
        let v6 = self.vips_v6.entries()?.into_iter().map(|(key, vip)| {
            let address = key.address.into();
            (entry(address, key.port, key.vlan), vip)
        });
        Ok(v4.chain(v6).collect())
    }

    /// Adds the VIP, or changes its entry atomically.
    ///
    /// # Errors
    ///
    /// [`MapsError::Full`], with nothing changed, if there is no room for another one.
    pub fn put_vip(&mut self, entry: &Entry, vip: &Vip) -> Result<(), MapsError> {
        match by_family(entry) {
            ByFamily::V4(key) => {
                self.list(FilterBit::v4(&key.address))?;
                self.vips_v4.put(&key, vip)
            }
            ByFamily::V6(key) => {
                self.list(FilterBit::v6(&key.address))?;
                self.vips_v6.put(&key, vip)
            }
        }
    }

    /// Lets the program look up all VIPs in the maps. A new filter beside maps of an earlier run
    /// would hide theirs.
    pub(super) fn list_all(&mut self) -> Result<(), MapsError> {
        for key in self.vips_v4.keys()? {
            self.list(FilterBit::v4(&key.address))?;
        }
        for key in self.vips_v6.keys()? {
            self.list(FilterBit::v6(&key.address))?;
        }
        Ok(())
    }

    /// Lets the program look an address up. The bit is never cleared: other addresses may share it,
    /// and an unneeded bit costs only a look-up.
    fn list(&mut self, bit: FilterBit) -> Result<(), MapsError> {
        let word = self.filter.get(bit.word)?;
        if word & bit.mask != 0 {
            return Ok(());
        }
        self.filter.set(bit.word, &(word | bit.mask))
    }

    /// Removes the VIP, if the map has it.
    pub fn remove_vip(&mut self, entry: &Entry) -> Result<(), MapsError> {
        match by_family(entry) {
            ByFamily::V4(key) => self.vips_v4.remove(&key),
            ByFamily::V6(key) => self.vips_v6.remove(&key),
        }
    }

    /// The counters of the first `count` slots, in a single system call. There are
    /// [`MAX_SLOTS`](speaker_common::layout::MAX_SLOTS); no more are returned.
    pub fn counters(&self, count: u32) -> Result<Vec<Counters>, MapsError> {
        self.counters.first(count)
    }

    /// Zeroes the slot's counters, for the next VIP that gets it.
    pub fn reset_counters(&mut self, slot: u32) -> Result<(), MapsError> {
        self.counters.set(slot, &Counters::default())
    }

    /// The count of each reason, over all CPUs.
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>, MapsError> {
        let reasons = Reason::ALL.iter();
        reasons
            .map(|&reason| Ok((reason, self.count(reason)?)))
            .collect()
    }

    /// The count of a reason, over all CPUs.
    pub fn count(&self, reason: Reason) -> Result<u64, MapsError> {
        let per_cpu = self
            .reasons
            .get(&(reason as u32), 0)
            .map_err(MapsError::kernel(Self::REASONS, "read"))?;
        Ok(per_cpu.iter().sum())
    }

    /// The agent's side of the lease.
    pub fn lease(&self) -> Result<AgentLease, MapsError> {
        self.lease.get(0)
    }

    /// The peers' side of the lease.
    pub fn peers(&self) -> Result<PeersLease, MapsError> {
        self.peers.get(0)
    }

    /// Sets which probes the program and [`Lease::answer`] answer.
    ///
    /// [`Lease::answer`]: super::Lease::answer
    pub fn set_probes(&mut self, probes: &Probes) -> Result<(), MapsError> {
        self.probes.set(0, probes)
    }

    /// Whether every handled frame goes into the ring.
    pub fn watched(&self) -> Result<bool, MapsError> {
        Ok(self.tap.get(0)?.watched != 0)
    }

    /// Sends every handled frame to the ring, or only what the agent must know.
    pub fn set_watched(&mut self, watched: bool) -> Result<(), MapsError> {
        let watched = watched.into();
        self.tap.set(0, &Tap { watched })
    }
}

enum ByFamily {
    V4(VipKeyV4),
    V6(VipKeyV6),
}

fn by_family(entry: &Entry) -> ByFamily {
    let Entry {
        address,
        port,
        vlan,
    } = *entry;
    match address {
        IpAddr::V4(address) => ByFamily::V4(VipKeyV4 {
            address: address.octets(),
            port,
            vlan,
        }),
        IpAddr::V6(address) => ByFamily::V6(VipKeyV6 {
            address: address.octets(),
            port,
            vlan,
        }),
    }
}

fn entry(address: IpAddr, port: u32, vlan: Vlan) -> Entry {
    Entry {
        address,
        port,
        vlan,
    }
}
