//! A map's memory, shared with the program.

use std::{io, marker::PhantomData, num::NonZero, os::fd::AsFd as _, path::Path, ptr::NonNull};

use aya::maps::{MapData, MapError};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::typed::MapsError;

/// A value that others may write at any time.
///
/// # Safety
///
/// Every byte of it belongs to an atomic integer.
pub(super) unsafe trait Words: Send + Sync {}

/// The single value of an array with `BPF_F_MMAPABLE`.
pub(super) struct Mapped<T> {
    words: NonNull<T>,
    owned: PhantomData<T>,
}

// SAFETY: the memory belongs to the process, not to a thread, and what is in it may be shared.
unsafe impl<T: Words> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Words> Sync for Mapped<T> {}

impl<T: Words> Mapped<T> {
    /// Maps the value of the pinned map of this name into memory.
    pub(super) fn open(directory: &Path, name: &'static str) -> Result<Self, MapsError> {
        let failed = |source| MapsError::kernel(name, "mapped into memory")(source);
        let map = MapData::from_pin(directory.join(name)).map_err(failed)?;
        let info = map.info().map_err(failed)?;
        if info.value_size() as usize != size_of::<T>() {
            return Err(failed(MapError::InvalidValueSize {
                size: size_of::<T>(),
                expected: info.value_size() as usize,
            }));
        }
        let length = NonZero::new(size_of::<T>()).expect("a value has bytes");
        let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new memory, at a place of the kernel's choice.
        let words = unsafe {
            mmap(
                None,
                length,
                flags,
                MapFlags::MAP_SHARED,
                map.fd().as_fd(),
                0,
            )
        }
        .map_err(|errno| failed(MapError::IoError(io::Error::from(errno))))?;
        Ok(Self {
            words: words.cast(),
            owned: PhantomData,
        })
    }

    pub(super) fn get(&self) -> &T {
        // SAFETY: mapped until this is dropped, at the start of a page, as long as the map's value,
        // which is all integers that may be written meanwhile.
        unsafe { self.words.as_ref() }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with this length, and borrowed by nobody any more.
        let unmapped = unsafe { munmap(self.words.cast(), size_of::<T>()) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}
