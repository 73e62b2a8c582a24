//! Maps whose keys and values have types.
//!
//! The kernel deals in bytes. They are validated when read: an entry that another program wrote is
//! an error, and nothing worse.

use std::{marker::PhantomData, os::fd::AsFd as _, path::Path};

use aya::maps::{Array as AyaArray, HashMap, IterableMap as _, Map, MapData, MapError};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, TryFromBytes};

use super::sys;

/// A map cannot be read or written.
#[derive(Debug, Error)]
pub enum MapsError {
    /// It has no room for another entry.
    #[error("the map {map} is full: it has room for {entries}")]
    Full {
        /// Its name.
        map: &'static str,
        /// How many it holds.
        entries: u32,
    },
    /// An interface shares its few cells of `links` with others, which occupy all of them.
    #[error(
        "the map links has no free cell for interface index {ifindex}: recreate the interface, so \
         that it gets another index"
    )]
    NoCell {
        /// The interface's index.
        ifindex: u32,
    },
    /// It contains something that no agent of this layout version wrote.
    #[error("an entry of the map {map} is invalid: {entry:02x?}")]
    Meaningless {
        /// Its name.
        map: &'static str,
        /// The key or value.
        entry: Vec<u8>,
    },
    /// The kernel refuses.
    #[error("the map {map} cannot be {action}")]
    Kernel {
        /// Its name.
        map: &'static str,
        /// The attempted action.
        action: &'static str,
        /// The kernel's error.
        #[source]
        source: MapError,
    },
}

impl MapsError {
    /// Turns the kernel's error into one of this map and this action.
    pub(super) fn kernel(map: &'static str, action: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Kernel {
            map,
            action,
            source,
        }
    }
}

/// Opens the map of this name in the directory.
pub(super) fn open<T>(directory: &Path, name: &'static str) -> Result<T, MapsError>
where
    T: TryFrom<Map, Error = MapError>,
{
    MapData::from_pin(directory.join(name))
        .and_then(Map::from_map_data)
        .and_then(T::try_from)
        .map_err(MapsError::kernel(name, "opened"))
}

/// An array of values that are `SIZE` bytes long.
pub(super) struct Array<V, const SIZE: usize> {
    name: &'static str,
    map: AyaArray<MapData, [u8; SIZE]>,
    values: PhantomData<V>,
}

impl<V, const SIZE: usize> Array<V, SIZE>
where
    V: FromBytes + IntoBytes + Immutable,
{
    pub(super) fn open(directory: &Path, name: &'static str) -> Result<Self, MapsError> {
        const { assert!(size_of::<V>() == SIZE) };
        Ok(Self {
            name,
            map: open(directory, name)?,
            values: PhantomData,
        })
    }

    pub(super) fn len(&self) -> u32 {
        self.map.len()
    }

    pub(super) fn get(&self, index: u32) -> Result<V, MapsError> {
        let bytes = self.map.get(&index, 0);
        bytes
            .map(|bytes| value(&bytes))
            .map_err(MapsError::kernel(self.name, "read"))
    }

    pub(super) fn set(&mut self, index: u32, value: &V) -> Result<(), MapsError> {
        self.map
            .set(index, bytes::<SIZE>(value), 0)
            .map_err(MapsError::kernel(self.name, "written"))
    }

    /// The first `count` values, in a single system call.
    pub(super) fn first(&self, count: u32) -> Result<Vec<V>, MapsError> {
        let count = count.min(self.len());
        let values = sys::read_array(self.map.map().fd().as_fd(), SIZE, count)
            .map_err(MapError::IoError)
            .map_err(MapsError::kernel(self.name, "read"))?;
        Ok(values.chunks_exact(SIZE).map(value).collect())
    }
}

/// A hash map whose keys and values are `KEY` and `VALUE` bytes long.
pub(super) struct Table<K, V, const KEY: usize, const VALUE: usize> {
    name: &'static str,
    map: HashMap<MapData, [u8; KEY], [u8; VALUE]>,
    entries: PhantomData<(K, V)>,
}

impl<K, V, const KEY: usize, const VALUE: usize> Table<K, V, KEY, VALUE>
where
    K: TryFromBytes + IntoBytes + Immutable,
    V: TryFromBytes + IntoBytes + Immutable,
{
    pub(super) fn open(directory: &Path, name: &'static str) -> Result<Self, MapsError> {
        const { assert!(size_of::<K>() == KEY && size_of::<V>() == VALUE) };
        Ok(Self {
            name,
            map: open(directory, name)?,
            entries: PhantomData,
        })
    }

    pub(super) fn keys(&self) -> Result<Vec<K>, MapsError> {
        let keys = self.map.keys();
        keys.map(|key| self.meaning(&key.map_err(MapsError::kernel(self.name, "read"))?))
            .collect()
    }

    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, MapsError> {
        let entries = self.map.iter();
        entries
            .map(|entry| {
                let (key, value) = entry.map_err(MapsError::kernel(self.name, "read"))?;
                Ok((self.meaning(&key)?, self.meaning(&value)?))
            })
            .collect()
    }

    pub(super) fn put(&mut self, key: &K, value: &V) -> Result<(), MapsError> {
        match self.map.insert(bytes::<KEY>(key), bytes::<VALUE>(value), 0) {
            Err(error) if is(&error, libc::E2BIG) => Err(MapsError::Full {
                map: self.name,
                entries: self.map.map().info().map_or(0, |info| info.max_entries()),
            }),
            done => done.map_err(MapsError::kernel(self.name, "written")),
        }
    }

    /// Removes the entry, if there is one.
    pub(super) fn remove(&mut self, key: &K) -> Result<(), MapsError> {
        match self.map.remove(&bytes::<KEY>(key)) {
            Err(error) if is(&error, libc::ENOENT) => Ok(()),
            done => done.map_err(MapsError::kernel(self.name, "written")),
        }
    }

    fn meaning<T: TryFromBytes>(&self, bytes: &[u8]) -> Result<T, MapsError> {
        T::try_read_from_bytes(bytes).map_err(|_| MapsError::Meaningless {
            map: self.name,
            entry: bytes.to_vec(),
        })
    }
}

fn is(error: &MapError, errno: i32) -> bool {
    matches!(error, MapError::SyscallError(it) if it.io_error.raw_os_error() == Some(errno))
}

fn bytes<const SIZE: usize>(value: &(impl IntoBytes + Immutable)) -> [u8; SIZE] {
    <[u8; SIZE]>::read_from_bytes(value.as_bytes()).expect("`open` has compared the sizes")
}

fn value<V: FromBytes>(bytes: &[u8]) -> V {
    V::read_from_bytes(bytes).expect("`open` has compared the sizes")
}
