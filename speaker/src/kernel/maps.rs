//! The maps that the program and the agent share, by their meaning.
//!
//! The kernel is asked for bytes; what they mean is checked on the way in, so that an entry that
//! another program wrote there is an error and nothing worse.

use std::{marker::PhantomData, net::IpAddr, os::fd::AsFd as _, path::Path};

use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData, MapError, PerCpuArray};
use speaker_common::{
    layout::{Counters, FilterBit, Link, LinkCell, Probes, Tap, Vip, VipKeyV4, VipKeyV6, Vlan},
    lease::{AgentLease, PeersLease},
    respond::Reason,
};
use speaker_core::plan::Entry;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, TryFromBytes};

use super::sys;

/// A map cannot be read or written.
#[derive(Debug, Error)]
pub enum MapsError {
    /// It has no room for one more.
    #[error("the map {map} is full: it has room for {entries}")]
    Full {
        /// Its name.
        map: &'static str,
        /// All that it holds.
        entries: u32,
    },
    /// It holds what no agent of this layout version wrote.
    #[error("an entry of the map {map} is invalid: {entry:02x?}")]
    Meaningless {
        /// Its name.
        map: &'static str,
        /// The key or value.
        entry: Vec<u8>,
    },
    /// The kernel's own refusal.
    #[error("the map {map} cannot be {action}")]
    Kernel {
        /// Its name.
        map: &'static str,
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: MapError,
    },
}

impl MapsError {
    pub(super) fn kernel(map: &'static str, action: &'static str, source: MapError) -> Self {
        Self::Kernel {
            map,
            action,
            source,
        }
    }
}

/// All maps but the lease's writing sides and the ring of events. Reading takes a shared
/// reference, writing an exclusive one.
pub struct Maps {
    links: Array<MapData, [u8; size_of::<LinkCell>()]>,
    filter: Array<MapData, u64>,
    vips_v4: Table<VipKeyV4, Vip, 12, 8>,
    vips_v6: Table<VipKeyV6, Vip, 24, 8>,
    counters: Array<MapData, [u8; size_of::<Counters>()]>,
    reasons: PerCpuArray<MapData, u64>,
    lease: Array<MapData, [u8; size_of::<AgentLease>()]>,
    peers: Array<MapData, [u8; size_of::<PeersLease>()]>,
    probes: Array<MapData, [u8; size_of::<Probes>()]>,
    tap: Array<MapData, [u8; size_of::<Tap>()]>,
}

impl Maps {
    const LINKS: &'static str = "links";
    const FILTER: &'static str = "filter";
    const COUNTERS: &'static str = "counters";
    const REASONS: &'static str = "reasons";
    pub(super) const LEASE: &'static str = "lease";
    pub(super) const PEERS: &'static str = "peers";
    pub(super) const PROBES: &'static str = "probes";
    const TAP: &'static str = "tap";

    /// The maps pinned in this directory.
    pub(super) fn open(directory: &Path) -> Result<Self, MapsError> {
        Ok(Self {
            links: open(directory, Self::LINKS)?,
            filter: open(directory, Self::FILTER)?,
            vips_v4: Table::open(directory, "vips_v4")?,
            vips_v6: Table::open(directory, "vips_v6")?,
            counters: open(directory, Self::COUNTERS)?,
            reasons: open(directory, Self::REASONS)?,
            lease: open(directory, Self::LEASE)?,
            peers: open(directory, Self::PEERS)?,
            probes: open(directory, Self::PROBES)?,
            tap: open(directory, Self::TAP)?,
        })
    }

    /// All links that the program knows, by interface index, in no order.
    pub fn links(&self) -> Result<Vec<(u32, Link)>, MapsError> {
        let cells: Vec<LinkCell> = read_all(&self.links, Self::LINKS, self.links.len())?;
        Ok(cells
            .into_iter()
            .filter(|cell| *cell != LinkCell::FREE)
            .map(|LinkCell { link, ifindex }| (ifindex, link))
            .collect())
    }

    /// Makes the link known to the program, or changes it.
    ///
    /// # Errors
    ///
    /// [`MapsError::Full`], with nothing changed, where other links are in all cells that it may
    /// be in.
    pub fn put_link(&mut self, ifindex: u32, link: &Link) -> Result<(), MapsError> {
        let free = self.link_cell(0, ifindex)?;
        let cell = self.link_cell(ifindex, ifindex)?.or(free);
        let cell = cell.ok_or(MapsError::Full {
            map: Self::LINKS,
            entries: self.links.len(),
        })?;
        let link = *link;
        self.write_link(cell, LinkCell { link, ifindex })
    }

    /// Makes the program pass everything from the interface, if it knew it.
    pub fn remove_link(&mut self, ifindex: u32) -> Result<(), MapsError> {
        match self.link_cell(ifindex, ifindex)? {
            Some(cell) => self.write_link(cell, LinkCell::FREE),
            None => Ok(()),
        }
    }

    /// The first of an interface's cells that holds this interface, or none for 0.
    fn link_cell(&self, holds: u32, ifindex: u32) -> Result<Option<u32>, MapsError> {
        for index in LinkCell::of(ifindex) {
            let bytes = self
                .links
                .get(&index, 0)
                .map_err(|source| MapsError::kernel(Self::LINKS, "read", source))?;
            let cell: LinkCell = zerocopy::transmute!(bytes);
            if cell.ifindex == holds {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn write_link(&mut self, index: u32, cell: LinkCell) -> Result<(), MapsError> {
        let bytes: [u8; size_of::<LinkCell>()] = zerocopy::transmute!(cell);
        self.links
            .set(index, bytes, 0)
            .map_err(|source| MapsError::kernel(Self::LINKS, "written", source))
    }

    /// All VIPs of both families, in no order. A starting agent finds here which counter slots
    /// are taken.
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

    /// Enters the VIP, or changes its entry, atomically.
    ///
    /// # Errors
    ///
    /// [`MapsError::Full`], with nothing changed, where there is no room for a new one.
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

    /// Lets the program look up all VIPs that are there. A filter that is new, beside maps of an
    /// earlier run, would hide theirs.
    pub(super) fn list_all(&mut self) -> Result<(), MapsError> {
        for key in self.vips_v4.keys()? {
            self.list(FilterBit::v4(&key.address))?;
        }
        for key in self.vips_v6.keys()? {
            self.list(FilterBit::v6(&key.address))?;
        }
        Ok(())
    }

    /// Lets the program look an address up. The bit is never cleared: other addresses may share
    /// it, and one too many costs a look-up.
    fn list(&mut self, bit: FilterBit) -> Result<(), MapsError> {
        let word = self
            .filter
            .get(&bit.word, 0)
            .map_err(|source| MapsError::kernel(Self::FILTER, "read", source))?;
        if word & bit.mask != 0 {
            return Ok(());
        }
        self.filter
            .set(bit.word, word | bit.mask, 0)
            .map_err(|source| MapsError::kernel(Self::FILTER, "written", source))
    }

    /// Removes the VIP, if it is there.
    pub fn remove_vip(&mut self, entry: &Entry) -> Result<(), MapsError> {
        match by_family(entry) {
            ByFamily::V4(key) => self.vips_v4.remove(&key),
            ByFamily::V6(key) => self.vips_v6.remove(&key),
        }
    }

    /// The counters of the first so many slots, in a single call. There are
    /// [`MAX_SLOTS`](speaker_common::layout::MAX_SLOTS) of them; more are not returned.
    pub fn counters(&self, count: u32) -> Result<Vec<Counters>, MapsError> {
        read_all(&self.counters, Self::COUNTERS, count)
    }

    /// Sets the slot's counters to zero: it is given to another VIP.
    pub fn reset_counters(&mut self, slot: u32) -> Result<(), MapsError> {
        self.counters
            .set(slot, [0; size_of::<Counters>()], 0)
            .map_err(|source| MapsError::kernel(Self::COUNTERS, "written", source))
    }

    /// How often each reason has been met, over all CPUs.
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>, MapsError> {
        let reasons = Reason::ALL.iter();
        reasons
            .map(|&reason| Ok((reason, self.count(reason)?)))
            .collect()
    }

    /// How often this reason has been met, over all CPUs.
    pub fn count(&self, reason: Reason) -> Result<u64, MapsError> {
        let per_cpu = self
            .reasons
            .get(&(reason as u32), 0)
            .map_err(|source| MapsError::kernel(Self::REASONS, "read", source))?;
        Ok(per_cpu.iter().sum())
    }

    /// The agent's side of the lease.
    pub fn lease(&self) -> Result<AgentLease, MapsError> {
        let bytes = self
            .lease
            .get(&0, 0)
            .map_err(|source| MapsError::kernel(Self::LEASE, "read", source))?;
        Ok(zerocopy::transmute!(bytes))
    }

    /// The peers' side of the lease.
    pub fn peers(&self) -> Result<PeersLease, MapsError> {
        let bytes = self
            .peers
            .get(&0, 0)
            .map_err(|source| MapsError::kernel(Self::PEERS, "read", source))?;
        Ok(zerocopy::transmute!(bytes))
    }

    /// From now on, these probes are answered, by the program and by [`Lease::answer`].
    ///
    /// [`Lease::answer`]: super::Lease::answer
    pub fn set_probes(&mut self, probes: &Probes) -> Result<(), MapsError> {
        let bytes: [u8; size_of::<Probes>()] = zerocopy::transmute!(*probes);
        self.probes
            .set(0, bytes, 0)
            .map_err(|source| MapsError::kernel(Self::PROBES, "written", source))
    }

    /// Whether every frame that is handled goes into the ring.
    pub fn watched(&self) -> Result<bool, MapsError> {
        let bytes = self
            .tap
            .get(&0, 0)
            .map_err(|source| MapsError::kernel(Self::TAP, "read", source))?;
        let tap: Tap = zerocopy::transmute!(bytes);
        Ok(tap.watched != 0)
    }

    /// Makes every frame that is handled go into the ring, or only what the agent must know.
    pub fn set_watched(&mut self, watched: bool) -> Result<(), MapsError> {
        let tap = Tap {
            watched: watched.into(),
        };
        let bytes: [u8; size_of::<Tap>()] = zerocopy::transmute!(tap);
        self.tap
            .set(0, bytes, 0)
            .map_err(|source| MapsError::kernel(Self::TAP, "written", source))
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

/// A hash map whose keys and values are `KEY` and `VALUE` bytes long.
struct Table<K, V, const KEY: usize, const VALUE: usize> {
    name: &'static str,
    map: HashMap<MapData, [u8; KEY], [u8; VALUE]>,
    entries: PhantomData<(K, V)>,
}

impl<K, V, const KEY: usize, const VALUE: usize> Table<K, V, KEY, VALUE>
where
    K: TryFromBytes + IntoBytes + Immutable,
    V: TryFromBytes + IntoBytes + Immutable,
{
    const SIZES: () = assert!(size_of::<K>() == KEY && size_of::<V>() == VALUE);

    fn open(directory: &Path, name: &'static str) -> Result<Self, MapsError> {
        let () = Self::SIZES;
        Ok(Self {
            name,
            map: open(directory, name)?,
            entries: PhantomData,
        })
    }

    fn keys(&self) -> Result<Vec<K>, MapsError> {
        self.map
            .keys()
            .map(|key| {
                let key = key.map_err(|source| MapsError::kernel(self.name, "read", source))?;
                self.meaning(&key)
            })
            .collect()
    }

    fn entries(&self) -> Result<Vec<(K, V)>, MapsError> {
        self.map
            .iter()
            .map(|entry| {
                let (key, value) =
                    entry.map_err(|source| MapsError::kernel(self.name, "read", source))?;
                Ok((self.meaning(&key)?, self.meaning(&value)?))
            })
            .collect()
    }

    fn put(&mut self, key: &K, value: &V) -> Result<(), MapsError> {
        match self.map.insert(bytes::<KEY>(key), bytes::<VALUE>(value), 0) {
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::E2BIG) =>
            {
                Err(MapsError::Full {
                    map: self.name,
                    entries: self.map.map().info().map_or(0, |info| info.max_entries()),
                })
            }
            done => done.map_err(|source| MapsError::kernel(self.name, "written", source)),
        }
    }

    fn remove(&mut self, key: &K) -> Result<(), MapsError> {
        match self.map.remove(&bytes::<KEY>(key)) {
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
            {
                Ok(())
            }
            done => done.map_err(|source| MapsError::kernel(self.name, "written", source)),
        }
    }

    fn meaning<T: TryFromBytes>(&self, bytes: &[u8]) -> Result<T, MapsError> {
        T::try_read_from_bytes(bytes).map_err(|_| MapsError::Meaningless {
            map: self.name,
            entry: bytes.to_vec(),
        })
    }
}

fn bytes<const SIZE: usize>(value: &(impl IntoBytes + Immutable)) -> [u8; SIZE] {
    <[u8; SIZE]>::read_from_bytes(value.as_bytes()).expect("`Table::SIZES` holds")
}

/// The first values of an array, in a single call.
fn read_all<V: FromBytes, const SIZE: usize>(
    map: &Array<MapData, [u8; SIZE]>,
    name: &'static str,
    count: u32,
) -> Result<Vec<V>, MapsError> {
    let count = count.min(map.len());
    let bytes = sys::read_array(map.map().fd().as_fd(), SIZE, count)
        .map_err(|error| MapsError::kernel(name, "read", MapError::IoError(error)))?;
    Ok(bytes
        .chunks_exact(SIZE)
        .map(|bytes| V::read_from_bytes(bytes).expect("a value of the map is that long"))
        .collect())
}

/// The map of this name in the directory, as the type that the caller wants.
pub(super) fn open<T>(directory: &Path, name: &'static str) -> Result<T, MapsError>
where
    T: TryFrom<Map, Error = MapError>,
{
    MapData::from_pin(directory.join(name))
        .and_then(Map::from_map_data)
        .and_then(T::try_from)
        .map_err(|source| MapsError::kernel(name, "opened", source))
}
